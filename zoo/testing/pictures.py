"""Images with holes to try imputers on, split as a run splits them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from zoo.data.detect import Found, described
from zoo.data.hole_store import HoleStore, partial_holes
from zoo.data.images import Images
from zoo.data.splits import Splits, make_splits, training_view
from zoo.data.store import RowStore
from zoo.data.table import Table
from zoo.data.tasks import fix_tasks
from zoo.specs import FittedImageImputer, ImageRows, ImputerRecord, InputSpec, Roles, TrainView
from zoo.testing.parameters import default_setting

CHANNELS = ("red", "green", "nir")
TRAIN, HELD_OUT, SIDE = 10, 5, 16
SPECS = {
    "8 bits": InputSpec(size=(SIDE, SIDE), resize=SIDE, bands=CHANNELS, file_bands=CHANNELS),
    "raw units": InputSpec(
        size=(SIDE, SIDE),
        resize=SIDE,
        mean=(900.0, 1100.0, 0.25),
        std=(300.0, 300.0, 0.125),
        full=1.0,
        bands=CHANNELS,
        file_bands=CHANNELS,
        dtype="float32",
    ),
}
"""Images of 8 bits, and of floating-point numbers of several magnitudes with NaN at holes."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One set of images, split.

    Attributes:
        view: of the training rows, made by the splitter.
        train, held_out: their images with holes of the kind that is tried; of the first of each nothing is known.
        zero: float64 (C,), the raw value that is zero once it is normalised.
    """

    view: TrainView
    train: ImageRows
    held_out: ImageRows
    zero: NDArray[np.float64]


@contextmanager
def draw_pictures(kind: str, unit: str, held_out: int = 0, lost: str | None = None) -> Iterator[Pictures]:
    """Images whose training rows are always the same, and whose held-out rows differ with the number `held_out`.

    Args:
        kind: `pixels` or `channels`, the kind of their holes.
        unit: one of `SPECS`.
        held_out: of the held-out rows.
        lost: a channel of which nothing is known in training.
    """
    spec = SPECS[unit]
    values, missing = _drawn(kind, spec, held_out)
    if lost is not None:
        missing[:TRAIN, CHANNELS.index(lost)] = True
    with tempfile.TemporaryDirectory(prefix="zoo-check-") as folder:
        table, splits = _split()
        images = _stored(values, missing, spec, Path(folder))
        view = training_view(table, splits, fix_tasks(table, splits.train), None, images)
        given = [images.as_read(rows) for rows in (splits.train, splits.test)]
        train, tested = (_first_unknown(rows, kind) for rows in given)
        yield Pictures(view=view, train=train, held_out=tested, zero=np.array(spec.zero))


def _split() -> tuple[Table, Splits]:
    frame = pl.DataFrame(
        {
            "image": [f"{row}.png" for row in range(TRAIN + HELD_OUT)],
            "t": (["a", "b"] * (TRAIN + HELD_OUT))[: TRAIN + HELD_OUT],
            "split": ["train"] * TRAIN + ["test"] * HELD_OUT,
        }
    )
    table = Table(name="pictures", frame=frame, roles=Roles(targets=("t",), split="split"), root=Path("/nowhere"))
    return table, make_splits(table, np.ones(len(table), dtype=bool), val=0.0)


def _drawn(kind: str, spec: InputSpec, held_out: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Smooth images with a little noise, and holes in most of them."""
    parts = [_images(TRAIN, np.random.default_rng(1)), _images(HELD_OUT, np.random.default_rng(2 + held_out))]
    values = np.concatenate(parts)
    if held_out:
        values[TRAIN:] = 1 - 0.5 * values[TRAIN:]
    missing = np.concatenate([_holes(len(part), kind, np.random.default_rng(len(part))) for part in parts])
    if spec.dtype == "uint8":
        return np.rint(255 * values).astype(np.uint8), missing
    raw = (values * np.array([2000.0, 2000.0, 0.5])[None, :, None, None]).astype(np.float32)
    return np.where(missing, np.float32(np.nan), raw), missing


def _images(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """In [0, 1], (count, C, SIDE, SIDE): a slope of each image's own, the channels alike, and noise."""
    at = np.arange(SIDE) / SIDE
    slope = random.random((count, 1, 1, 1)) * at[:, None] + random.random((count, 1, 1, 1)) * at
    return (
        0.4 * slope
        + 0.1 * random.random((count, len(CHANNELS), 1, 1))
        + 0.05 * random.random((count, len(CHANNELS), SIDE, SIDE))
    )


def _holes(count: int, kind: str, random: np.random.Generator) -> NDArray[np.bool_]:
    holes = np.zeros((count, len(CHANNELS), SIDE, SIDE), dtype=bool)
    for row in range(1, count):  # the first one is whole
        if kind == "channels":
            holes[row, row % len(CHANNELS)] = row % 4 != 0
            continue
        top, left = random.integers(0, SIDE - 6, 2)
        holes[row, :, top : top + 6, left : left + 6] = True
        holes[row, row % len(CHANNELS)] |= random.random((SIDE, SIDE)) < 0.2
        holes[row, 0, 0, 0] = True  # at the border too
    return holes


def _first_unknown(rows: ImageRows, kind: str) -> ImageRows:
    """The same, of whose first image nothing is known; of one without any channel no imputer of channels is asked."""
    missing = rows.missing.copy()
    missing[0, 1:] = True
    if kind == "pixels":
        missing[0] = True
    return replace(rows, missing=missing)


def _stored(values: NDArray[Any], missing: NDArray[np.bool_], spec: InputSpec, folder: Path) -> Images:
    """As reading files would leave them."""
    found: list[Found] = [
        described(own, holes, np.zeros(len(own), dtype=np.int32)) for own, holes in zip(values, missing, strict=True)
    ]
    digests = np.zeros((len(values), 16), dtype=np.uint8)
    digests[:, 0] = np.arange(len(values))
    store = RowStore(folder, {"kind": "pixels"}, values.shape[1:], torch.from_numpy(values).dtype)
    holes = HoleStore(folder, {}, len(CHANNELS), spec.size)
    holes.append(digests, found)
    store.append(digests, torch.from_numpy(values))
    facts = holes.facts.gather(holes.facts.find(digests)).numpy()
    masked = partial_holes(facts).any(axis=1)
    return Images(
        digests=digests,
        bad={},
        store=store,
        ids=store.find(digests),
        spec=spec,
        seconds=0.0,
        decoded=len(values),
        hits=0,
        facts=facts,
        holes=holes,
        mask_ids=np.where(masked, holes.masks.find(digests), -1),
    )


class ImageTrial:
    """An imputer of pixels or channels under test."""

    def __init__(self, record: ImputerRecord) -> None:
        self.record = record

    def fit(self, pictures: Pictures, parameters: object = None, seed: int = 0) -> FittedImageImputer:
        """What it learns from the training rows of `pictures`."""
        setting = default_setting(self.record.parameters) if parameters is None else parameters
        return cast("FittedImageImputer", self.record.fit(pictures.view, setting, np.random.default_rng(seed)))

    def draw(self, unit: str, held_out: int = 0, lost: str | None = None) -> Any:
        """Images with holes of its kind; see `draw_pictures`."""
        return draw_pictures(self.record.fills, unit, held_out, lost)
