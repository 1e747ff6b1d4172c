"""The model card beside an exported file: Markdown, from what the run recorded; what it did not record is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from zoo.deployment.snippets import prepare, use
from zoo.errors import ZooError
from zoo.model.view import find_entry
from zoo.registry.origins import describe_origin
from zoo.report.classes import kind_of
from zoo.report.scores import SPLITS, SUMMARY, shown, words
from zoo.specs import InputSpec

UNKNOWN = "unknown: the run does not say"


def render_card(
    description: Mapping[str, Any],
    *,
    kind: str,
    file: str,
    spec: InputSpec,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any],
    checked: str,
    why: str,
) -> str:
    """The card as Markdown.

    Args:
        description: see `zoo.deployment.description.describe`.
        kind: of the file.
        file: its name.
        spec: of its images.
        run: the content of `run.json`; that of an early release may lack parts.
        metrics: the content of `metrics.json`.
        checked: how the file was compared with the run.
        why: of safetensors, why heads stand beside the network; else empty.
    """
    return _template().render(
        description=description,
        kind=kind,
        file=file,
        run=run,
        why=why,
        checked=checked,
        tasks=[{"name": name} for name in description["output"]],
        library=description["backbone"]["library"] or description["backbone"]["name"].rpartition("/")[0],
        columns=description["input"].get("covariates", {}).get("columns", []),
        prepare=prepare(spec),
        use=use(description, kind, file, beside=bool(why)),
        facts=_facts(description, run),
        data=_data(run.get("data", {})),
        counts=_counts(run.get("data", {}).get("counts", {})),
        figures=_figures(metrics),
        intervals=_about_intervals(metrics),
        calibrated=_calibrated(metrics),
        notes=_notes(run),
        versions=_versions(description["run"]["versions"]),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("zoo.deployment", package_path=""),
        autoescape=False,  # noqa: S701  Markdown; cells and lines are escaped by hand
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "line": line, "capitalize_first": lambda text: text[:1].upper() + text[1:]}
    return environment.get_template("card.md.j2")


def line(text: object) -> str:
    """Text that starts no tag and no new line of Markdown."""
    return " ".join(str(text).split()).replace("<", "&lt;")


def cell(text: object) -> str:
    """The same for a cell of a table."""
    return line(text).replace("|", "\\|")


def _facts(description: Mapping[str, Any], run: Mapping[str, Any]) -> list[tuple[str, str]]:
    backbone, training, freeze = description["backbone"], run.get("training", {}), run.get("freeze", {})
    answers = run.get("imbalance", [])
    strategy = "; ".join(f"{each['target']}: {each['strategy']}" for each in answers)
    fills = "; ".join(f"{each['kind']}: {each['imputer']}" for each in run.get("imputation", []))
    return [
        ("backbone", backbone["name"]),
        ("weights it started from", f"{backbone['weights']}, from {_source(backbone)}"),
        ("licence of those weights", backbone["licence"] or "unknown: their publisher states none"),
        ("head", f"{description['head']} on {description['feature']} features"),
        ("freeze policy", _stated(freeze, "policy")),
        ("frozen part", _stated(freeze, "verified")),
        ("answer to class imbalance", strategy or ("none" if "imbalance" in run else UNKNOWN)),
        *([("answer to holes", f"{fills}; what goes in has none")] if fills else []),
        ("epochs", _stated(training, "epochs")),
        ("best epoch", f"{_stated(training, 'best_epoch')}, chosen by {_stated(training, 'metric')}"),
        ("optimiser", _stated(training, "optimiser")),
        ("seed", _stated(run.get("command", {}), "seed")),
    ]


def _source(backbone: Mapping[str, Any]) -> str:
    """Where the pretrained weights come from, as their source states it."""
    tag = backbone["weights"]
    if tag == "none":
        return "nowhere: random"
    try:
        offered = find_entry(backbone["name"]).entry.weights
    except ZooError:
        return "unknown: no installed plugin offers them"
    found = [describe_origin(each.origin) for each in offered if each.tag == tag]
    return found[0] if found else "a file or a run of the user's; where that came from is unknown"


def _stated(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return UNKNOWN if value is None else str(value)


def _data(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    splits = data.get("splits", {})
    sizes = ", ".join(f"{splits[name]} {words}" for name, words in SPLITS.items() if name in splits)
    missing = ", ".join(f"{count} of {name}" for name, count in data.get("missing_labels", {}).items() if count)
    return [
        ("name", _stated(data, "name")),
        ("licence", data.get("licence") or "unknown: nobody stated it"),
        ("rows", f"{_stated(data, 'rows')} ({sizes})" if sizes else _stated(data, "rows")),
        ("split", _stated(splits, "how")),
        ("labels missing", missing or ("none" if "missing_labels" in data else UNKNOWN)),
        ("files left out", str(len(data["bad_files"])) if "bad_files" in data else UNKNOWN),
        ("covariates", ", ".join(data.get("covariates", [])) or "none"),
    ]


def _counts(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[dict[str, Any]]:
    tables = []
    for task, by_class in counts.items():
        splits = [split for split in SPLITS if any(split in own for own in by_class.values())]
        rows = [(name, [own.get(split, 0) for split in splits]) for name, own in by_class.items()]
        tables.append({"task": task, "splits": [SPLITS[split] for split in splits], "rows": rows})
    return tables


def _figures(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = []
    for task, by_split in metrics.items():
        splits = [split for split in SPLITS if split in by_split]
        if not splits:
            continue
        rows = [
            (words(name), [_figure(by_split[split], name) for split in splits])
            for name in _summary(by_split[splits[0]])
        ]
        rows.append(("rows", [str(by_split[split]["rows"]) for split in splits]))
        about = "validation rows chose the epoch" if "test" in splits else "but they chose the epoch, so they flatter"
        tables.append({"task": task, "splits": [SPLITS[split] for split in splits], "rows": rows, "about": about})
    return tables


def _calibrated(metrics: Mapping[str, Any]) -> bool:
    """Whether it was measured how far probabilities can be believed."""
    reports = [scores for by_split in metrics.values() for scores in by_split.values()]
    return bool(reports) and all("ece" in scores or kind_of(scores) == "regression" for scores in reports)


def _summary(scores: Mapping[str, Any]) -> Sequence[str]:
    return SUMMARY[kind_of(scores)]


def _figure(scores: Mapping[str, Any], name: str) -> str:
    value = scores.get(name)
    if value is None:
        return f"undefined ({cell(scores.get('undefined', {}).get(name, 'not recorded'))})"
    bounds = scores.get("intervals", {}).get("bounds", {}).get(name)
    return shown(value) + (f" [{shown(bounds[0])}, {shown(bounds[1])}]" if bounds else "")


def _about_intervals(metrics: Mapping[str, Any]) -> str:
    """How the run made its intervals; empty where it made none, as early releases did not."""
    reports = [scores for by_split in metrics.values() for scores in by_split.values()]
    return next((scores["intervals"]["how"] for scores in reports if "intervals" in scores), "")


def _notes(run: Mapping[str, Any]) -> Sequence[str]:
    data, backbone = run.get("data", {}), run.get("backbone", {})
    return [*data.get("notes", []), *data.get("warnings", []), *backbone.get("notes", [])]


def _versions(made: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys([*made, "onnx", "onnxscript", "onnxruntime"])
    return [(name, made.get(name, "-"), _here(name)) for name in names if name in made or _here(name) != "-"]


def _here(name: str) -> str:
    if name == "python":
        import platform

        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
