"""What a generator promises: rows or pictures of the class asked for, finite, from the generator that it is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoo.specs import GeneratorRecord
from zoo.testing.check import Check, require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.parameters import default_setting, parameter_checks
from zoo.testing.surroundings import check_draws, sheltered

WIDTH = 6
CLASSES = 4
"""Of which the last has no row."""

COUNTS = (60, 25, 9)


def generator_checks(record: GeneratorRecord) -> list[Check]:
    """The checks of one generator."""
    subject = f"generator {record.name}"
    checks = [Check(subject=subject, name=name, run=partial(_run, run, record)) for name, run in CHECKS.items()]
    return checks + parameter_checks(subject, record.parameters, partial(_drawn, record))


def _run(run: Callable[[GeneratorRecord], None], record: GeneratorRecord) -> None:
    with sheltered():
        run(record)


def rows() -> tuple[Tensor, Tensor]:
    """Features (N, D) about a mean for each class, and labels (N,)."""
    seeded = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    means = 4.0 * torch.eye(len(COUNTS), WIDTH)
    features = means[labels] + 0.5 * torch.randn((len(labels), WIDTH), generator=seeded)
    order = torch.randperm(len(labels), generator=seeded)
    features = features[order]
    return (features - features.mean(dim=0)) / features.std(dim=0), labels[order]


def pictures(side: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, side, side) in [0, 1], a colour for each class, and labels (N,)."""
    seeded = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    colours = 0.2 + 0.6 * torch.eye(len(COUNTS))
    noise = 0.1 * torch.randn((len(labels), 3, side, side), generator=seeded)
    order = torch.randperm(len(labels), generator=seeded)
    return (colours[labels][:, :, None, None] + noise).clamp(0, 1)[order], labels[order]


def _sample(record: GeneratorRecord, parameters: Any) -> tuple[Tensor, Tensor]:
    return pictures(parameters.side) if record.makes == "images" else rows()


def _fit(record: GeneratorRecord, parameters: object = None, seed: int = 0) -> Any:
    own = default_setting(record.parameters) if parameters is None else parameters
    features, labels = _sample(record, own)
    return record.fit(features, labels, CLASSES, own, torch.Generator().manual_seed(seed))


def _drawn(record: GeneratorRecord, parameters: object, seed: int = 0) -> Any:
    with sheltered():
        fitted = _fit(record, parameters, seed)
        drawn = torch.Generator().manual_seed(seed + 1)
        return fingerprint([fitted.sample(label, 5, drawn) for label in range(len(COUNTS))])


def gives_rows(record: GeneratorRecord) -> None:
    """As many rows as are asked for, float32, finite, one and many, of each class that has rows."""
    brief = default_setting(record.parameters, brief=True)
    fitted, shape = _fit(record, brief), _sample(record, brief)[0].shape[1:]
    for label in range(len(COUNTS)):
        for count in (1, 37):
            found = fitted.sample(label, count, torch.Generator().manual_seed(1))
            require(isinstance(found, Tensor), f"sample gives {type(found).__name__}")
            require(tuple(found.shape) == (count, *shape), f"asked for {count} rows, it gives {tuple(found.shape)}")
            require(found.dtype == torch.float32, f"rows are {found.dtype}")
            require(bool(torch.isfinite(found).all()), "a number of a row is not finite")
            inside = record.makes == "features" or bool(((found >= 0) & (found <= 1)).all())
            require(inside, "a number of a picture lies outside [0, 1]")
            require(not found.requires_grad, "rows ask for gradients")


def gives_the_class(record: GeneratorRecord) -> None:
    """Rows of a class lie nearest to that class's mean, where classes stand far apart."""
    features, labels = _sample(record, default_setting(record.parameters))
    features = features.flatten(1)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(len(COUNTS))])
    fitted = _fit(record)
    for label in range(len(COUNTS)):
        found = fitted.sample(label, 200, torch.Generator().manual_seed(1))
        near = float((torch.cdist(found.flatten(1), means).argmin(dim=1) == label).float().mean())
        require(near >= 0.8, f"of 200 rows of class {label} {near:.0%} are nearest to its mean")


def gives_different_rows(record: GeneratorRecord) -> None:
    """Rows differ from one another and from those that it learned from."""
    features, _ = _sample(record, default_setting(record.parameters))
    features = features.flatten(1)
    found = _fit(record).sample(0, 50, torch.Generator().manual_seed(1)).flatten(1)
    require(len(torch.unique(found, dim=0)) == 50, "it gives the same row twice")
    require(float(torch.cdist(found, features).min()) > 0, "it gives a row that it learned from")


def leaves_rows_alone(record: GeneratorRecord) -> None:
    """Learning changes neither the features nor the labels."""
    parameters = default_setting(record.parameters, brief=True)
    features, labels = _sample(record, parameters)
    before = fingerprint((features, labels))
    record.fit(features, labels, CLASSES, parameters, torch.Generator().manual_seed(0))
    require(fingerprint((features, labels)) == before, "it changes the rows that it learns from")


def draws_from_the_generator(record: GeneratorRecord) -> None:
    """All randomness comes from the generators that it is given; no setting of the process changes."""
    check_draws(lambda: _drawn(record, default_setting(record.parameters, brief=True)))


CHECKS: dict[str, Callable[[GeneratorRecord], None]] = {
    "it-gives-the-rows-that-are-asked-for": gives_rows,
    "rows-are-of-their-class": gives_the_class,
    "rows-are-new": gives_different_rows,
    "it-leaves-the-rows-alone": leaves_rows_alone,
    "it-draws-from-the-generator": draws_from_the_generator,
}
