"""The picture of a comparison: what each strategy gains over plain training, on validation and on test rows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from zoo.report.pictures import COLOURS, GREY, drawn_text, dress
from zoo.report.scores import words

OFFSETS = {"val": -0.16, "test": 0.16}
NAMES = {"val": "validation rows, by which one is chosen", "test": "test rows"}


def gain_picture(found: Mapping[str, Any]) -> bytes:
    """A PNG: for each strategy the mean difference of the metric to plain training, with its 95 % interval.

    Args:
        found: the content of `compare.json`.
    """
    rows = [row for row in found["strategies"] if row["val_gain"] or row["test_gain"]]
    figure = Figure(figsize=(7.6, 1.3 + 0.34 * max(1, len(rows))), layout="constrained")
    axes, metric = figure.add_subplot(), found["metric"]
    for (split, offset), colour in zip(OFFSETS.items(), COLOURS, strict=False):
        at = [(place, row[f"{split}_gain"][metric]) for place, row in enumerate(rows) if metric in row[f"{split}_gain"]]
        where = [place + offset for place, _ in at]
        means = [gain["mean"] for _, gain in at]
        reach = [gain["reach"] or 0.0 for _, gain in at]
        axes.errorbar(
            means, where, xerr=reach, fmt="o", ms=4.5, color=colour, elinewidth=1.1, capsize=2, label=NAMES[split]
        )
    axes.axvline(0.0, color=GREY, lw=1.2, zorder=0)
    axes.set_yticks(range(len(rows)), [drawn_text(row["strategy"]) for row in rows])
    axes.invert_yaxis()
    dress(axes)
    axes.tick_params(axis="y", labelcolor="black", labelsize=8)
    axes.set_xlabel(f"{drawn_text(words(metric))}, difference to plain training", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=GREY, loc="best")
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=150, metadata={"Software": None})
    return held.getvalue()
