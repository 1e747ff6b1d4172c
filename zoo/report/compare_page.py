"""What `zoo compare` shows: the sentences, the table on a terminal, the CSV, and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.report.page import environment
from zoo.report.pictures import data_uri
from zoo.report.scores import words

SPLITS = {"val": "validation", "test": "test"}
ROWS = {"val": "validation rows", "test": "test rows"}


def render_comparison(found: Mapping[str, Any], picture: bytes) -> str:
    """The page as HTML, from the content of `compare.json` and the picture of the gains."""
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            found=found,
            verdict=list(verdict(found)),
            picture=data_uri(picture),
            names={name: words(name) for name in found["shown"]},
            splits=ROWS,
            value=value_text,
            gain=gain_text,
        )
    )


def verdict(found: Mapping[str, Any]) -> Iterator[str]:
    """Which to take, by how much, and what cannot be told apart from it."""
    metric, rows = found["metric"], {row["strategy"]: row for row in found["strategies"]}
    best, take = rows[found["best"]], rows[found["take"]]
    gain = best["val_gain"].get(metric)
    if len(found["seeds"]) == 1:
        yield f"The best on validation rows is {best['strategy']}. With one seed nothing can be told from noise."
        return
    if take["strategy"] != "none":
        said = [
            f"{value_text(take[split].get(metric))} on {title} ({gain_text(take[f'{split}_gain'].get(metric))} "
            "against plain training)"
            for split, title in ROWS.items()
            if take[split]
        ]
        yield f"Take {take['strategy']}: {words(metric)} {', '.join(said)}."
    elif gain is None:
        yield f"Keep plain training: no strategy has a better {words(metric)} on validation rows."
    else:
        yield (
            f"Keep plain training: no strategy beats it on validation rows by more than noise. The best there, "
            f"{best['strategy']}, has {gain_text(gain)} of {words(metric)} against it."
        )
    if found["alike"]:
        it = "plain training" if found["take"] == "none" else "it"
        yield f"Not told apart from {it} by these validation rows: {', '.join(found['alike'])}."


def value_text(value: Mapping[str, Any] | None) -> str:
    """Mean ± spread over seeds."""
    if not value:
        return "–"
    if value["mean"] is None:
        return "undefined"
    return f"{value['mean']:.3f}" + ("" if value["spread"] is None else f" ± {value['spread']:.3f}")


def gain_text(gain: Mapping[str, Any] | None) -> str:
    """Mean ± spread of the differences; a tilde where it may be noise."""
    if not gain:
        return "–"
    noise = "" if gain["clear"] else " ~"
    return f"{gain['mean']:+.3f}" + ("" if gain["spread"] is None else f" ± {gain['spread']:.3f}{noise}")


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """The table for a terminal: first what chooses, then the test rows, which decide nothing."""
    metric = found["metric"]
    others = [name for name in found["shown"] if name != metric]
    head = ["STRATEGY", "VAL", "GAIN", "|", "TEST", "GAIN", *(words(name).upper() for name in others), "TRAIN S"]
    lines = [head, *(_cells(row, metric, others) for row in found["strategies"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cells(row: Mapping[str, Any], metric: str, others: Sequence[str]) -> list[str]:
    return [
        row["strategy"],
        value_text(row["val"].get(metric)),
        gain_text(row["val_gain"].get(metric)),
        "|",
        value_text(row["test"].get(metric)),
        gain_text(row["test_gain"].get(metric)),
        *(value_text(row["test"].get(name)) for name in others),
        f"{row['train_seconds']['mean']:.1f}",
    ]


def csv_text(found: Mapping[str, Any]) -> str:
    """One line a strategy, those without figures last; spreads are over seeds, `reach` half an interval of 95 %."""
    columns = [f"{split}_{name}_{part}" for split in SPLITS for name in found["shown"] for part in ("mean", "spread")]
    gains = [
        f"{split}_gain_{name}_{part}"
        for split in SPLITS
        for name in found["shown"]
        for part in ("mean", "spread", "reach")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["strategy", "seeds", "corrected", *columns, *gains, "train_seconds_mean", "train_seconds_spread", "reason"]
    )
    reasons = {each["strategy"]: each["reason"] for each in found["without"]}
    for row in found["strategies"]:
        shown = [
            row[split].get(name, {}).get(part)
            for split in SPLITS
            for name in found["shown"]
            for part in ("mean", "spread")
        ]
        gained = [
            row[f"{split}_gain"].get(name, {}).get(part)
            for split in SPLITS
            for name in found["shown"]
            for part in ("mean", "spread", "reach")
        ]
        seconds = [row["train_seconds"][part] for part in ("mean", "spread")]
        writer.writerow(
            [
                row["strategy"],
                len(row["seeds"]),
                row["corrected"],
                *shown,
                *gained,
                *seconds,
                reasons.pop(row["strategy"], ""),
            ]
        )
    blanks = [""] * (len(columns) + len(gains) + 3)
    writer.writerows([name, 0, *blanks, why] for name, why in reasons.items())
    return text.getvalue()
