"""The picture of a ranking: the metric of each backbone over its speed, and the front that none of the others beats."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

from matplotlib.figure import Figure

from zoo.report.pictures import COLOURS, GREY, dress
from zoo.report.scores import words

LABELLED = 12
"""At most so many points off the front are named."""


def pareto_picture(points: Sequence[tuple[str, float, float, float]], front: Collection[str], metric: str) -> bytes:
    """A PNG.

    Args:
        points: of each backbone its name, images a second, the metric, and its spread over the folds; the best first.
        front: names of those on the Pareto front.
        metric: its name.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    ahead = sorted((speed, value) for name, speed, value, _ in points if name in front)
    axes.plot([x for x, _ in ahead], [y for _, y in ahead], color=COLOURS[0], lw=1.2, zorder=1, label="Pareto front")
    named = 0
    for name, speed, value, spread in points:
        own = name in front
        colour = COLOURS[0] if own else GREY
        axes.errorbar(
            [speed], [value], yerr=[spread], fmt="o", ms=5, color=colour, elinewidth=0.8, capsize=2, alpha=0.9
        )
        named += not own
        if own or named <= LABELLED:
            axes.annotate(name, (speed, value), xytext=(5, 4), textcoords="offset points", fontsize=7, color=colour)
    axes.set_xscale("log")
    dress(axes)
    axes.set_xlabel("images a second through the frozen backbone, on this machine", fontsize=9)
    axes.set_ylabel(f"{words(metric)}, cross-validated on training rows", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=GREY)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=150, metadata={"Software": None})
    return held.getvalue()
