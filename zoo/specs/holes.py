"""What is missing. Found once, when the table is read, and carried as masks; imputers never guess it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

HoleKind = Literal["files", "pixels", "channels", "covariates", "labels"]
HOLE_KINDS: tuple[str, ...] = get_args(HoleKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holes:
    """The hole map of N rows; True means missing.

    Attributes:
        files: reasons by row, for images that cannot be read: absent, empty, truncated, not an image.
        pixels: masks (C, H, W) by row, for images with missing pixels; may be read from disk one by one.
        channels: (N, C), or None where nobody looked; of a channel that is missing no pixel is counted above.
        covariates: (N, D), one column for each covariate, in the order of the roles.
        labels: (N, T), one column for each target, in the order of the roles.
    """

    files: Mapping[int, str] = field(default_factory=dict)
    pixels: Mapping[int, NDArray[bool_]] = field(default_factory=dict)
    channels: NDArray[bool_] | None = None
    covariates: NDArray[bool_] | None = None
    labels: NDArray[bool_] | None = None

    def count(self, kind: str) -> int:
        """Number of rows with a hole of this kind, one of `HOLE_KINDS`."""
        held = getattr(self, kind)
        if held is None:
            return 0
        return len(held) if isinstance(held, Mapping) else int(held.any(axis=1).sum())
