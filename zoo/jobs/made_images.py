"""Images that a strategy makes of the training rows: they train, stand in no split, and lie in the run folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from zoo.config import TrainConfig
from zoo.data.images import Images
from zoo.errors import ZooError
from zoo.features.choose import Decision
from zoo.jobs.data import Prepared
from zoo.jobs.progress import Reporter
from zoo.run.artifact import MADE
from zoo.run.files import write_whole
from zoo.specs import Target
from zoo.specs.plans import ImageMaker
from zoo.training.ledger import verify_shift
from zoo.training.seeds import generator_for
from zoo.training.strategy import Answer

PART = 256
"""Images that are read or enlarged at once."""

SHOWN = 12
"""Pictures of each class on the sheet that people look at."""


def with_made_images(
    config: TrainConfig, data: Prepared, answers: Mapping[str, Answer], reporter: Reporter, *, keep: bool
) -> tuple[Prepared, tuple[Decision, ...]]:
    """The data with the images that a strategy makes behind the rows of the table, and what was decided.

    Args:
        config: of the run.
        data: as they were read.
        answers: to imbalance, by task.
        reporter: told when it begins, for it may take minutes.
        keep: whether they are kept in the run folder, so that an interrupted run goes on with the same ones.

    Raises:
        ZooError: the images are of a kind that none can be made of, or the strategy shifts classes otherwise than it
            declares.
        PluginError: a plugin broke.
    """
    name, answer = next(((name, own) for name, own in answers.items() if own.image_maker), ("", None))
    if answer is None or answer.image_maker is None:
        return data, ()
    _refuse(data, answer)
    target, train = data.targets[name], torch.from_numpy(data.splits.train)
    known = train[target.mask[train]]
    key = _key(config, data, known, target.take(known), answer)
    found = _kept(config.out / MADE[0], key)
    if found is None:
        reporter.say(f"{answer.name} learns from {len(known)} images, which takes minutes on a CPU")
        pictures = _pictures(data.images, known.numpy(), answer.image_maker)
        made, labels = answer.image_maker(pictures, target.take(known), generator_for(config.seed, 0, "rows"))
        found = (made.clamp(0, 1) * 255).round().to(torch.uint8), labels.value
        if keep:
            _keep(config.out, key, found)
    made, drawn = found
    counted = torch.cat([target.value[known], drawn])
    task = next(task for task in data.tasks if task.name == name)
    verify_shift(answer.name, answer.maker_shift, target.value[known], counted, len(task.classes))
    counts = torch.bincount(drawn, minlength=len(task.classes)).tolist()
    by_class = ", ".join(f"{own}: {count}" for own, count in zip(task.classes, counts, strict=True) if count)
    said = Decision(
        what="synthetic images",
        choice=f"{len(made)} made ({by_class or 'no class is short of any'})",
        why=f"{answer.name} learned from {len(known)} training rows at {made.shape[2]} x {made.shape[3]} pixels; they "
        f"train, stand in no split, and lie in {MADE[0]} ({MADE[1]} shows some)",
    )
    return _extended(data, made, drawn), (said,)


def _refuse(data: Prepared, answer: Answer) -> None:
    spec = data.images.spec
    if data.covariates is not None:
        raise ZooError(f"{answer.name} makes images, which have no covariates; leave out --covariate")
    if spec.bands or data.images.dtype != torch.uint8 or spec.channels != 3:
        raise ZooError(f"{answer.name} makes ordinary pictures of three colours, and these images are others")


def _key(config: TrainConfig, data: Prepared, rows: Tensor, target: Target, answer: Answer) -> str:
    """Of what the pictures depend on."""
    found = hashlib.blake2b(f"{config.seed} {answer.image_maker} {answer.name}".encode(), digest_size=16)
    found.update(data.images.keys[rows.numpy()].tobytes())
    found.update(target.value.numpy().tobytes() + str(data.images.store.shape).encode())
    return found.hexdigest()


def _pictures(images: Images, rows: NDArray[np.int64], maker: ImageMaker) -> Tensor:
    """Training images in [0, 1], shrunk to the maker's size, float32 (N, C, side, side)."""
    size = (maker.side, maker.side)
    return torch.cat(
        [
            F.interpolate(images.pixels(rows[at : at + PART]).float() / 255, size, mode="bilinear", antialias=True)
            for at in range(0, len(rows), PART)
        ]
    )


def _kept(path: Path, key: str) -> tuple[Tensor, Tensor] | None:
    """Pictures uint8 (M, C, side, side) and labels int64 (M,) of the same data and options, where they are there."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            return file.get_tensor("pictures"), file.get_tensor("labels")
    except (OSError, SafetensorError):
        return None  # none were made yet, or their writing was interrupted: they are made


def _keep(folder: Path, key: str, found: tuple[Tensor, Tensor]) -> None:
    pictures, labels = found
    metadata = {"key": key, "what": "images that a generator made; no camera took them"}
    content: bytes = save({"pictures": pictures.contiguous(), "labels": labels}, metadata=metadata)
    write_whole(folder / MADE[1], _sheet(pictures, labels))
    write_whole(folder / MADE[0], content)


def _sheet(pictures: Tensor, labels: Tensor) -> bytes:
    """A PNG file of some pictures, a row for each class that has any."""
    side, rows = pictures.shape[2], torch.unique(labels).tolist()
    sheet = torch.full((3, side * max(1, len(rows)), side * SHOWN), 255, dtype=torch.uint8)
    for place, label in enumerate(rows):
        for column, picture in enumerate(pictures[labels == label][:SHOWN]):
            sheet[:, place * side : (place + 1) * side, column * side : (column + 1) * side] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _extended(data: Prepared, pictures: Tensor, labels: Tensor) -> Prepared:
    """The data with the pictures, enlarged, behind the rows of the table; `before` has them as they were."""
    if not len(labels):
        return data
    rows, count = len(data.table), len(labels)
    images = _appended(data.images, pictures)
    column = data.table.roles.image
    names = pl.DataFrame({column: [f"{MADE[0]}#{number}" for number in range(count)]})
    frame = pl.concat([data.table.frame, names.cast({column: data.table.frame.schema[column]})], how="diagonal")
    train = np.concatenate([data.splits.train, np.arange(rows, rows + count)])
    return replace(
        data,
        table=replace(data.table, frame=frame),
        images=images,
        targets={name: _joined(target, labels) for name, target in data.targets.items()},
        splits=replace(data.splits, train=train),
        before=data,
    )


def _joined(target: Target, labels: Tensor) -> Target:
    count = len(labels)
    weight = None if target.weight is None else torch.cat([target.weight, torch.ones(count)])
    mask = torch.cat([target.mask, torch.ones(count, dtype=torch.bool)])
    return replace(target, value=torch.cat([target.value, labels.to(target.value.dtype)]), mask=mask, weight=weight)


def _appended(images: Images, pictures: Tensor) -> Images:
    """The images with the pictures behind them, in the size that the network takes; digests are those of the pixels."""
    _, high, wide = images.store.shape
    digests = []
    for part in torch.split(pictures, PART):
        large = F.interpolate(part.float(), (high, wide), mode="bicubic").clamp(0, 255).round().to(torch.uint8)
        own = [hashlib.blake2b(b"made" + each.numpy().tobytes(), digest_size=16).digest() for each in large]
        digests.append(np.frombuffer(b"".join(own), dtype=np.uint8).reshape(-1, 16))
        new = images.store.find(digests[-1]) < 0
        images.store.append(digests[-1][new], large[torch.from_numpy(new)])
    keys = np.concatenate(digests)
    none = np.full(len(keys), -1, dtype=np.int64)
    more: dict[str, Any] = {
        "digests": np.concatenate([images.digests, keys]),
        "ids": np.concatenate([images.ids, images.store.find(keys)]),
        "facts": np.concatenate([images.facts, np.zeros((len(keys), *images.facts.shape[1:]), images.facts.dtype)]),
        "mask_ids": np.concatenate([images.mask_ids, none]),
    }
    if images.filled is not None:
        filled = images.filled
        ids, own_keys = np.concatenate([filled.ids, none]), np.concatenate([filled.keys, keys])
        more["filled"] = replace(filled, ids=ids, keys=own_keys)
    return replace(images, **more)
