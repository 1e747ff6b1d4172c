"""Augmentation in batches, where the images are; what an image becomes depends on (seed, view, content) alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.erasing import Erase, Noise
from zoo.data.light import Light
from zoo.data.presets import AutoAugment, RandAugment, TrivialAugment
from zoo.registry.near import suggest
from zoo.specs import InputSpec, NoParameters, bind, parse_options

AUGMENT_VERSION = 1
"""Raised by one whenever the same (seed, view, content) would give other pixels; part of the key of cached features."""


class Step(Protocol):
    """One preset with its parameters.

    Attributes:
        name: in the grammar.
    """

    name: ClassVar[str]

    def __call__(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """A view of each image, uint8 (B, C, H, W), by content keys uint8 (B, 16) and views int64 (B,).

        Images of raw units come as float32 in levels of which about 0 to 255 occur, and stay float32.
        """
        ...

    def move(self, masks: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """Masks, bool (B, C, H, W), where the same view has the pixels that they mark."""
        ...

    def describe(self) -> dict[str, object]:
        """JSON values that say all that it does."""
        ...


Steps = tuple[Step, ...]
"""What happens to an image, one after the other; nothing where it is empty."""

_KINDS: tuple[type[Step], ...] = (Light, RandAugment, AutoAugment, TrivialAugment, Erase, Noise)
PRESETS = {kind.name: kind for kind in _KINDS}


def parse_augmentation(text: str) -> Steps:
    """Parse `none`, `light(flip=false)`, `light+randaugment(m=7)`, …: presets in the order in which they act.

    Raises:
        OptionError: another name, a preset that stands twice, `none` beside another, or parameters that are refused.
    """
    calls, steps = parse_options(text), {}
    for call in calls:
        if call.name == "none":
            bind(call, NoParameters)
            if len(calls) > 1:
                call.fail("none is no augmentation at all; leave it out beside others")
            return ()
        if call.name not in PRESETS:
            names = ["none", *PRESETS]
            listed = f"{', '.join(names[:-1])} and {names[-1]}"
            call.fail(f"unknown augmentation {call.name!r}; there are {listed}{suggest(call.name, names)}")
        if call.name in steps:
            call.fail(f"{call.name} stands twice; each augmentation acts once")
        steps[call.name] = bind(call, PRESETS[call.name])
    return tuple(steps.values())


@dataclass(frozen=True, slots=True, eq=False)
class Augmenter:
    """Makes views of images. `Augmenter(parse_augmentation("light"), seed=0)(images, keys, view=3)`.

    Rows may have steps of their own, as a strategy wants for rare classes: `others` holds them, and `chosen` says for
    each row of the table whose they are.

    Attributes:
        steps: what happens.
        seed: other seeds, other views; any integer.
        others: what happens to rows that `chosen` names, instead of `steps`.
        chosen: integers (rows of the table,): 0 for `steps`, k for `others[k - 1]`; None where all rows have `steps`.
        spec: of the images; needed where they are float32. What counts as 0 and 255 there are the mean less and plus
            two deviations.

    Raises:
        ValueError: `others` without `chosen`, or numbers in it that stand for nothing.
    """

    steps: Steps
    seed: int
    others: tuple[Steps, ...] = ()
    chosen: NDArray[np.int64] | None = None
    spec: InputSpec | None = None

    def __post_init__(self) -> None:
        if self.chosen is None:
            if self.others:
                raise ValueError("chosen must say which rows have which of the others")
            return
        wrong = (self.chosen < 0) | (self.chosen > len(self.others))
        if wrong.any():
            raise ValueError(f"chosen numbers the others from 1 to {len(self.others)}, not {self.chosen[wrong][0]}")

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        keys: NDArray[np.uint8],
        view: int | NDArray[np.int64],
        rows: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """A view of each image.

        Args:
            images: uint8, or float32 in raw units, (B, C, H, W), on any device.
            keys: uint8 (B, 16), what tells images apart: the digests of their files.
            view: the view's number, one for all or int64 (B,).
            rows: int64 (B,), rows of the table; needed where there is `chosen`.

        Returns:
            The same dtype (B, C, H, W), on the device of `images`. The same image, view, seed and steps give the same
            pixels in whatever batch. On another device, `light` alone is within a level of them.

        Raises:
            ValueError: images or keys of another kind, a negative view, or no rows where they are needed.
            ZooError: a number of channels that a preset does not take.
        """
        floats = images.dtype == torch.float32 and self.spec is not None
        if not (floats or images.dtype == torch.uint8) or images.ndim != 4 or len(images) != len(keys):
            raise ValueError(
                f"images must be uint8 (B, C, H, W) with B keys, not {images.dtype} {tuple(images.shape)} "
                f"with {len(keys)}"
            )
        views = np.broadcast_to(np.asarray(view, dtype=np.int64), (len(keys),))
        if not floats:
            return self._by_row(images, keys, views, rows)
        low, scale = self._levels(images.device)
        return self._by_row((images - low) * scale, keys, views, rows) / scale + low

    @torch.no_grad()
    def masks(
        self,
        masks: Tensor,
        keys: NDArray[np.uint8],
        view: int | NDArray[np.int64],
        rows: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """Masks, bool (B, C, H, W), moved as the same call moves the images: where their pixels lie in this view."""
        views = np.broadcast_to(np.asarray(view, dtype=np.int64), (len(keys),))
        picked = np.zeros(len(keys), dtype=np.int64) if self.chosen is None else self._picked(rows)
        moved = masks.clone()
        for number in np.unique(picked):
            own = np.flatnonzero(picked == number)
            at = torch.from_numpy(own).to(masks.device)
            part = masks[at]
            for step in (self.steps, *self.others)[number]:
                part = step.move(part, self.seed, keys[own], views[own])
            moved[at] = part
        return moved

    def _levels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The raw value of level 0 and levels a unit, (C, 1, 1)."""
        if self.spec is None:
            raise AssertionError("asked for only where there is a spec")
        mean, std = (torch.tensor(each, device=device).view(-1, 1, 1) for each in (self.spec.zero, self.spec.spread))
        if self.spec.full == 255.0:
            return torch.zeros_like(mean), torch.ones_like(std)
        return mean - 2 * std, 255.0 / (4 * std)

    def _by_row(
        self, images: Tensor, keys: NDArray[np.uint8], views: NDArray[np.int64], rows: NDArray[np.int64] | None
    ) -> Tensor:
        if self.chosen is None:
            return self._through(self.steps, images, keys, views)
        picked, shown = self._picked(rows), images.clone()
        for number in np.unique(picked):
            own = np.flatnonzero(picked == number)
            at = torch.from_numpy(own).to(images.device)
            shown[at] = self._through((self.steps, *self.others)[number], images[at], keys[own], views[own])
        return shown

    def _through(self, steps: Steps, images: Tensor, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        shown = images
        for step in steps if len(images) else ():
            shown = step(shown, self.seed, keys, views)
        return shown.clone() if shown is images else shown

    def _picked(self, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        if self.chosen is None:
            raise AssertionError("asked for only where there is a choice")
        if rows is None:
            raise ValueError("rows must be given where rows have steps of their own")
        return self.chosen[rows]

    def changes(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows of the table have any steps at all, bool (B,); the others are shown as they are."""
        if self.chosen is None:
            return np.full(len(rows), bool(self.steps))
        return np.array([bool(steps) for steps in (self.steps, *self.others)])[self._picked(rows)]

    def addresses(self, digests: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Under which a view of each row is kept beside `describe`: uint8 (B, 16), by the rows' digests, uint8 (B, 16).

        The digest itself for rows that have `steps`. For others it is mixed with what happens to them, so that an image
        whose class changes, or that stands twice with two classes, is never taken for what it was under the other.
        """
        if self.chosen is None:
            return digests
        text = [json.dumps([AUGMENT_VERSION, described(steps)], sort_keys=True) for steps in self.others]
        marks = [bytes(16), *(hashlib.blake2b(each.encode(), digest_size=16).digest() for each in text)]
        return digests ^ np.frombuffer(b"".join(marks), np.uint8).reshape(-1, 16)[self._picked(rows)]

    def describe(self, view: int) -> dict[str, object]:
        """JSON values that say all that this view's pixels depend on beside the decoded image and `addresses`."""
        return {"steps": described(self.steps), "version": AUGMENT_VERSION, "seed": self.seed, "view": view}


def by_class(
    steps: Steps,
    presets: Mapping[int, str],
    labels: NDArray[np.int64],
    seed: int,
    spec: InputSpec | None = None,
) -> Augmenter:
    """An augmenter whose steps are `steps`, or those that `presets` names for a row's class.

    Args:
        steps: of rows of other classes, and of those without a label.
        presets: by class index, the grammar's name of an augmentation.
        labels: int64 (rows of the table,), -1 where unknown.
        seed: of the draws.
        spec: of the images; see `Augmenter`.

    Raises:
        OptionError: no such augmentation.
    """
    chosen = np.zeros(len(labels), dtype=np.int64)
    parsed = {name: parse_augmentation(name) for name in presets.values()}
    others = [own for own in parsed.values() if own != steps]
    for index, name in presets.items():
        if parsed[name] != steps:
            chosen[labels == index] = 1 + others.index(parsed[name])
    return Augmenter(steps, seed, others=tuple(others), chosen=chosen, spec=spec)


def described(steps: Steps) -> list[dict[str, Any]]:
    """JSON values that say what the steps do, in order."""
    return [{"name": step.name, **step.describe()} for step in steps]
