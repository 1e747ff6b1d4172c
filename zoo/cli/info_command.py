"""`zoo info`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from zoo.cli.output import parse, write, write_json
from zoo.config import InfoConfig

if TYPE_CHECKING:
    from zoo.jobs.info import Info, WeightsInfo
    from zoo.jobs.timeline import IntervalInfo, StageInterval


def run(words: Sequence[str]) -> None:
    """Show one backbone."""
    config = parse(InfoConfig, "info", words)
    from zoo.jobs.info import info

    found = info(
        config.name,
        config.freeze,
        config.size,
        epochs=config.epochs,
        batchnorm=config.batchnorm,
        optimiser=config.optimiser,
        lr=config.lr,
        backbone_lr=config.backbone_lr,
        layer_decay=config.layer_decay,
    )
    if config.json:
        write_json(asdict(found))
        return
    write("\n".join([found.name, *_facts(found), *_all_weights(found), *_timeline(found, config)]))


def _facts(found: Info) -> Iterator[str]:
    from zoo.jobs.filters import short_gmacs

    library = f", networks of {found.library} {found.library_version}" if found.library != found.distribution else ""
    auxiliary = f", {found.auxiliary_parameters:,} in auxiliary classifiers" if found.auxiliary_parameters else ""
    classifier = f"{found.classifier_parameters:,} in the classifier ({', '.join(found.classifier) or 'none'})"
    yield f"  offered by  {found.distribution} {found.version} as {found.source}{library}"
    yield f"  family      {found.family or 'not stated'}"
    yield f"  parameters  {found.parameters:,}, of which {classifier}{auxiliary}"
    yield f"  compute     {'not stated' if found.gmacs is None else f'{short_gmacs(found.gmacs)} GMACs for one image'}"
    yield from _input(found)
    yield f"  features    {', '.join(f'{name} ({width})' for name, width in found.features.items())}"
    own = next((each for each in found.weights if each.tag == found.tag), None)
    if own is None:
        yield "  weights     none: random only"
    else:
        yield f"  weights     {own.tag}, {'on this disk' if own.on_disk else 'not on this disk'}"
        yield f"  licence     {_licence(own)}"
        yield f"  come from   {own.comes_from}"
        if own.without_network and not own.on_disk:
            yield f"  no network  {own.without_network}"
    for note in found.notes:
        yield f"  note        {note}"


def _input(found: Info) -> Iterator[str]:
    spec = found.input
    crop = "squeezed to its shape" if spec["crop"] == "squash" else "center crop"
    crop += f" of {spec['resize']}" if spec["resize"] and spec["crop"] == "center" else ""
    size = f"{spec['size'][0]}x{spec['size'][1]}"
    yield f"  input       {size}, {spec['interpolation']}, {crop}; takes {spec['sizes']}"
    yield f"              mean {_numbers(spec['mean'])}, std {_numbers(spec['std'])}"
    if found.tag not in (None, spec["of"]):
        own = next(each for each in found.weights if each.tag == found.tag)
        size = f"{own.tag} states {own.input_size} pixels" if own.input_size else f"{own.tag} states no size"
        yield f"              {size}; the rest is that of {spec['of']}, loading reads what {own.tag} has"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _all_weights(found: Info) -> Iterator[str]:
    if len(found.weights) < 2:
        return
    yield f"  all {len(found.weights)} sets of weights:"
    cells = [("TAG", "INPUT", "TOP-1", "DISK", "LICENCE", "FROM"), *(_cells(each) for each in found.weights)]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    for line in cells:
        yield "    " + "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[5]])


def _cells(weights: WeightsInfo) -> tuple[str, ...]:
    return (
        weights.tag,
        "-" if weights.input_size is None else str(weights.input_size),
        "-" if weights.top1 is None else f"{weights.top1:.1f}",
        "yes" if weights.on_disk else "-",
        _licence(weights),
        weights.comes_from,
    )


def _licence(weights: WeightsInfo) -> str:
    return f"{weights.licence} ({weights.licence_class})" if weights.licence else "not stated by the library"


def _timeline(found: Info, config: InfoConfig) -> Iterator[str]:
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    yield f"  training    --freeze {found.freeze}, {epochs} of {config.optimiser}"
    yield "              rates are full ones, before schedule and warm-up"
    for interval in found.intervals:
        when = f"epochs {interval.first} to {interval.last}"
        when = f"epoch {interval.first}" if interval.first == interval.last else when
        yield f"  {when}: --freeze {interval.policy}"
        yield from _interval(interval, next(iter(found.features.values())))


def _interval(interval: IntervalInfo, features: int) -> Iterator[str]:
    lines = [("STAGE", "PARAMETERS", "TRAINABLE", "SHARE", "RATE", "BATCHNORM")]
    for stage in interval.stages:
        counts = _counts(stage.parameters, stage.trainable)
        lines.append((stage.name, *counts, _rates(stage), _statistics(stage, interval.batchnorm)))
    norms = any(stage.norms for stage in interval.stages)
    lines.append(("together", *_counts(interval.parameters, interval.trainable), "", ""))
    a_class = f"{features + 1:,} a class"
    lines.append(("head", a_class, "all", "100.0%", _rate(interval.head_rate), ""))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(line[column].rjust(widths[column]) for column in (1, 2, 3))]
        cells += [line[4].ljust(widths[4]), *([line[5]] if norms else [])]
        yield "    " + "  ".join(cells).rstrip()


def _counts(parameters: int, trainable: int) -> tuple[str, str, str]:
    share = f"{trainable / parameters:.1%}" if trainable else "-"
    return f"{parameters:,}", f"{trainable:,}" if trainable else "frozen", share


def _rates(stage: StageInterval) -> str:
    if stage.lowest_rate is None or stage.highest_rate is None:
        return "-"
    low, high = _rate(stage.lowest_rate), _rate(stage.highest_rate)
    return low if low == high else f"{low} to {high}"


def _rate(rate: float) -> str:
    """Two or three digits, `6.87e-5`: a column of rates over several powers of ten is read by the powers."""
    digits, power = f"{rate:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def _statistics(stage: StageInterval, mode: str) -> str:
    if not stage.norms:
        return "-"
    if not stage.moving:
        return "recalibrated" if mode == "recalibrate" else "fixed"
    return "moving" if stage.moving == stage.norms else f"{stage.moving} of {stage.norms} moving"
