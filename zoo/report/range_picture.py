"""The picture of a learning-rate range test: the loss over the rate, raw and smoothed, and what is suggested."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from zoo.report.pictures import COLOURS, GREY, dress

HEADROOM = 0.5
"""Of the loss's range before it explodes, so much is shown above its beginning."""


def range_picture(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], chosen: float | None, axis: str
) -> bytes:
    """A PNG.

    Args:
        rates: one a step, rising.
        losses: of the same steps.
        smoothed: the same without the noise.
        chosen: the rate that is suggested, marked; None for none.
        axis: what the rates are of.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=COLOURS[0], lw=1, alpha=0.35, label="loss of each step")
    axes.plot(rates, smoothed, color=COLOURS[0], lw=1.8, label="smoothed")
    if chosen is not None:
        height = float(np.interp(np.log(chosen), np.log(rates), smoothed))
        axes.axvline(chosen, color=COLOURS[1], lw=1, ls="--", zorder=0)
        axes.plot([chosen], [height], "o", color=COLOURS[1], label=f"suggested: {chosen:.2g}")
    axes.set_xscale("log")
    axes.set_ylim(*_limits(losses))
    axes.set_xlabel(axis, fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="lower left", labelcolor=GREY)
    dress(axes)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=150, metadata={"Software": None})
    return held.getvalue()


def _limits(losses: Sequence[float]) -> tuple[float, float]:
    """The part of the loss that is worth seeing: where it explodes, the curve may leave the picture."""
    if not losses:
        return 0.0, 1.0
    low, top = min(losses), max(losses[: max(5, len(losses) // 2)])
    room = max(top - low, 1e-6)
    return low - 0.05 * room, min(max(losses) + 0.05 * room, top + HEADROOM * room)
