"""What is missing in the images of a run: refused, counted and told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.data.detect import ABSENT, ALPHA, CONSTANT, STATED, TRANSPARENT, UNIFORM, ZERO
from zoo.data.hole_store import FLAGS, partial_holes
from zoo.data.images import Images
from zoo.data.split_words import NAMES
from zoo.data.splits import Splits
from zoo.errors import DataError
from zoo.run.filling import Filling
from zoo.specs import Call


def hole_columns(images: Images, column: str) -> dict[str, NDArray[np.bool_]]:
    """By name, bool (N,): rows with missing pixels, and rows that lack each channel; `column` is that of the images."""
    found = {f"{column} (pixels)": np.asarray(partial_holes(images.facts).any(axis=1))}
    for place, name in enumerate(images.spec.names):
        found[f"{column} (channel {name})"] = images.missing_channels[:, place]
    return found


def refuse_needless(images: Images, calls: Mapping[str, Call]) -> None:
    """Refuse imputers of holes that images of this kind can never have.

    Raises:
        OptionError: says why there can be none.
    """
    spec = images.spec
    may = spec.dtype == "float32" or spec.nodata is not None or (images.facts[..., FLAGS] & (ALPHA | STATED)).any()
    if (call := calls.get("pixels")) and not may:
        call.fail(
            f"{call.name} fills pixels, and none of these images can lack one: {spec.dtype} holds no NaN, no file "
            "has an alpha channel, and no value stands for missing; name one with --nodata, or leave this out"
        )
    if (call := calls.get("channels")) and spec.channels == 1:
        call.fail(f"{call.name} fills channels, and these images have one alone: without it there is no image")


def refuse_unknown_channels(images: Images, splits: Splits) -> None:
    """Refuse a channel that no training row has: nothing can be learned of it.

    Raises:
        DataError: names it.
    """
    lost = ((images.facts[splits.train][..., FLAGS] & ABSENT) != 0).all(axis=0)
    names = [name for name, own in zip(images.spec.names, lost, strict=True) if own]
    if names and len(splits.train):
        raise DataError(
            f"channel {', '.join(names)} is missing in all {len(splits.train)} training rows, so that nothing can be "
            "learned of it; leave it out"
        )


def told(images: Images, splits: Splits, filling: Filling) -> tuple[str, ...]:
    """Sentences about holes that nobody fills because a value stands there, and about those that training lacks."""
    flags = images.facts[..., FLAGS]
    said = []
    partial = partial_holes(images.facts)
    clear = ((flags & TRANSPARENT) != 0) & partial
    if clear.any() and "pixels" not in filling.names:
        said.append(
            f"{int(clear.any(axis=1).sum())} images have transparent pixels; the colour below is taken "
            "(--impute pixels=NAME fills them)"
        )
    constant = (flags & CONSTANT) != 0
    if constant.any() and "channels" not in filling.names:
        said.append(
            f"{_named(images, constant)} one value all over, unlike the other channels; it is taken as it is "
            "(--impute channels=NAME fills it)"
        )
    zero = (flags & ZERO) != 0
    if zero.any():
        said.append(f"{_named(images, zero)} 0 all over; told, and not taken as missing (--nodata 0 would)")
    uniform = (((flags & UNIFORM) != 0) & ~zero).any(axis=1)
    if uniform.any():
        said.append(f"{int(uniform.sum())} images have one colour all over")
    for kind, name in filling.names.items():
        holed = np.asarray((images.missing_channels if kind == "channels" else partial).any(axis=1))
        said += _about_splits(kind, name, holed, splits)
    return tuple(said)


def _named(images: Images, marked: NDArray[np.bool_]) -> str:
    counts = marked.sum(axis=0)
    names = ", ".join(f"{name} ({count})" for name, count in zip(images.spec.names, counts, strict=True) if count)
    return f"{int(marked.any(axis=1).sum())} images have a channel, {names}, that is"


def _about_splits(kind: str, name: str, holed: NDArray[np.bool_], splits: Splits) -> list[str]:
    counts = {part: int(holed[getattr(splits, part)].sum()) for part in NAMES}
    if not any(counts.values()):
        return [f"no image here lacks {kind}; {name} was fitted, and acts on later images"]
    if counts["train"]:
        return []
    listed = " and ".join(f"{count} {part}" for part, count in counts.items() if count)
    return [
        f"{kind} are missing in {listed} rows and in no training row: the model never learned from filled images "
        '(--augment "erase" shows it holes)'
    ]
