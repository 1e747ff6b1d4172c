"""A small masked autoencoder that paints in what is missing, trained on the training images alone.

After He et al. 2022, "Masked autoencoders are scalable vision learners": an encoder sees the patches that are left, a
decoder of one block paints the others. Other than there, a patch may be known in part, so that each comes with its
mask, and pixels of visible patches are hidden and painted too. Images are shrunk; what is painted is enlarged again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.specs import ImageRows, TrainView
from zoo_imputation._networks import torch_generator
from zoo_imputation._planes import Arrays, Channels, as_dtype, learn_channels, load_channels, training_images

_BATCH = 32
_RATE = 3e-3
_HIDDEN_PIXELS = 0.25
"""Share of the pixels of visible patches that is hidden too."""
_LARGEST = 2**26
"""Numbers of shrunk images that are held for training, 256 MiB; of more images a sample is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How it is built and trained; see `zoo_imputation._parameters.Mae`."""

    steps: int
    side: int
    patch: int
    width: int
    depth: int
    masked: float


class Painter(nn.Module):
    """From patches that are known in part to all patches.

    Args:
        channels: of the images.
        side, patch: of a shrunk image and of a patch, in pixels.
        width, depth: of the encoder.
    """

    places: Tensor

    def __init__(self, channels: int, side: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        self.patch, self.grid = patch, side // patch
        numbers = channels * patch * patch
        self.embed = nn.Linear(2 * numbers, width)
        self.encoder = nn.ModuleList(_block(width) for _ in range(depth))
        self.unknown = nn.Parameter(torch.zeros(width))
        self.decoder = _block(width)
        self.paint = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, numbers))
        self.register_buffer("places", _places(self.grid, width), persistent=False)

    def cut(self, images: Tensor) -> Tensor:
        """Images (B, C, side, side) as patches (B, tokens, numbers)."""
        return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    def join(self, patches: Tensor) -> Tensor:
        """The inverse of `cut`."""
        side = self.grid * self.patch
        return F.fold(patches.transpose(1, 2), (side, side), self.patch, stride=self.patch)

    def forward(self, values: Tensor, known: Tensor, visible: Tensor) -> Tensor:
        """All patches (B, tokens, numbers).

        Args:
            values: patches (B, tokens, numbers), standardised.
            known: the same shape, 1 where a number is known.
            visible: int64 (B, seen), the patches that the encoder sees.
        """
        tokens = self.embed(torch.cat([values * known, known], dim=2)) + self.places
        wide = visible[:, :, None].expand(-1, -1, tokens.shape[2])
        seen = tokens.gather(1, wide)
        for block in self.encoder:
            seen = block(seen)
        whole = (self.unknown + self.places).expand(len(values), -1, -1).scatter(1, wide, seen)
        painted: Tensor = self.paint(self.decoder(whole))
        return painted


def _block(width: int) -> nn.TransformerEncoderLayer:
    heads = max(1, width // 32) if width % 32 == 0 else 1
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def _places(grid: int, width: int) -> Tensor:
    """Sines and cosines of each patch's row and column, (grid * grid, width): half a wave to one in two patches."""
    waves = torch.logspace(math.log10(0.5), math.log10(max(1.0, grid / 2)), width // 4)
    angles = 2 * math.pi / grid * torch.arange(grid)[:, None] * waves
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([one.repeat_interleave(grid, dim=0), one.repeat(grid, 1)], dim=1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedAutoencoder:
    """A fitted painter.

    Attributes:
        channels: that it was fitted on.
        stds: float64 (C,), of the known pixels of the shrunk training images.
        training: how it was built.
        painter: in eval mode.
    """

    channels: Channels
    stds: NDArray[np.float64]
    training: Training
    painter: Painter

    @torch.no_grad()
    def transform(self, images: ImageRows) -> ImageRows:
        """The same images with every hole painted; what was observed stays bit for bit.

        Raises:
            ValueError: other channels than those it was fitted on.
        """
        self.channels.check(images)
        values = images.values.copy()
        for row in range(len(images)):  # one by one: an image is painted alike whatever is beside it
            holes = images.missing[row]
            if holes.any():
                values[row][holes] = as_dtype(self._painted(images.values[row], ~holes), values.dtype)[holes]
        return dataclasses.replace(images, values=values)

    def _painted(self, values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """A whole image (C, H, W) in raw units."""
        means, stds = (each[:, None, None] for each in (self.channels.means, self.stds))
        if not known.any():
            return np.broadcast_to(means, values.shape)
        small, share = _shrunk(values[None], known[None], self.channels.means, self.stds, self.training.side)
        patches, there = self.painter.cut(small), self.painter.cut((share > 0).float())
        visible = there.any(dim=2)[0].nonzero().view(1, -1)
        painted = self.painter.join(self.painter(patches, there, visible))
        size = values.shape[1:]
        whole = F.interpolate(painted, size=size, mode="bilinear", align_corners=False)[0].double().numpy()
        return np.asarray(whole * stds + means)

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_masked_autoencoder` takes back."""
        arrays, values = self.channels.save()
        weights = {f"painter.{name}": tensor.numpy() for name, tensor in self.painter.state_dict().items()}
        return {**arrays, **weights, "stds": self.stds}, {**values, "training": dataclasses.asdict(self.training)}


def load_masked_autoencoder(arrays: Arrays, values: Mapping[str, Any]) -> MaskedAutoencoder:
    """The inverse of `MaskedAutoencoder.save`."""
    channels, training = load_channels(arrays, values), Training(**values["training"])
    painter = _painter(len(channels.names), training, torch.Generator())
    start = "painter."
    state = {name[len(start) :]: torch.from_numpy(np.array(own)) for name, own in arrays.items() if start in name}
    painter.load_state_dict(state)
    stds = arrays["stds"].astype(np.float64, copy=False)
    return MaskedAutoencoder(channels=channels, stds=stds, training=training, painter=painter.eval())


def fit_masked_autoencoder(view: TrainView, *, training: Training, generator: np.random.Generator) -> MaskedAutoencoder:
    """Train on the training images: hide some of what is known, and paint it.

    Raises:
        ValueError: there are no images, or no training row knows a pixel of a channel.
    """
    channels, random = learn_channels(view), torch_generator(generator)
    height, width = training_images(view).size
    # Small images are not enlarged, so that each patch says something.
    least = max(training.patch, min(height, width) // training.patch * training.patch)
    training = dataclasses.replace(training, side=min(training.side, least))
    values, shares = _held(view, channels, training, generator)
    known = shares > 0
    stds = (values.square() * known).sum(dim=(0, 2, 3)) / known.sum(dim=(0, 2, 3)).clamp_min(1)
    scale = stds.sqrt().clamp_min(1e-9 * float(stds.max().sqrt()) + 1e-12)
    painter = _painter(len(channels.names), training, random)
    _train(painter, values / scale.view(1, -1, 1, 1), known, training, random)
    return MaskedAutoencoder(
        channels=channels, stds=scale.double().numpy(), training=training, painter=painter.eval().requires_grad_(False)
    )


def _painter(channels: int, training: Training, random: torch.Generator) -> Painter:
    # torch's layers draw their weights from the process's one generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        return Painter(channels, training.side, training.patch, training.width, training.depth)


def _held(
    view: TrainView, channels: Channels, training: Training, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Shrunk training images less their means, and the share of each pixel that is known, (N, C, side, side)."""
    images = training_images(view)
    most = max(_BATCH, _LARGEST // (len(channels.names) * training.side**2))
    chosen = np.zeros(len(images), dtype=bool)
    chosen[generator.permutation(len(images))[:most]] = True
    ones = np.ones(len(channels.names))
    parts = [
        _shrunk(part.values[own], ~part.missing[own], channels.means, ones, training.side)
        for part, own in _chosen(images.batches(), chosen)
    ]
    values, shares = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(shares)


def _chosen(batches: Iterator[ImageRows], chosen: NDArray[np.bool_]) -> Iterator[tuple[ImageRows, NDArray[np.bool_]]]:
    at = 0
    for part in batches:
        yield part, chosen[at : at + len(part)]
        at += len(part)


def _shrunk(
    values: NDArray[Any], known: NDArray[np.bool_], means: NDArray[np.float64], stds: NDArray[np.float64], side: int
) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) standardised and averaged over what is known; and the share that is, (B, C, side, side)."""
    scaled = (values.astype(np.float64) - means[None, :, None, None]) / stds[None, :, None, None]
    given = torch.from_numpy(np.where(known, scaled, 0.0).astype(np.float32))
    share = F.interpolate(torch.from_numpy(known).float(), size=(side, side), mode="area")
    summed = F.interpolate(given, size=(side, side), mode="area")
    return summed / share.clamp_min(1e-6) * (share > 0), share


def _train(painter: Painter, values: Tensor, known: Tensor, training: Training, random: torch.Generator) -> None:
    tokens = painter.grid**2
    seen = max(1, round(tokens * (1 - training.masked)))
    optimiser = torch.optim.AdamW(painter.parameters(), lr=_RATE, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=training.steps + 1)
    for _ in range(training.steps):
        rows = torch.randint(len(values), (min(_BATCH, len(values)),), generator=random)
        patches, there = painter.cut(values[rows]), painter.cut(known[rows].float())
        visible = torch.rand(len(rows), tokens, generator=random).argsort(dim=1)[:, :seen]
        shown = there * (torch.rand(there.shape, generator=random) >= _HIDDEN_PIXELS)
        painted = painter(patches, shown, visible)
        hidden = there.clone()
        wide = visible[:, :, None].expand(-1, -1, there.shape[2])
        hidden.scatter_(1, wide, (there - shown).gather(1, wide))
        loss = ((painted - patches).square() * hidden).sum() / hidden.sum().clamp_min(1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        optimiser.step()
        schedule.step()
