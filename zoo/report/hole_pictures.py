"""Pictures of where holes are: rows against columns, and places in the image."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.report.pictures import COLOURS, GREY, drawn_text

LINES = 400
"""Lines of the matrix at most; each is the share of its rows in which the value is missing."""

COLUMNS = 60
"""Columns that are drawn, those with most holes."""

LONGEST = 28
"""Letters of a column's name that are drawn."""

_SHADES = LinearSegmentedColormap.from_list("holes", ["#e8ebef", COLOURS[1]])


def hole_matrix(missing: Mapping[str, NDArray[np.bool_]], parts: Mapping[str, int]) -> bytes | None:
    """A PNG with a line for each few rows and a column for each of the table's that has holes; None where none has.

    Args:
        missing: by column, bool (N,), in the order of `parts`.
        parts: names of splits and their numbers of rows, in order.
    """
    if not missing:
        return None
    most = sorted(missing, key=lambda name: -int(missing[name].sum()))[:COLUMNS]
    names = [name for name in missing if name in most]
    table = np.stack([missing[name] for name in names], axis=1).astype(np.float64)
    edges = np.linspace(0, len(table), min(LINES, len(table)) + 1).round().astype(np.int64)
    shares = np.add.reduceat(table, edges[:-1], axis=0) / np.diff(edges)[:, None]
    figure = Figure(figsize=(1.8 + 0.42 * max(4, len(names)), 5.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(
        shares,
        aspect="auto",
        cmap=_SHADES,
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0, len(names), len(table), 0),
    )
    axes.set_xticks(
        np.arange(len(names)) + 0.5, [drawn_text(name, LONGEST) for name in names], rotation=55, ha="right", fontsize=8
    )
    axes.vlines(np.arange(1, len(names)), 0, len(table), color="white", lw=1.5)
    ends = np.cumsum(list(parts.values()))
    axes.hlines(ends[:-1], 0, len(names), color=GREY, lw=1)
    axes.set_yticks(ends - np.array(list(parts.values())) / 2, list(parts), fontsize=9)
    axes.tick_params(length=0, labelcolor="#333333")
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("share of the rows without a value", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return _png(figure)


def hole_places(shares: NDArray[np.float64]) -> bytes:
    """A PNG of how often each pixel is missing, shares (H, W) of the images with holes."""
    figure = Figure(figsize=(3.0, 2.6), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap=_SHADES, vmin=0, vmax=max(float(shares.max()), 1e-9), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=140, metadata={"Software": None})
    return held.getvalue()
