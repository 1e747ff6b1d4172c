"""`zoo rank`: backbones ranked on one's own images, by scores on training rows, with speed and memory measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from zoo.config import RankConfig
from zoo.errors import ZooError
from zoo.grid.rows import Cell, Row
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.keys import known_data
from zoo.jobs.progress import Reporter
from zoo.jobs.rank_cells import TASK, backbone_names, check_ranking, rank_cell, train_config
from zoo.jobs.rank_choice import Ranked, Take, in_order, pareto, takes
from zoo.metrics.choice import LOWER_IS_BETTER
from zoo.probe import one_gpu, pick_device
from zoo.registry.near import suggest
from zoo.report.pareto_picture import pareto_picture
from zoo.run.files import to_json, write_whole

FORMAT = 1
PRELOAD = (TASK, "timm", "torchvision")
FIRST_EPOCHS = 2
"""Of the first rung of successive halving; each later one has twice as many."""

MEMORY_SHARE = 0.9
"""Of the machine's memory: a process that takes more is stopped, before the system stops something."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Backbones in order, the best first.

    Attributes:
        folder: where `rank.json`, `pareto.png` and `rows.jsonl` are.
        rows: of those that were scored: scores, speed, memory; JSON values.
        failures: by backbone, why it has no score.
        front: names on the Pareto front of metric and speed, the fastest first.
        takes: which to take, by question.
        notes: what is to be known beside the figures.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    failures: Mapping[str, str]
    front: tuple[str, ...]
    takes: tuple[Take, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What stands in `rank.json`."""
        return {
            "format": FORMAT,
            "rows": list(self.rows),
            "failures": dict(self.failures),
            "pareto": list(self.front),
            "take": [asdict(each) for each in self.takes],
            "notes": list(self.notes),
        }


def rank(data: str | Path, *, backbones: str | Sequence[str], **options: Any) -> Ranking:
    """Rank backbones on images; the same as `zoo rank`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        backbones: globs over `source/model`.
        options: fields of `zoo.config.RankConfig`, such as `metric="macro_f1"`, `budget="10m"`, `out="runs/rank"`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    known = [field.name for field in fields(RankConfig)]
    for name in options:
        if name not in known:
            raise ZooError(f"rank has no option {name!r}{suggest(name, known)}")
    patterns = (backbones,) if isinstance(backbones, str) else tuple(backbones)
    given = {"quiet": True, **options}
    given["target"] = (given["target"],) if isinstance(given.get("target"), str) else tuple(given.get("target", ()))
    given["out"] = Path(given.get("out", RankConfig.out))
    config = RankConfig(data=str(data), backbones=patterns, **given)
    return run_rank(config, Reporter(quiet=config.quiet))


def run_rank(config: RankConfig, reporter: Reporter) -> Ranking:
    """Score every backbone in a process of its own, fine-tune the best where asked, and say which to take.

    Raises:
        UnknownNameError: a pattern that no backbone matches, or no such metric.
        OptionError: a number, time or size that cannot be.
        DataError: the data have one class only, or cannot be split.
        ZooError: no backbone could be scored; says why.
    """
    limits = check_ranking(config)
    names = backbone_names(config)
    digest, _ = known_data(train_config(config, "source/model"))
    rows = _run([rank_cell(config, name, digest, "score_backbone") for name in names], config, reporter, "scoring")
    scored = {name: row.result for name, row in zip(names, rows, strict=True) if not failed(row)}
    failures = {name: row.message for name, row in zip(names, rows, strict=True) if failed(row)}
    if not scored:
        said = "\n".join(f"  {name}: {why}" for name, why in failures.items())
        raise ZooError(f"no backbone could be scored; --retry tries again:\n{said}")
    peaks = {name: row.peak_mib for name, row in zip(names, rows, strict=True)}
    ranked = [_ranked(name, result) for name, result in scored.items()]
    ranked = _halving(config, ranked, digest, reporter, failures) if config.finetune else ranked
    return _written(config, scored, peaks, ranked, failures, limits)


def _run(cells: Sequence[Cell], config: RankConfig, reporter: Reporter, title: str) -> list[Row]:
    threads = max(1, torch.get_num_threads() // config.jobs)  # of a process: as many as OMP_NUM_THREADS allows
    mib = MEMORY_SHARE * psutil.virtual_memory().total / 2**20
    with reporter.bar(title, "backbones") as progress:
        return run_grid(
            cells,
            config.out / "rows.jsonl",
            jobs=config.jobs,
            devices=config.devices or (one_gpu(pick_device(config.device)) if config.ray else 0),
            ray=config.ray,
            limits=Limits(seconds=config.seconds, mib=mib, threads=threads),
            retry=failed if config.retry else None,
            preload=PRELOAD,
            progress=progress,
            each=lambda row: reporter.say(_line(row)),
        )


def _line(row: Row) -> str:
    name = row.parameters["train"]["backbone"]
    if failed(row):
        return f"{name}: {row.status}: {row.message}"
    value = row.result["value"] if "value" in row.result else row.result["probe"]["mean"]
    return f"{name}: {row.parameters['train']['metric']} {value:.3f}, {row.seconds:.0f} s"


def _ranked(name: str, result: Mapping[str, Any]) -> Ranked:
    return Ranked(
        name=name,
        value=result["probe"]["mean"],
        images_per_second=result["images_per_second"],
        seconds=result["run_seconds"],
        memory=result["run_memory"],
    )


def _halving(
    config: RankConfig, ranked: list[Ranked], digest: str, reporter: Reporter, failures: dict[str, str]
) -> list[Ranked]:
    """Successive halving (Jamieson & Talwalkar 2016): the better half of each rung trains anew for twice as long."""
    found = {row.name: row for row in ranked}
    sign = 1 if config.metric in LOWER_IS_BETTER else -1
    left = [row.name for row in in_order(ranked, config.metric)][: config.finetune]
    rung, epochs = 1, FIRST_EPOCHS
    while left:
        cells = [rank_cell(config, name, digest, "fine_tune", epochs) for name in left]
        rows = dict(zip(left, _run(cells, config, reporter, f"fine-tuning for {epochs} epochs"), strict=True))
        for name, row in rows.items():
            if failed(row):
                failures[f"{name}, fine-tuned for {epochs} epochs"] = row.message
            else:
                found[name] = replace(found[name], rung=rung, tuned=row.result["value"])
        good = sorted((name for name in left if not failed(rows[name])), key=lambda n: sign * (found[n].tuned or 0.0))
        left = good[: (len(good) + 1) // 2] if len(good) > 1 else []
        rung, epochs = rung + 1, 2 * epochs
    return list(found.values())


def _written(
    config: RankConfig,
    scored: Mapping[str, Mapping[str, Any]],
    peaks: Mapping[str, float],
    ranked: Sequence[Ranked],
    failures: Mapping[str, str],
    limits: tuple[float | None, int | None],
) -> Ranking:
    ordered, front = in_order(ranked, config.metric), pareto(ranked, config.metric)
    rows = tuple(
        {"backbone": row.name, "rung": row.rung, "tuned": row.tuned, "peak_mib": peaks[row.name], **scored[row.name]}
        for row in ordered
    )
    found = Ranking(
        folder=config.out,
        rows=rows,
        failures=failures,
        front=tuple(row.name for row in front),
        takes=tuple(takes(ranked, config.metric, budget=limits[0], memory=limits[1])),
        notes=_notes(rows),
    )
    write_whole(config.out / "rank.json", to_json(found.to_json()))
    points = [(row.name, row.images_per_second, row.value, scored[row.name]["probe"]["spread"]) for row in ordered]
    write_whole(config.out / "pareto.png", pareto_picture(points, found.front, config.metric))
    return found


def _notes(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    said = []
    random = [row["backbone"] for row in rows if row["weights"] == "none"]
    if random:
        said.append(f"random weights, which say little about what training would make of them: {', '.join(random)}")
    lost = rows[0]["classes_left_out"]
    if lost:
        said.append(f"classes with too few training rows to be scored: {', '.join(lost)}")
    probe = rows[0]["probe"]["spread"]
    if len(rows) > 1 and abs(rows[0]["probe"]["mean"] - rows[1]["probe"]["mean"]) < probe:
        said.append(f"the first two are nearer to each other than the spread over the folds ({probe:.3f})")
    return tuple(said)
