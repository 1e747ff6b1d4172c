"""A loss that is infinite or no number stops training, and names the rows of its step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import ZooError


class NonFiniteLossError(ZooError):
    """The loss of a step was infinite or no number.

    Attributes:
        rows: of the step, positions in the table.
    """

    def __init__(self, message: str, rows: Sequence[int]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def refuse_non_finite(losses: Tensor, steps: Sequence[Sequence[Tensor]], epoch: int) -> None:
    """Look at the losses of the steps so far.

    Raises:
        NonFiniteLossError: one of them is not finite; names the first.
    """
    finite = torch.isfinite(losses)
    if bool(finite.all()):
        return
    number = int(torch.nonzero(~finite)[0])
    raise NonFiniteLossError(
        f"the loss of step {number + 1} of epoch {epoch + 1} is {float(losses[number])}; "
        "lower the learning rate (--lr, --backbone-lr), or say --clip-norm 1",
        torch.cat(list(steps[number])).tolist(),
    )
