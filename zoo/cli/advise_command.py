"""`zoo advise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.cli.output import parse, write, write_json
from zoo.config import AdviseConfig


def run(words: Sequence[str]) -> None:
    """Advise on the data, and say it in a few lines."""
    config = parse(AdviseConfig, "advise", words)
    from zoo.jobs.advise import run_advice
    from zoo.jobs.progress import Reporter

    advice = run_advice(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(advice.found)
        return
    _show(advice.found)
    write(f"page        {advice.folder}/advise.html")


def _show(found: Mapping[str, Any]) -> None:
    from zoo.report.advise_page import need_text

    write(f"{found['data']}, {found['target']}, by features of {found['backbone']} ({found['weights']})")
    for note in found["notes"]:
        write(f"  note        {note}")
    for name, own in found["classes"].items():
        gain = own["gain"]
        interval = f"({gain['low']:.3f} to {gain['high']:.3f})" + ("" if own["held"] else "; its curve failed its test")
        write(f"  {name}: {own['sizes'][-1]} training rows, recall {own['recall']:.3f} of {own['validation_rows']}")
        write(f"    {found['more']} more: {gain['recall']:+.3f} {interval}")
        write(f"    to recall {found['target_recall']:g}: {need_text(own['need'])}")
    for why in found["refused"].values():
        write(f"  no curve    {why}")
    pairs = ", ".join(f"{len(pairs)} {kind}" for kind, pairs in found["duplicates"]["pairs"].items())
    write(f"  duplicates  {pairs} (cosine at least {found['duplicates']['cosine']:g}, or equal files)")
    labels = found["labels"]
    count = f"{len(labels['rows'])} of {labels['judged']} rows" if labels["looked"] else "not looked for"
    write(f"  labels      that the features contradict: {count}")
    write(f"collect     {found['advice']}")
