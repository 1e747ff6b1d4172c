"""`zoo info`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from zoo.cli.output import parse, write, write_json
from zoo.config import InfoConfig

if TYPE_CHECKING:
    from zoo.jobs.listing import Info


def run(words: Sequence[str]) -> None:
    """Show one backbone."""
    from zoo.jobs.listing import info

    config = parse(InfoConfig, "info", words)
    found = info(config.name, config.freeze)
    if config.json:
        write_json(asdict(found))
        return
    _show(found)


def _show(found: Info) -> None:
    spec = found.input
    write(found.name)
    write(f"  parameters  {found.parameters:,} ({found.classifier_parameters:,} in the classifier)")
    write(f"  input       {spec['size'][0]}x{spec['size'][1]}, {spec['interpolation']}, {spec['crop']} crop")
    write(f"  features    {', '.join(f'{name} ({width})' for name, width in found.features.items())}")
    write(f"  weights     {', '.join(found.tags) or 'none: random only'}")
    write(f"  licence     {found.licence or 'not stated by the library'}")
    for note in found.notes:
        write(f"  note        {note}")
    write(f"  stages under --freeze {found.freeze}:")
    width = max(len(stage.name) for stage in found.stages)
    for stage in found.stages:
        state = "trains" if stage.trainable else "frozen"
        write(f"    {stage.name:<{width}}  {stage.role:<5}  {stage.parameters:>13,}  {state}")
    write(f"    {'head':<{width}}  {'':<5}  {'':>13}  trains")
