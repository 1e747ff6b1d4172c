"""Rows of a later boundary made from rows of an earlier one, by the layers between them.

A schedule that thaws stage after stage moves its boundary down. What its later intervals keep is then part of the way
to what its first one needs: computed first, it is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.features.prefix import Prefix

TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 5e-3}
"""Relative difference up to which two ways to the same rows differ by rounding alone, by precision."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A prefix that ends earlier, whose rows are kept.

    Attributes:
        prefix: gives them.
        digest: of its weights.
    """

    prefix: Prefix
    digest: str


def leads_on(earlier: Prefix, later: Prefix, pixels: Tensor) -> bool:
    """Whether rows of `later` may be made from those of `earlier`: tried on a few images (B, C, H, W), uint8."""
    if earlier.cut is None or earlier.recipe != later.recipe or earlier.recipe.compiled:
        return False
    try:
        found, wanted = later.beyond(earlier, earlier(pixels)), later(pixels)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a stranger's network may do anything when its modules do not compute; then it goes all the way
        return False
    return float((found.float() - wanted.float()).norm()) <= TOLERANCE[later.recipe.precision] * float(
        wanted.float().norm()
    )
