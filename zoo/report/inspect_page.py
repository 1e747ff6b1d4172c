"""What `zoo inspect` shows: lines for a terminal, and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.report.page import environment
from zoo.report.pictures import data_uri
from zoo.report.scores import SPLITS

SHOWN = 24
"""Images with holes, bad files and groups of equal files that the page shows; inspect.json has all."""

LISTED = 8
"""Of bad files, and of classes, on a terminal."""


def render_inspection(
    found: Mapping[str, Any],
    matrix: bytes | None,
    places: Mapping[str, bytes],
    holed: Sequence[tuple[str, str, bytes]],
) -> str:
    """The page as HTML.

    Args:
        found: the content of `inspect.json`.
        matrix: a PNG, of `zoo.report.hole_pictures.hole_matrix`.
        places: PNGs by channel, of `zoo.report.hole_pictures.hole_places`.
        holed: of images with holes: file, what is missing, and a JPEG.
    """
    return (
        environment()
        .get_template("inspect.html.j2")
        .render(
            found=found,
            matrix=data_uri(matrix) if matrix else None,
            places={name: data_uri(picture) for name, picture in places.items()},
            holed=[(image, said, data_uri(picture)) for image, said, picture in holed],
            reasons=_reasons(found),
            equal=list(equal_lines(found)),
            shown=SHOWN,
            splits=SPLITS,
        )
    )


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What stands on a terminal."""
    split = found["splits"]
    yield f"{found['data']}: {found['rows']:,} rows; {split['how']}"
    for problem in found["problems"]:
        yield f"  problem     {problem}"
    for target, classes in found["classes"].items():
        yield f"  {target}: {_class_line(classes)}"
    yield from _hole_table(found)
    for reason, count in _reasons(found).items():
        yield f"  bad files   {count} {reason}"
    for bad in found["bad_files"][:LISTED]:
        yield f"              {bad['image']}: {bad['reason']}"
    if len(found["bad_files"]) > LISTED:
        yield f"              and {len(found['bad_files']) - LISTED} more; inspect.json has them all"
    for sentence in equal_lines(found):
        yield f"  equal files {sentence}"
    for note in found["notes"]:
        yield f"  note        {note}"


def equal_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about files that are there more than once."""
    groups = found["equal_files"]
    if not groups:
        return
    rows = sum(len(own["rows"]) for own in groups)
    yield f"{_files(groups)} there more than once, in {rows} rows"
    if across := [own for own in groups if len(own["splits"]) > 1]:
        yield f"{_files(across)} in several splits: figures of held-out rows flatter; --group keeps such rows together"
    if unlike := [own for own in groups if len(own["labels"]) > 1]:
        first = unlike[0]
        listed = " and ".join(first["labels"])
        yield f"{_files(unlike)} there with several labels, such as {first['images'][0]}: {listed}"


def _files(groups: Sequence[Any]) -> str:
    return "1 file is" if len(groups) == 1 else f"{len(groups)} files are"


def _reasons(found: Mapping[str, Any]) -> dict[str, int]:
    return dict(Counter(bad["reason"] for bad in found["bad_files"]).most_common())


def _class_line(classes: Sequence[Mapping[str, Any]]) -> str:
    most = sorted(classes, key=lambda own: -own["rows"])
    said = ", ".join(f"{own['name']} {own['rows']:,}" for own in most[:LISTED])
    more = f" and {len(most) - LISTED} more" if len(most) > LISTED else ""
    skew = f"; {most[0]['rows'] / most[-1]['rows']:.1f} to one" if len(most) > 1 and most[-1]["rows"] else ""
    return f"{said}{more}{skew}" if most else "no label at all"


def _hole_table(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each column with holes, and what the test against the label says below it."""
    if not found["holes"]:
        yield "  holes       none"
        return
    width = max(len(own["column"]) for own in found["holes"])
    titles = ("rows", "share", "train", "val", "test")
    yield f"  holes       {'':<{width}}  " + "  ".join(f"{title:>7}" for title in titles)
    for own in found["holes"]:
        numbers = (
            f"{own['rows']:,}",
            f"{own['rows'] / found['rows']:.1%}",
            *(f"{n:,}" for n in own["splits"].values()),
        )
        yield f"              {own['column']:<{width}}  " + "  ".join(f"{number:>7}" for number in numbers)
    for own in found["holes"]:
        if own["said"]:
            yield f"              {own['said']}"
