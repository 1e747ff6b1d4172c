"""The picture of one class's learning curve: what was measured, the fit with its band, dashed where extrapolated."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from zoo.metrics.learning_curve import Curve
from zoo.report.pictures import COLOURS, GREY, dress, svg

REACH = 4
"""The picture ends at so many times the rows there are."""


def curve_picture(curve: Curve, target: float) -> Markup:
    """Recall over training rows of the class, as SVG.

    Args:
        curve: of the class.
        target: recall that is marked by a dotted line.
    """
    sizes, recalls = np.asarray(curve.measured.sizes, dtype=np.float64), curve.recalls
    figure = Figure(figsize=(4.8, 2.9), layout="constrained")
    axes = figure.add_subplot()
    inside = np.geomspace(sizes[0], sizes[-1], 60)
    beyond = np.geomspace(sizes[-1], REACH * sizes[-1], 40)
    for rows, style, alpha in ((inside, "-", 0.22), (beyond, "--", 0.1)):
        low, high = curve.band(rows)
        axes.fill_between(rows, low.clip(0, 1), high.clip(0, 1), color=COLOURS[0], alpha=alpha, lw=0)
        axes.plot(rows, 1 - curve.law.error(rows)[0], style, color=COLOURS[0], lw=1.8)
    mean = recalls.mean(axis=1)
    spread = np.abs(np.stack([recalls.min(axis=1), recalls.max(axis=1)]) - mean)
    axes.errorbar(sizes, mean, yerr=spread, fmt="o", ms=4.5, color=COLOURS[1], lw=1.2)
    axes.axhline(target, color=GREY, lw=1.2, ls=":", zorder=0)
    axes.axvline(sizes[-1], color=GREY, lw=1, zorder=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training rows of the class", fontsize=9)
    axes.set_ylabel("recall", fontsize=9)
    dress(axes)
    return svg(figure)
