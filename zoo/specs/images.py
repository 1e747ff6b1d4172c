"""Images with holes, as imputers see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from numpy import bool_, float32, float64
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRows:
    """B images in raw units, resized and cropped, with their holes.

    Attributes:
        channels: names, in order.
        values: uint8 or float32 (B, C, H, W); what stands at a hole means nothing, and may be NaN.
        missing: bool (B, C, H, W), True at holes; all over a plane where that channel is missing.
        gain: float32 (B,), by what each image is multiplied once it is normalised, or None for 1. An imputer of
            channels gives one where the channels that are there stand for those that are not.
    """

    channels: tuple[str, ...]
    values: NDArray[Any]
    missing: NDArray[bool_]
    gain: NDArray[float32] | None = None

    def __len__(self) -> int:
        return len(self.values)


class TrainImages(Protocol):
    """Images of the training rows, read from disk a few at a time.

    Attributes:
        channels: names, in order.
        size: height and width in pixels.
        dtype: of the values, `uint8` or `float32`.
        zero: float64 (C,), the raw value of each channel that is zero once it is normalised.
    """

    @property
    def channels(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102

    @property
    def dtype(self) -> str: ...  # noqa: D102

    @property
    def zero(self) -> NDArray[float64]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def batches(self, rows: int = 64) -> Iterator[ImageRows]:
        """All of them in the order of the rows, at most `rows` at a time."""
        ...
