"""What the loop feeds on where it is not there beforehand: images on their way to the device, or through a prefix."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data.augment import Augmenter
from zoo.data.images import Images
from zoo.features.prefix import Prefix, normalise
from zoo.training.inputs import Staged, Tensors, views_of


class _Decoded(Staged):
    """Decoded images on their way to the device, augmented there in training.

    Args:
        images: decoded.
        device: where training is.
        augment: makes views; without it training sees images as they are.
        views: how many views each row goes round in; by default every epoch is a view of its own.

    Raises:
        ValueError: fewer views than one.
    """

    def __init__(
        self,
        images: Images,
        device: torch.device,
        augment: Augmenter | None = None,
        views: int | None = None,
    ) -> None:
        if views is not None and views < 1:
            raise ValueError(f"views must be at least 1, not {views}")
        self._images, self._device, self._augment, self._views = images, device, augment, views

    @property
    def device(self) -> torch.device:
        """Where training is."""
        return self._device

    def gather(self, rows: Tensor, epoch: int | None) -> Tensors:
        """Decoded images, uint8 (B, C, H, W), page-locked where they go to a GPU."""
        del epoch  # the same files in every epoch
        pixels = self._images.pixels(rows)
        return (pixels.pin_memory() if self._device.type == "cuda" else pixels,)

    def _shown(self, gathered: Tensors, rows: Tensor, epoch: int | None) -> Tensor:
        """Images as this epoch shows them, uint8 (B, C, H, W) on the device."""
        pixels = gathered[0].to(self._device, non_blocking=True)
        if self._augment is None or epoch is None:
            return pixels
        own = rows.cpu().numpy()
        view = views_of(rows, epoch, self._views, self._augment.seed)
        return self._augment(pixels, self._images.digests[own], view, own)


class LiveFeatures(_Decoded):
    """Features computed again each time a row is seen: what training without the cache does.

    With as many `views` as `CachedFeatures` has and the same seed, training sees the same features.
    """

    def __init__(
        self,
        prefix: Prefix,
        images: Images,
        *,
        augment: Augmenter | None = None,
        views: int | None = None,
    ) -> None:
        super().__init__(images, prefix.device, augment, views)
        self._prefix = prefix

    def finish(self, gathered: Tensors, rows: Tensor, epoch: int | None) -> Tensors:
        """Rows (B, *shape) of the prefix, float32."""
        # Cloned, because what inference mode makes cannot be saved for a backward pass.
        return (self._prefix(self._shown(gathered, rows, epoch)).float().clone(),)


class Pixels(_Decoded):
    """Normalised images, for a backbone of which a part trains."""

    def __init__(
        self,
        images: Images,
        device: torch.device,
        *,
        channels_last: bool,
        augment: Augmenter | None = None,
        views: int | None = None,
    ) -> None:
        super().__init__(images, device, augment, views)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def finish(self, gathered: Tensors, rows: Tensor, epoch: int | None) -> Tensors:
        """Images (B, C, H, W), float32."""
        shown = self._shown(gathered, rows, epoch)
        return (normalise(shown, self._images.spec).to(memory_format=self._layout),)
