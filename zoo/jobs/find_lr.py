"""`zoo train … --find-lr`: a learning-rate range test of a run that is about to begin; it ends there.

What is tested is the first interval of the run as it would train: its frozen part, feature cache, augmentation,
batches, optimiser and penalties. One factor goes on --lr and --backbone-lr alike, so that their ratio is the run's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.fitting import deterministic
from zoo.jobs.interval import data_of
from zoo.jobs.job import Job
from zoo.jobs.planning import make_plan
from zoo.jobs.progress import Reporter
from zoo.jobs.settings import optimiser_of, rates_of, settings_of
from zoo.jobs.start import Clock, start_job
from zoo.jobs.train import checked_names, leaving_no_empty
from zoo.jobs.training_part import suffix_of
from zoo.model.freeze import freeze_parts
from zoo.report.range_picture import range_picture
from zoo.run.files import to_json, write_whole
from zoo.training.optimiser import RATE_FACTORS, Rates, parse_optimiser
from zoo.training.range_test import Observed, RangeTest, Reading, Span, read_curve

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FoundLr:
    """What a test of learning rates says.

    Attributes:
        folder: where `lr.png` and `lr.json` are.
        lr: the suggested rate of the head; None where the curve suggests none.
        backbone_lr: of the backbone's trainable part, None too where the head trains alone.
        why: a sentence about the curve.
        test: what stands in `lr.json`.
    """

    folder: Path
    lr: float | None
    backbone_lr: float | None
    why: str
    test: Mapping[str, Any]

    @property
    def flags(self) -> str:
        """The suggestion as the options of `zoo train`; empty for none."""
        return str(self.test["suggestion"]["flags"])


def find_lr(data: str | Path, *, backbone: str, out: str | Path, **options: Any) -> FoundLr:
    """Test learning rates for a run and train nothing; the same as `zoo train … --find-lr`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        backbone: `source/model` or `source/model.tag`.
        out: folder for `lr.png` and `lr.json`; it may be that of the run to come.
        options: as of `zoo.train`, with `find_lr_range` and `find_lr_steps`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    given = {**checked_names("find_lr", options), "find_lr": True}
    config = TrainConfig(data=str(data), backbone=backbone, out=Path(out), **given)
    return run_find_lr(config, Reporter(quiet=config.quiet))


def run_find_lr(config: TrainConfig, reporter: Reporter) -> FoundLr:
    """Test, write the picture and the figures; what is cheap to refuse is refused before anything is computed.

    Raises:
        ZooError: as `zoo.train`; or an option that has no place in a test.
    """
    config, span = _with_rates(config), _span(config)
    with leaving_no_empty(config.out):
        job = start_job(config, reporter, Clock())
        try:
            rates, observed = _observed(job, span)
        except torch.OutOfMemoryError as error:
            said = str(error).splitlines()[0]
            raise ZooError(f"out of memory on {job.device}: {said}; try a smaller --batch-size") from None
        return _written(job, rates, observed)


def _span(config: TrainConfig) -> Span:
    """The rates to try.

    Raises:
        ZooError: there are none, or nothing of the run would have a learning rate.
    """
    special = {
        "--sweep": config.sweep and "tries learning rates of the head by itself",
        f"--fitter {config.fitter}": config.fitter != "adamw" and "has no learning rate",
        "--explain": config.explain and "computes nothing",
        "--devices": (config.devices or 1) > 1 and "is for runs; a test takes a hundred steps of one process",
        "--shard": config.shard is not None and "is for runs of several processes",
    }
    for flag, why in special.items():
        if why:
            raise ZooError(f"--find-lr tests learning rates step by step, and {flag} {why}; leave out one of them")
    low, high = config.find_lr_range
    try:
        return Span(low=low, high=high, steps=config.find_lr_steps)
    except ValueError as error:
        flag = "--find-lr-range" if "rise" in str(error) else "--find-lr-steps"
        raise ZooError(f"{flag}: {error}") from None


def _with_rates(config: TrainConfig) -> TrainConfig:
    """Of an optimiser without default rates the ratio is AdamW's: only that is needed here."""
    if parse_optimiser(config.optimiser).call.name in RATE_FACTORS:
        return config
    return replace(config, lr=config.lr or 1e-3, backbone_lr=config.backbone_lr or 1e-4)


def _observed(job: Job, span: Span) -> tuple[Rates, Observed]:
    """Prepare the first interval as a run does, and take the steps of the test."""
    model, tasks = job.model, job.data.tasks
    alone = len(job.intervals) == 1 and job.policy.head_alone
    optimiser = None if alone else optimiser_of(job)
    with deterministic(job.config.deterministic):
        frozen = freeze_parts(model, model.view, job.policy, "backbone.", batchnorm=job.batchnorm)
        plan = make_plan(job)
        inputs, kept = inputs_of(job, plan)
        standardise(job, plan, kept)
        rates = rates_of(job, cached=plan.boundary.whole)
        data, settings = data_of(job, inputs), settings_of(job, plan, rates)
        own = model.heads if plan.boundary.whole else model
        with suffix_of(job, plan) as suffix, job.reporter.bar("testing learning rates", "images") as progress:
            parts = (own, model.heads, suffix, data, tasks, job.answers)
            observed = RangeTest(*parts, span=span, settings=settings, optimiser=optimiser).observe(progress)
    frozen.verify()
    return rates, observed


def _written(job: Job, rates: Rates, observed: Observed) -> FoundLr:
    config, interval = job.config, job.intervals[job.interval]
    ratio = None if interval.policy.head_alone else rates.backbone / rates.head
    reading = read_curve(observed)
    suggestion = _suggestion(reading, ratio)
    test = {
        "format": FORMAT,
        "backbone": job.model.view.name,
        "weights": job.model.view.weights,
        "data": job.data.table.name,
        "seed": config.seed,
        "optimiser": config.optimiser,
        "batch_size": job.batch_size * config.accumulate,
        "policy": interval.policy.text,
        "epochs": [interval.start + 1, interval.stop],
        "suggestion": suggestion,
        "backbone_to_head": ratio,
        "notes": _notes(job),
        **asdict(observed),
        "smoothed": reading.smoothed,
    }
    found = FoundLr(
        folder=config.out,
        lr=suggestion["lr"],
        backbone_lr=suggestion["backbone_lr"],
        why=reading.why,
        test=test,
    )
    axis = "learning rate of the head" + (f", {ratio:.3g} times it of the backbone" if ratio else "")
    write_whole(config.out / "lr.json", to_json(test))
    picture = range_picture(observed.rates, observed.losses, reading.smoothed, found.lr, axis)
    write_whole(config.out / "lr.png", picture)
    return found


def _suggestion(reading: Reading, ratio: float | None) -> dict[str, Any]:
    """The rates with two digits, as they are to be typed; JSON values."""
    lr = None if reading.rate is None else float(f"{reading.rate:.2g}")
    backbone_lr = None if lr is None or ratio is None else float(f"{lr * ratio:.2g}")
    named = {"--lr": lr, "--backbone-lr": backbone_lr}
    flags = " ".join(f"{flag} {value:g}" for flag, value in named.items() if value is not None)
    return {"rule": "steepest", "lr": lr, "backbone_lr": backbone_lr, "flags": flags, "why": reading.why}


def _notes(job: Job) -> list[str]:
    """What the test leaves open."""
    first, later = job.intervals[0], job.intervals[1:]
    if not later:
        return []
    said = ", ".join(f"{each.start + 1} to {each.stop} ({each.policy.text})" for each in later)
    return [
        f"this is about epochs {first.start + 1} to {first.stop} ({first.policy.text}) alone; epochs {said} have the "
        f"same rates and begin from what is trained before them; --freeze '{later[-1].policy.text}' --find-lr tests "
        "what trains at last, from the beginning"
    ]
