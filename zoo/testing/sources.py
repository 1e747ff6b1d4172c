"""What a source of backbones promises as a whole, whatever its single backbones do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.registry.origins import Disk
from zoo.specs import BackboneEntry, BackboneSource, Weights
from zoo.testing.backbones import CHECKS
from zoo.testing.check import Check, NotApplicable, listed, require


def source_checks(source: BackboneSource) -> list[Check]:
    """The checks of a source as a whole."""
    subject = f"source {source.name}"
    return [Check(subject=subject, name=name, run=partial(run, source)) for name, run in SOURCE_CHECKS.items()]


def lists_entries(source: BackboneSource) -> None:
    """`entries` gives records, each under a name of its own, the same ones each time."""
    entries = list(source.entries())
    require(bool(entries), "entries() lists nothing")
    wrong = [entry for entry in entries if not isinstance(entry, BackboneEntry)]
    require(not wrong, f"entries() gave {wrong[:1]!r}, which is no BackboneEntry")
    names = [entry.name for entry in entries]
    twice = {name for name in names if names.count(name) > 1}
    require(not twice, f"listed twice: {listed(twice)}")
    require(names == [entry.name for entry in source.entries()], "entries() lists other names the second time")


def refuses_unknown_model(source: BackboneSource) -> None:
    """A model that is not there is refused by name."""
    _refused(source, "no-such-model", None, UnknownNameError)


def refuses_unknown_tag(source: BackboneSource) -> None:
    """A tag that is not there is refused by name, and never replaced by another one or by random weights."""
    model = next(iter(source.entries())).name
    _refused(source, model, "no-such-tag", WeightsError)


def _refused(source: BackboneSource, model: str, tag: str | None, wanted: type[ZooError]) -> None:
    asked = f"build({model!r}, {tag!r})"
    try:
        source.build(model, tag)
    except wanted as error:
        missing = tag or model
        require(missing in str(error), f"{asked}: the message does not say what is missing: {error}")
        return
    except Exception as error:
        require(False, f"{asked} raises {type(error).__name__}, not {wanted.__name__}: {error}")
    require(False, f"{asked} built something instead of raising {wanted.__name__}")


def exclusions_name_backbones(source: BackboneSource) -> None:
    """Each exclusion names a backbone and a check that there are, and states a reason."""
    names = {entry.name for entry in source.entries()}
    for model, reasons in source.exclusions.items():
        require(model in names, f"excluded, but not listed: {model}")
        unknown = reasons.keys() - CHECKS.keys()
        require(not unknown, f"{model} is excluded from checks that there are not: {listed(unknown)}")
        require(all(reason.strip() for reason in reasons.values()), f"{model} is excluded without a reason")


def loads_weights_on_disk(source: BackboneSource) -> None:
    """Weights that lie on this disk are loaded: the same each time, and not the random ones."""
    disk = Disk()
    entries = [entry for entry in source.entries() if any(disk.holds(weights.origin) for weights in entry.weights)]
    if not entries:
        raise NotApplicable("none of its weights lie on this disk")
    entry = min(entries, key=lambda entry: (entry.parameters or math.inf, entry.name))
    for weights in entry.weights:
        if disk.holds(weights.origin):
            _loads(source, entry.name, weights)


def _loads(source: BackboneSource, model: str, weights: Weights) -> None:
    name = f"{model}.{weights.tag}"
    first, again = source.build(model, weights.tag), source.build(model, weights.tag)
    random = source.build(model, None)
    require(first.weights == weights.tag, f"{name} says that its weights are {first.weights!r}")
    require(first.licence == weights.licence, f"{name} is listed as {weights.licence!r} and built as {first.licence!r}")
    size = first.input.size[0]
    require(weights.input_size in (None, size), f"{name} is listed for {weights.input_size} pixels, built for {size}")
    one, two, other = (dict(view.module.named_parameters()) for view in (first, again, random))
    moved = [key for key in one if not torch.equal(one[key], two[key])]
    require(not moved, f"{name} is another network each time it is built: {listed(moved)}")
    names = [key for stage in first.stages for key in stage.parameters if one[key].ndim > 1]
    same = [key for key in names if key in other and torch.equal(one[key], other[key])]
    # Some start at zero and may have been kept there; hardly half of the matrices and kernels.
    require(2 * len(same) < len(names), f"{name} has the values of random weights: {listed(same)}")


SOURCE_CHECKS: dict[str, Callable[[BackboneSource], None]] = {
    "its-list-names-each-backbone-once": lists_entries,
    "an-unknown-model-is-refused": refuses_unknown_model,
    "an-unknown-tag-is-refused": refuses_unknown_tag,
    "weights-on-this-disk-are-loaded": loads_weights_on_disk,
    "exclusions-name-a-backbone-a-check-and-a-reason": exclusions_name_backbones,
}
