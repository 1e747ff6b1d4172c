"""The page of `zoo advise`: learning curves by class, near-duplicates and doubtful labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.metrics.learning_curve import Curve
from zoo.report.curve_pictures import REACH, curve_picture
from zoo.report.page import environment
from zoo.report.pictures import data_uri

SHOWN = 30
"""Pairs of each kind, and labels, that the page shows; advise.json has all."""

PICTURES = 24
"""Curves that the page draws, of the classes that gain most."""


def render_advice(found: Mapping[str, Any], curves: Mapping[str, Curve], thumbnails: Mapping[int, bytes]) -> str:
    """The page as HTML.

    Args:
        found: the content of `advise.json`.
        curves: by class.
        thumbnails: JPEG or PNG files by row, of the first `SHOWN` pairs of each kind and labels.
    """
    drawn = list(found["classes"])[:PICTURES]
    return (
        environment()
        .get_template("advise.html.j2")
        .render(
            found=found,
            pictures={name: curve_picture(curves[name], found["target_recall"]) for name in drawn},
            needs={name: need_text(own["need"]) for name, own in found["classes"].items()},
            thumbnails={row: data_uri(picture) for row, picture in thumbnails.items()},
            shown=SHOWN,
            reach=REACH,
        )
    )


def need_text(need: Mapping[str, Any]) -> str:
    """How many new rows a class needs, in words."""
    if need["state"] == "reached":
        return f"none: {need['why']}"
    if need["state"] == "unknown":
        return f"cannot be said from these data: {need['why']}"
    high = "more than can be said" if need["high"] is None else f"{need['high']:,}"
    return f"about {need['more']:,} new images ({need['low']:,} to {high}), {need['why']}"
