"""The page of `zoo bench`: a table and charts of throughput against accuracy, memory, and the roofline."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.disk import write_whole
from zoo.grid.rows import Row
from zoo.report.pictures import COLOURS, GREY, data_uri, dress

COLUMNS = {
    "images_per_second": "images/s",
    "images_per_second_p10": "10 %",
    "images_per_second_p90": "90 %",
    "data_ms": "data ms",
    "forward_ms": "forward ms",
    "backward_ms": "backward ms",
    "optimiser_ms": "optimiser ms",
    "prefix_images_per_second": "prefix images/s",
    "ten_epochs_images_per_second": "images/s, 10 epochs",
    "peak_mib": "peak MiB",
    "roofline_fraction": "of roofline",
    "flop_fraction": "of FLOPs",
    "train_flops_over_forward": "FLOPs / forward",
    "forward_gmacs": "GMACs",
    "parameters": "parameters",
    "trainable_parameters": "trainable",
    "top1_percent": "top-1",
    "input_px": "input",
    "batch_size": "batch",
    "precision": "precision",
    "layout": "layout",
    "mode": "mode",
    "batchnorm": "BatchNorm",
    "compile_seconds": "compile s",
}
SHORT = (
    "images_per_second",
    "forward_ms",
    "backward_ms",
    "optimiser_ms",
    "prefix_images_per_second",
    "peak_mib",
    "roofline_fraction",
    "precision",
    "layout",
    "mode",
)
"""Columns of the table on a terminal."""


def values(row: Row) -> dict[str, Any]:
    """What the table shows of a row, by column; None where there is nothing."""
    result: Mapping[str, Any] = row.result or {}
    found = {name: result.get(name) for name in COLUMNS}
    steps = result.get("step_ms", {})
    found |= {f"{part}_ms": own for part, own in steps.items()}
    found["peak_mib"] = result.get("peak_allocated_mib", result.get("peak_rss_mib"))
    if result.get("input_px"):
        found["input_px"] = "x".join(map(str, result["input_px"]))
    return found


def text(value: Any) -> str:
    """A value for people: three digits, or as many as stand before the point."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def row_line(row: Row) -> str:
    """A row in one line, for the log."""
    named = f"{row.parameters['backbone']} --freeze {row.parameters['freeze']}"
    return (
        f"{named}: {text(values(row)['images_per_second'])} images/s"
        if row.status == "ok"
        else f"{named}: {row.status}"
    )


def table_lines(rows: Sequence[Row]) -> list[str]:
    """A table for a terminal."""
    lines = [["BACKBONE", "FREEZE", *(COLUMNS[name].upper() for name in SHORT)]]
    for row in rows:
        shown = values(row)
        lines.append(
            [row.parameters["backbone"], row.parameters["freeze"], *(text(shown[name]) for name in SHORT)]
            if row.status == "ok"
            else [row.parameters["backbone"], row.parameters["freeze"], row.status, *[""] * (len(SHORT) - 1)]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def write_bench_page(rows: Sequence[Row], folder: Path) -> tuple[Path, ...]:
    """Write `bench.html`, which stands alone, and its pictures as PNG files beside it.

    Raises:
        RunError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = bench_pictures(rows)
    written = []
    for name, picture in pictures.items():
        written.append(folder / f"{name}.png")
        write_whole(written[-1], picture)
    page = folder / "bench.html"
    write_whole(page, render_bench(rows, pictures))
    return (page, *written)


def render_bench(rows: Sequence[Row], pictures: Mapping[str, bytes]) -> str:
    """The page as HTML."""
    machines = {tuple(sorted(row.context.items())): dict(row.context) for row in rows}
    measured = [(row, [text(values(row)[name]) for name in COLUMNS]) for row in rows if row.status == "ok"]
    return _template().render(
        rows=measured,
        failed=[row for row in rows if row.status != "ok"],
        columns=list(COLUMNS.values()),
        pictures={TITLES[name]: data_uri(picture) for name, picture in pictures.items()},
        machines=list(machines.values()),
        dates=sorted({row.finished[:10] for row in rows}),
    )


@cache
def _template() -> Template:
    loader = PackageLoader("zoo.report", package_path="")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("bench.html.j2")


TITLES = {
    "throughput": "Throughput against published ImageNet accuracy",
    "memory": "Peak memory",
    "roofline": "Share of the roofline",
}


def bench_pictures(rows: Sequence[Row]) -> dict[str, bytes]:
    """PNG files by name; a chart for which no row has values is left out."""
    good = [row for row in rows if row.status == "ok"]
    found: dict[str, bytes] = {}
    if points := [row for row in good if values(row)["top1_percent"] is not None]:
        found["throughput"] = _scatter(points)
    if points := [row for row in good if values(row)["peak_mib"] is not None]:
        found["memory"] = _bars(points, "peak_mib", "MiB")
    if points := [row for row in good if values(row)["roofline_fraction"] is not None]:
        found["roofline"] = _bars(points, "roofline_fraction", "roofline's time over measured time")
    return found


def _policies(rows: Sequence[Row]) -> dict[str, str]:
    """A colour for each policy."""
    names = dict.fromkeys(row.parameters["freeze"] for row in rows)
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def _scatter(rows: Sequence[Row]) -> bytes:
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for policy, colour in _policies(rows).items():
        own = [values(row) for row in rows if row.parameters["freeze"] == policy]
        speeds = [each["ten_epochs_images_per_second"] for each in own]
        axes.scatter(speeds, [each["top1_percent"] for each in own], color=colour, s=28, label=policy)
    for row in rows:
        if row.parameters["freeze"] == rows[0].parameters["freeze"]:
            shown = values(row)
            place = (shown["ten_epochs_images_per_second"], shown["top1_percent"])
            axes.annotate(row.parameters["backbone"].partition("/")[2], place, fontsize=7, color=GREY)
    axes.set_xscale("log")
    axes.set_xlabel("training images a second over ten epochs, prefix included", fontsize=9)
    axes.set_ylabel("ImageNet top-1 as published, %", fontsize=9)
    return _png(figure, axes)


def _bars(rows: Sequence[Row], value: str, label: str) -> bytes:
    backbones = list(dict.fromkeys(row.parameters["backbone"] for row in rows))
    policies = _policies(rows)
    figure = Figure(figsize=(8.0, 1.2 + 0.16 * len(backbones) * (len(policies) + 1)), layout="constrained")
    axes, height = figure.add_subplot(), 0.8 / len(policies)
    for place, (policy, colour) in enumerate(policies.items()):
        own = [row for row in rows if row.parameters["freeze"] == policy]
        at = [backbones.index(row.parameters["backbone"]) + (place - (len(policies) - 1) / 2) * height for row in own]
        axes.barh(at, [values(row)[value] for row in own], height=height, color=colour, label=policy)
    axes.set_yticks(range(len(backbones)), backbones)
    axes.invert_yaxis()
    axes.set_xlabel(label, fontsize=9)
    return _png(figure, axes)


def _png(figure: Figure, axes: Axes) -> bytes:
    dress(axes)
    axes.legend(title="freeze", fontsize=8, title_fontsize=8, frameon=False)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=150, metadata={"Software": None})
    return held.getvalue()
