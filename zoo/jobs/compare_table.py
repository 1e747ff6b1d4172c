"""The table of a comparison: means and spreads over seeds, differences to plain training, and which one to take."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from zoo.config import CompareConfig
from zoo.errors import ZooError
from zoo.grid.rows import Row
from zoo.grid.run import failed
from zoo.metrics.choice import LOWER_IS_BETTER
from zoo.metrics.paired import Paired, paired

FORMAT = 1
PLAIN = "none"
"""Training without any strategy, which the others are held against."""

SPLITS = ("val", "test")
HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "g_mean")

Results = Mapping[int, Mapping[str, Any]]
"""What the runs of one strategy gave, by seed."""


def compared(rows: Mapping[str, Mapping[int, Row]], config: CompareConfig) -> dict[str, Any]:
    """What stands in `compare.json`.

    Args:
        rows: of each strategy by seed, plain training first.
        config: of the comparison.

    Raises:
        ZooError: plain training has no figures; says why.
    """
    without = [each for text, own in rows.items() if (each := _without(text, own)) is not None]
    results = {text: _results(own) for text, own in rows.items()}
    if not results[PLAIN]:
        raise ZooError(f"plain training has no figures, and nothing to compare with: {without[0]['reason']}")
    first = next(iter(results[PLAIN].values()))
    counts = first["counts"]
    rarest = min(counts, key=lambda name: counts[name])
    found = [_row(text, own, results[PLAIN]) for text, own in results.items() if own]
    ordered = sorted(found, key=lambda row: _order(row["val"], config.metric))
    return {
        "format": FORMAT,
        "data": str(config.data),
        "backbone": config.backbone,
        **{name: first[name] for name in ("weights", "target", "counts", "rows", "split")},
        "drawn": {split: _drawn(results[PLAIN], split) for split in SPLITS},
        "freeze": config.freeze,
        "epochs": config.epochs,
        "seeds": list(range(config.seed, config.seed + config.seeds)),
        "metric": config.metric,
        "shown": list(dict.fromkeys([config.metric, *HEADLINE, f"recall({rarest})"])),
        "rarest": rarest,
        "rows_of_rarest": {split: first["support"].get(split, {}).get(rarest, 0) for split in SPLITS},
        "strategies": ordered,
        "without": without,
        **_choice(ordered, results, config.metric),
        "notes": _notes(results[PLAIN], config),
    }


def _results(rows: Mapping[int, Row]) -> Results:
    """What has figures."""
    return {seed: row.result for seed, row in rows.items() if not failed(row) and "refused" not in row.result}


def _without(text: str, rows: Mapping[int, Row]) -> dict[str, Any] | None:
    """Why a strategy has no figures with some seeds; None where it has them with all."""
    reasons = {
        seed: row.message or row.status if failed(row) else row.result.get("refused") for seed, row in rows.items()
    }
    lost = {seed: said for seed, said in reasons.items() if said is not None}
    if not lost:
        return None
    alike = set(lost.values())
    said = alike.pop() if len(alike) == 1 else "; ".join(f"seed {seed}: {why}" for seed, why in lost.items())
    return {"strategy": text, "seeds": list(lost), "reason": said, "broken": any(map(failed, rows.values()))}


def _row(text: str, results: Results, plain: Results) -> dict[str, Any]:
    row: dict[str, Any] = {
        "strategy": text,
        "seeds": list(results),
        "corrected": statistics.fmean(each["corrected"] for each in results.values()),
        "train_seconds": _over([each["seconds"]["train"] for each in results.values()]),
        "features_seconds": _over([each["seconds"]["features"] for each in results.values()]),
    }
    for split in SPLITS:
        scored = [each["scores"][split] for each in results.values() if split in each["scores"]]
        names = dict.fromkeys(name for each in scored for name in each)
        row[split] = {name: _over([each.get(name) for each in scored]) for name in names}
        row[f"{split}_gain"] = {} if text == PLAIN else _gains(results, plain, split)
        said = {name: why for each in results.values() for name, why in each["undefined"].get(split, {}).items()}
        row[f"{split}_undefined"] = {
            name: why for name, why in said.items() if row[split].get(_key(name), {}).get("mean", 0) is None
        }
    return row


def _key(name: str) -> str:
    """`recall of 'crack'`, as reasons name a value of one class, as the table does: `recall(crack)`."""
    metric, of, own = name.partition(" of ")
    return f"{metric}({own[1:-1]})" if of else name


def _over(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds; None where one of the values is undefined."""
    known = [value for value in values if value is not None]
    whole = len(known) == len(values)
    return {
        "mean": statistics.fmean(known) if whole and known else None,
        "spread": statistics.stdev(known) if whole and len(known) > 1 else None,
        "values": list(values),
    }


def _gains(results: Results, plain: Results, split: str) -> dict[str, Any]:
    """Differences to plain training, by metric; a metric that one of them leaves undefined has none."""
    found = {}
    seeds = [seed for seed in results if seed in plain and split in results[seed]["scores"]]
    for name in results[seeds[0]]["scores"][split] if seeds else ():
        difference = _difference(results, plain, split, name, seeds)
        if difference is not None:
            found[name] = {**asdict(difference), "clear": difference.clear}
    return found


def _difference(one: Results, other: Results, split: str, name: str, seeds: Sequence[int]) -> Paired | None:
    pairs = [(one[seed]["scores"][split].get(name), other[seed]["scores"][split].get(name)) for seed in seeds]
    known = [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]
    if not known or len(known) < len(pairs):
        return None
    result = one[seeds[0]]
    # With one division of the rows for all seeds only the draws of training differ.
    overlap = result["rows"][split] / result["rows"]["train"] if _drawn(one, split) else 0.0
    return paired(known, overlap)


def _drawn(results: Results, split: str) -> bool:
    """Whether seeds differ in the rows that are held out."""
    return len({each["held_out"][split] for each in results.values()}) > 1


def _order(scores: Mapping[str, Any], metric: str) -> tuple[bool, float]:
    value = scores.get(metric, {}).get("mean")
    return value is None, 0.0 if value is None else value if metric in LOWER_IS_BETTER else -value


def _choice(ordered: Sequence[Mapping[str, Any]], results: Mapping[str, Results], metric: str) -> dict[str, Any]:
    """Which to take by validation rows: the best of those that beat plain training by more than noise, else that."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    gains = {row["strategy"]: row["val_gain"].get(metric) for row in ordered}
    better = [name for name, gain in gains.items() if gain and gain["clear"] and sign * gain["mean"] > 0]
    take = better[0] if better else PLAIN
    alike = []
    for row in ordered:
        name = row["strategy"]
        seeds = [seed for seed in results[name] if seed in results[take]]
        if name != take and seeds:
            difference = _difference(results[name], results[take], "val", metric, seeds)
            alike += [name] if difference is not None and not difference.clear else []
    return {"take": take, "best": ordered[0]["strategy"], "alike": alike}


def _notes(plain: Results, config: CompareConfig) -> list[str]:
    first = next(iter(plain.values()))
    said = list(first["notes"])
    same = [split for split in SPLITS if first["rows"][split] and not _drawn(plain, split)]
    if config.seeds == 1:
        said.append("One seed cannot tell a difference from noise; several can (--seeds 5).")
    elif same:
        rows = " and ".join({"val": "validation", "test": "test"}[split] for split in same)
        said.append(
            f"The {rows} rows are the same with every seed: their spread is of the draws of training, and says nothing "
            "of other rows."
        )
    return said
