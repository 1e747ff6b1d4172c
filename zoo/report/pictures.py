"""Pictures inside the page: curves as SVG, thumbnails as data URIs. Nothing is fetched when the page is read."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zoo.report.scores import words

COLOURS = ("#3b76c4", "#d9782d", "#4a9a5f", "#8e5bb5", "#b8475a", "#5c9ea8")
GREY = "#8a929c"
LOSSES = {"train_loss": "training rows", "val_loss": "validation rows"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture of curves over epochs; `legend` holds (label, colour) of each, for the page to write."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]


def training_curves(
    history: Sequence[Mapping[str, Any]], best_epoch: int | None = None, borders: Sequence[int] = ()
) -> list[Panel]:
    """Losses, validation metrics and the learning rate over epochs; a panel without any value is left out.

    Args:
        history: a row per epoch: `epoch`, `train_loss`, `val_loss`, `<task>/<metric>`, perhaps `mean` of these, and
            `learning_rate`; a value may be None.
        best_epoch: marked by a dashed line.
        borders: epochs after which something else trains, marked by dotted lines.
    """
    metrics = dict.fromkeys(key for row in history for key in row if "/" in key or key == "mean")
    wanted = (
        ("Loss", LOSSES),
        ("Metrics of the validation rows", {key: _words(key) for key in metrics}),
        ("Learning rate", {"learning_rate": "of the head, when the epoch ends"}),
    )
    panels = []
    for title, labels in wanted:
        series = {label: _series(history, key) for key, label in labels.items()}
        series = {label: points for label, points in series.items() if points}
        if series:
            legend = tuple((label, COLOURS[index % len(COLOURS)]) for index, label in enumerate(series))
            svg = _draw(list(series.values()), [colour for _, colour in legend], best_epoch, borders)
            panels.append(Panel(title=title, svg=svg, legend=legend))
    return panels


def _words(key: str) -> str:
    # The name of a class may hold a slash, as in `defect/recall(1/3)`.
    if key == "mean":
        return "their mean, which chooses the epoch"
    found = re.fullmatch(r"(.*)/(\w+(?:\(.*\))?)", key, flags=re.DOTALL)
    return f"{found[1]} · {words(found[2])}" if found else key


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(row["epoch"], row[key]) for row in history if row.get(key) is not None]


def _draw(
    series: Sequence[Sequence[tuple[int, float]]],
    colours: Sequence[str],
    best_epoch: int | None,
    borders: Sequence[int],
) -> Markup:
    # No pyplot, which would keep the figure. No label of the user's either: the page writes them, in any script.
    figure = Figure(figsize=(4.8, 2.7), layout="constrained")
    axes = figure.add_subplot()
    for points, colour in zip(series, colours, strict=True):
        style = "o-" if len(points) < 3 else "-"
        axes.plot([epoch for epoch, _ in points], [value for _, value in points], style, color=colour, lw=1.8)
    if best_epoch is not None:
        axes.axvline(best_epoch, color=GREY, lw=1, ls="--", zorder=0)
    for epoch in borders:
        axes.axvline(epoch + 0.5, color=GREY, lw=1.2, ls=":", zorder=0)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    dress(axes)
    return svg(figure)


def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy by confidence (DeGroot & Fienberg 1983), a dot for each bin with rows, its area their number.

    Args:
        bins: `rows`, `confidence` and `accuracy` of each; the last two None where there are no rows.
    """
    figure = Figure(figsize=(3.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    filled = [each for each in bins if each["rows"]]
    most = max(each["rows"] for each in filled)
    x, y = ([each[key] for each in filled] for key in ("confidence", "accuracy"))
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", zorder=0)
    axes.plot(x, y, color=COLOURS[0], lw=1.2, alpha=0.5)
    axes.scatter(x, y, s=[8 + 112 * each["rows"] / most for each in filled], color=COLOURS[0], zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(-0.03, 1.03)
    dress(axes)
    axes.set_xlabel("probability of the predicted class", fontsize=9)
    axes.set_ylabel("share that is right", fontsize=9)
    return svg(figure)


def range_diagram(ranges: Sequence[Mapping[str, Any]]) -> Markup:
    """Predicted against true numbers, by groups of rows of about the same value.

    Args:
        ranges: means `true` and `predicted` of each, and `low` and `high`, between which most of its predictions lie.
    """
    figure = Figure(figsize=(3.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    x, y, low, high = ([each[key] for each in ranges] for key in ("true", "predicted", "low", "high"))
    ends = [min([*x, *low]), max([*x, *high])]
    axes.plot(ends, ends, color=GREY, lw=1, ls="--", zorder=0)
    axes.vlines(x, low, high, color=COLOURS[0], lw=1.6, alpha=0.5)
    axes.plot(x, y, "o", color=COLOURS[0], ms=5, zorder=3)
    dress(axes)
    axes.set_xlabel("true value", fontsize=9)
    axes.set_ylabel("predicted", fontsize=9)
    return svg(figure)


def dress(axes: Axes) -> None:
    """The frame that every picture has."""
    axes.tick_params(labelsize=9, color=GREY)
    axes.grid(visible=True, color=GREY, alpha=0.2, lw=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def drawn_text(text: str, longest: int = 48) -> str:
    """Text of the user's for a picture: no formula, however long or full of dollars it is."""
    short = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return short.replace("$", r"\$")


def svg(figure: Figure) -> Markup:
    """A figure for a page: without labels of the user's, which the page writes."""
    held = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # Text stays text: small, sharp, in the page's font and colour. The salt makes the same run give the same page.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "zoo"}):
        figure.savefig(held, format="svg", transparent=True, metadata=nothing)
    text = held.getvalue()
    text = re.sub(r"<style.*?</style>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)
    # A width and height in points would keep the picture from shrinking with a narrow page.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 class="curves"', text, count=1)
    return Markup(text)  # noqa: S704 - drawn above from numbers alone


def data_uri(picture: bytes) -> str:
    """A JPEG or PNG file as a `data:` URI.

    Raises:
        ValueError: the bytes are of neither kind.
    """
    kinds = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
    for start, kind in kinds.items():
        if picture.startswith(start):
            return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
    raise ValueError("a thumbnail must be the bytes of a JPEG or PNG file")
