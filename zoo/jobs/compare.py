"""`zoo compare`: strategies against class imbalance tried over several seeds, on the grid, beside plain training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
import torch

from zoo.config import CompareConfig, TrainConfig
from zoo.config.comparing import OWN, WITHOUT
from zoo.errors import OptionError, RunError
from zoo.grid.rows import Cell, Row
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.compare_table import PLAIN, compared
from zoo.jobs.keys import code_context, known_data
from zoo.jobs.options import AUTO, check_options, named_options
from zoo.jobs.progress import Reporter
from zoo.metrics.choice import check_metric
from zoo.model.view import find_entry
from zoo.registry.lookup import SOURCES, STRATEGIES
from zoo.report.compare_page import render_comparison
from zoo.report.gain_picture import gain_picture
from zoo.run.files import to_json, write_whole
from zoo.specs import parse_options
from zoo.training.strategy import bound_target

TASK = "zoo.jobs.compare_cell:try_strategy"
PRELOAD = ("zoo.jobs.compare_cell", "timm", "torchvision")
MEMORY_SHARE = 0.9
"""Of the machine's memory: a process that takes more is stopped, before the system stops something."""

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        folder: where `compare.html`, `compare.json`, `compare.png` and `rows.jsonl` are.
        found: what stands in `compare.json`.
    """

    folder: Path
    found: Mapping[str, Any]

    @property
    def broken(self) -> bool:
        """Whether a run ended in a failure, rather than in a refusal that says what does not go together."""
        return any(each["broken"] for each in self.found["without"])


def compare(data: str | Path, *, backbone: str, **options: Any) -> Comparison:
    """Try strategies against class imbalance; the same as `zoo compare`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        backbone: `source/model` or `source/model.tag`.
        options: fields of `zoo.config.CompareConfig`, such as `imbalance=("all", "logit-adjust(tau=0.5)")`, `seeds=3`,
            `metric="macro_f1"`, `out="runs/compare"`, and those of `zoo.train`, such as `freeze="last(1)"`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    known = [field.name for field in fields(CompareConfig) if field.name not in WITHOUT]
    given = named_options("compare", known, options)
    given = {"quiet": True, **given, "out": Path(given.get("out", CompareConfig.out))}
    config = CompareConfig(data=str(data), backbone=backbone, **given)
    return run_compare(config, Reporter(quiet=config.quiet))


def run_compare(config: CompareConfig, reporter: Reporter) -> Comparison:
    """Run every strategy with every seed, sort them by validation rows, and write table, page and picture.

    Raises:
        OptionError: a strategy that there is not, or an option that cannot be.
        DataError: the data cannot be read or split, or have one class only.
        ZooError: no strategy has figures; says why.
    """
    texts = expressions(config)
    key, tasks = known_data(_train(config))
    first = tasks[0]
    if first.kind != "classification":
        raise OptionError(
            f"zoo compare tries strategies for the first target, of one class a row, and {first.name} is {first.kind}; "
            "name another one first, with --target"
        )
    check_metric(config.metric, first.classes)
    seeds = range(config.seed, config.seed + config.seeds)
    cells = [_cell(config, text, seed, key) for seed in seeds for text in texts]
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {config.out}: {error.strerror or error}") from None
    rows = _run(cells, config, reporter)
    by_text = {text: {row.seed: row for row in rows if row.parameters["imbalance"] == text} for text in texts}
    found = compared(by_text, config)
    found["without"] += _aliases(texts)
    picture = gain_picture(found)
    write_whole(config.out / "compare.json", to_json(found))
    write_whole(config.out / "compare.png", picture)
    write_whole(config.out / "compare.html", render_comparison(found, picture))
    return Comparison(folder=config.out, found=found)


def expressions(config: CompareConfig) -> list[str]:
    """Strategy expressions, plain training first; checked as far as that needs no data.

    Raises:
        OptionError: see `run_compare`.
    """
    if config.backbone is None:
        raise OptionError("say which backbone, as in --backbone timm/resnet50; `zoo list` shows them")
    check_metric(config.metric)
    for name, least in {"seeds": 1, "jobs": 1}.items():
        if getattr(config, name) < least:
            raise OptionError(f"--{name} must be at least {least}, not {getattr(config, name)}")
    if not config.seconds > 0:
        raise OptionError(f"--seconds must be positive, not {config.seconds}")
    texts, named = [PLAIN], []
    for option in config.imbalance or (ALL,):
        target, text = bound_target(option)
        if target is not None:
            raise OptionError(
                f"zoo compare tries strategies for the first target; leave out {target}=", text=option, column=0
            )
        if text.strip() == AUTO:
            raise OptionError("auto chooses for `zoo train`; a comparison tries what it names", text=option, column=0)
        if text.strip() == ALL:
            texts += _every()
        elif text.strip() not in ("", PLAIN):
            named.append("+".join(str(call) for call in parse_options(text)))
    check_options(_train(config, tuple(named)))
    return list(dict.fromkeys([*texts, *named]))


def _every() -> list[str]:
    """Every strategy that there is, as its name alone means it; a name that two claim stands for each of them."""
    found = []
    for plugin, record in STRATEGIES.items():
        if not record.alias_of:
            found.append(f"{plugin.distribution}:{record.name}" if STRATEGIES.claimed(record) else record.name)
    return found


def _aliases(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Other names of strategies that are tried, where every strategy is."""
    if not set(_every()) <= set(texts):
        return []
    said = "another name of {}, which is tried"
    return [
        {"strategy": record.name, "seeds": [], "reason": said.format(record.alias_of), "broken": False}
        for _, record in STRATEGIES.items()
        if record.alias_of
    ]


def _train(config: CompareConfig, imbalance: tuple[str, ...] = ()) -> TrainConfig:
    """What each run is told, but for its strategy."""
    return TrainConfig(**_carried(config), out=config.out, seed=config.seed, imbalance=imbalance)


def _carried(config: CompareConfig) -> dict[str, Any]:
    names = [field.name for field in fields(TrainConfig) if field.name not in OWN | WITHOUT]
    return {name: getattr(config, name) for name in names}


def _cell(config: CompareConfig, text: str, seed: int, key: str) -> Cell:
    train = _carried(config)
    # Relative to where this is run, which is no part of what comes out.
    train["data"] = str(Path(config.data).resolve()) if Path(config.data).exists() else config.data
    parameters = {"train": json.loads(json.dumps(train)), "imbalance": text, "data": key}
    return Cell(task=TASK, parameters=parameters, seed=seed, context=_context(config, text))


def _context(config: CompareConfig, text: str) -> dict[str, str]:
    assert config.backbone is not None  # noqa: S101 - `check_options` refuses it
    calls = () if text == PLAIN else parse_options(text)
    source = SOURCES.home(find_entry(config.backbone).source)
    return code_context([source, *(STRATEGIES.home(call.name) for call in calls)])


def _run(cells: Sequence[Cell], config: CompareConfig, reporter: Reporter) -> list[Row]:
    threads = max(1, torch.get_num_threads() // config.jobs)  # of a process: as many as OMP_NUM_THREADS allows
    mib = MEMORY_SHARE * psutil.virtual_memory().total / 2**20
    with reporter.bar("comparing", "runs") as progress:
        return run_grid(
            cells,
            config.out / "rows.jsonl",
            jobs=config.jobs,
            limits=Limits(seconds=config.seconds, mib=mib, threads=threads),
            retry=failed if config.retry else None,
            preload=PRELOAD,
            # One split's images, network and features serve all strategies.
            together=lambda cell: cell.seed,
            progress=progress,
            each=lambda row: reporter.say(_line(row, config.metric)),
        )


def _line(row: Row, metric: str) -> str:
    named = f"{row.parameters['imbalance']}, seed {row.seed}"
    if failed(row):
        return f"{named}: {row.status}: {row.message}"
    if "refused" in row.result:
        return f"{named}: {row.result['refused'].splitlines()[0]}"
    value = row.result["scores"].get("val", {}).get(metric)
    return (
        f"{named}: {metric} {'undefined' if value is None else f'{value:.3f}'} on validation rows, {row.seconds:.1f} s"
    )
