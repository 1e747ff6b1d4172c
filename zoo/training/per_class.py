"""Augmentation by class: rows of some classes are shown in views of their own making."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.augment import Augmenter, parse_augmentation
from zoo.data.images import Images
from zoo.specs import InputSpec
from zoo.training.inputs import views_of


class ClassViews:
    """Shows rows of some classes through an augmentation of their own, drawn anew in each epoch.

    Args:
        presets: by class index, the name of an augmentation, as `light(rotate=30)`.
        labels: int64, the class of every row of the table, -1 where unknown.
        seed: of the draws.
        spec: of the images.

    Raises:
        OptionError: no such augmentation.
    """

    def __init__(self, presets: Mapping[int, str], labels: Tensor, seed: int, spec: InputSpec | None = None) -> None:
        parsed = {index: parse_augmentation(text) for index, text in presets.items()}
        self._own = {index: Augmenter(each, seed, spec=spec) if each else None for index, each in parsed.items()}
        self._labels, self._seed = labels, seed

    def split(self, rows: Tensor) -> tuple[Tensor, list[tuple[Tensor, Augmenter | None]]]:
        """Places (n,) in `rows` that have no augmentation of their own, and those that have, with it."""
        labels = self._labels[rows.cpu()]
        own = [(torch.nonzero(labels == index)[:, 0], each) for index, each in self._own.items()]
        taken = torch.zeros(len(labels), dtype=torch.bool)
        for places, _ in own:
            taken[places] = True
        return torch.nonzero(~taken)[:, 0], [(places, each) for places, each in own if len(places)]

    def show(
        self,
        pixels: Tensor,
        rows: Tensor,
        epoch: int,
        images: Images,
        common: Augmenter | None,
        views: int | None,
    ) -> Tensor:
        """Images uint8 (B, C, H, W) of `rows` as `epoch` shows them; classes without a preset through `common`."""
        rest, own = self.split(rows)
        found = pixels.clone()
        for places, augmenter in [(rest, common), *own]:
            if augmenter is None or not len(places):
                continue
            keys: NDArray[np.uint8] = images.digests[rows.cpu()[places].numpy()]
            numbers = views_of(rows.cpu()[places], epoch, views if augmenter is common else None, self._seed)
            found[places.to(found.device)] = augmenter(pixels[places.to(pixels.device)], keys, numbers)
        return found
