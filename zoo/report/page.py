"""The report of a run: one page that stands alone, without a network and without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from zoo.report.classes import CLASS_WORDS
from zoo.report.pictures import data_uri, range_diagram, reliability_diagram, training_curves
from zoo.report.scores import SPLITS, figures, task_section, words

BAD_FILES_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A held-out image that the model got wrong.

    Attributes:
        image: its path, as the table has it.
        true, predicted: names of classes, or numbers.
        probability: what the model gave the predicted class; None of a number.
        thumbnail: a small JPEG or PNG file.
        task: where there are several.
    """

    image: str
    true: str
    predicted: str
    probability: float | None
    thumbnail: bytes
    task: str = ""


def render_report(
    run: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]],
    history: Sequence[Mapping[str, Any]],
    mistakes: Sequence[Mistake],
) -> str:
    """The page of a run as HTML.

    Args:
        run: the content of `run.json`; every key beyond `backbone`, `data`, `freeze` and `training` may be absent.
        metrics: by task and split (`val` and perhaps `test`), as `zoo.metrics.kinds.report` gives them. Without
            a test split the page says that its figures are of the rows that chose the epoch.
        history: a row per epoch; see `zoo.report.pictures.training_curves`.
        mistakes: the most confident first.
    """
    training = run["training"]
    tasks = [task_section(name, by_split) for name, by_split in metrics.items()]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            run=run,
            backbone=run["backbone"],
            data=run["data"],
            freeze=run["freeze"],
            training=training,
            facts=_facts(run),
            tasks=tasks,
            reliability={task.name: reliability_diagram(task.calibration) for task in tasks if task.calibration},
            numbers={task.name: range_diagram(task.ranges) for task in tasks if task.ranges},
            class_words=CLASS_WORDS,
            kinds={task["name"]: task.get("kind", "classification") for task in run["data"].get("tasks", [])},
            counts=_counts(run["data"]),
            intervals=_intervals(run["freeze"]),
            panels=training_curves(history, training.get("best_epoch"), _borders(run["freeze"])),
            best_epoch=training.get("best_epoch"),
            mistakes=[(mistake, data_uri(mistake.thumbnail)) for mistake in mistakes],
            bad_files_shown=BAD_FILES_SHOWN,
            splits=SPLITS,
        )
    )


@cache
def environment() -> Environment:
    """Templates of this package, with the filters that pages share."""
    found = Environment(
        loader=PackageLoader("zoo.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"duration": duration, "moment": moment, "plain": plain, "words": words}
    return found


def duration(seconds: float) -> str:
    """Seconds for people: `8.4 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(stamp: str) -> str:
    """An ISO time as `2026-11-23 20:55 UTC`; what is no time stays as it is."""
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return when.strftime("%Y-%m-%d %H:%M %Z").strip()


def plain(value: Any) -> str:
    """A JSON value as text: thousands apart, four digits of a fraction, lists joined, `none` for null."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value) or "none"
    return str(value)


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The short table under the headline: what was trained, and how."""
    training, freeze, backbone = run["training"], run["freeze"], run["backbone"]
    seconds = run.get("seconds", {})
    parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items() if name != "total")
    best = training.get("best_epoch")
    found = [
        ("freeze policy", freeze.get("policy")),
        ("trains", _share(freeze.get("trainable_parameters"), freeze.get("frozen_parameters"))),
        ("trainable stages", plain(freeze["trainable_stages"]) if "trainable_stages" in freeze else None),
        ("BatchNorm", freeze.get("batchnorm")),
        ("frozen part checked", freeze.get("verified")),
        ("feature", " × ".join(plain(value) for value in backbone.get("feature", {}).values())),
        ("input", " × ".join(str(side) for side in backbone.get("input", {}).get("size", ()))),
        ("bands", _bands(backbone.get("input", {}))),
        ("epochs", _epochs(training, best, several=len(freeze.get("intervals") or ()) > 1)),
        ("optimiser", _optimiser(training)),
        ("learning rate", training.get("schedule")),
        *_methods(training),
        *_without_covariates(run),
        ("speed", f"{training['images_per_second']:,.0f} images/s" if training.get("images_per_second") else None),
        ("time", duration(seconds["total"]) + (f" ({parts})" if parts else "") if "total" in seconds else None),
    ]
    return [(name, str(value)) for name, value in found if value]


def _without_covariates(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Headline figures of rows whose covariates are taken away, where training learned to do without them."""
    for task, by_split in run.get("without_covariates", {}).items():
        for split, scores in by_split.items():
            yield f"{task} without covariates, {SPLITS[split]} rows", figures(scores)


def _bands(spec: Mapping[str, Any]) -> str | None:
    return f"{', '.join(spec['bands'])} of {spec['dtype']}" if spec.get("bands") else None


def _share(trainable: int | None, frozen: int | None) -> str | None:
    if trainable is None or frozen is None:
        return None
    return f"{trainable:,} of {trainable + frozen:,} parameters; {frozen:,} frozen"


def _epochs(training: Mapping[str, Any], best: int | None, *, several: bool) -> str | None:
    if "epochs" not in training:
        return None
    among = " of the last interval" if several else ""
    chosen = f", the best{among} is {best}" if best is not None else ""
    if training.get("best_value") is not None and "metric" in training:
        chosen += f" ({words(training['metric'])} {training['best_value']:.3f} on validation rows)"
    stopped = training.get("epochs_run", training["epochs"]) < training["epochs"] and training.get("patience")
    early = f"stopped early after {training['epochs_run']} of " if stopped else ""
    return f"{early}{training['epochs']}{chosen}"


def _optimiser(training: Mapping[str, Any]) -> str | None:
    names = {
        "learning_rate": "learning rate",
        "backbone_learning_rate": "of the backbone",
        "weight_decay": "weight decay",
        "batch_size": "batch",
    }
    given = [f"{label} {plain(training[key])}" for key, label in names.items() if training.get(key) is not None]
    return ", ".join([*filter(None, [training.get("optimiser")]), *given]) or None


def _methods(training: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """What was used beside optimiser and schedule; an option that changes nothing is left out."""
    ways = (
        ("layer_decay", 1, "layer decay", "{} from block to block, towards the image"),
        ("accumulate", 1, "accumulation", "{} batches to a step"),
        ("clip_norm", None, "clipping", "gradients to a norm of {}"),
        ("ema", None, "moving average", "of the weights, with decay {}"),
        ("label_smoothing", 0, "label smoothing", "{}"),
        ("mixup", 0, "mixup", "shares from Beta({0}, {0})"),
        ("cutmix", 0, "cutmix", "boxes from Beta({0}, {0})"),
        ("patience", None, "patience", "{} epochs without an improvement end the run"),
    )
    given = [(label, text, training.get(key), idle) for key, idle, label, text in ways]
    return [(label, text.format(plain(own))) for label, text, own, idle in given if own not in (None, idle)]


def _intervals(freeze: Mapping[str, Any]) -> list[dict[str, str]]:
    """The intervals of a freeze schedule as text; none where one policy holds for the whole run."""
    found = freeze.get("intervals", ())
    return [_interval(each) for each in found] if len(found) > 1 else []


def _interval(interval: Mapping[str, Any]) -> dict[str, str]:
    (first, last), share = interval["epochs"], interval["trainable_parameters"] / interval["parameters"]
    return {
        "epochs": str(first) if first == last else f"{first} to {last}",
        "policy": interval["policy"],
        "trainable": f"{interval['trainable_parameters']:,}",
        "share": f"{share:.1%}",
        "head": plain(interval["learning_rate"]),
        "backbone": "frozen"
        if interval["backbone_learning_rate"] is None
        else plain(interval["backbone_learning_rate"]),
    }


def _borders(freeze: Mapping[str, Any]) -> list[int]:
    """Last epochs of all intervals but the last one."""
    return [interval["epochs"][1] for interval in freeze.get("intervals", ())[:-1]]


def _counts(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per task: the splits, and per class its rows in each split with the length of its bar in percent."""
    tables = []
    for task, by_class in data.get("counts", {}).items():
        splits = [split for split in SPLITS if any(split in counts for counts in by_class.values())]
        totals = {name: sum(counts.values()) for name, counts in by_class.items()}
        longest = max(totals.values(), default=0) or 1
        rows = [
            (name, [by_class[name].get(split, 0) for split in splits], totals[name], 100 * totals[name] / longest)
            for name in by_class
        ]
        tables.append({"task": task, "splits": splits, "rows": rows})
    return tables
