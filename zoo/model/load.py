"""`zoo.load` and `zoo.adapt_head`: a backbone by name with a fresh head, and a fresh head for a network of your own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from zoo.errors import OptionError, ZooError
from zoo.model.adapt import adapt_input
from zoo.model.freeze import freeze
from zoo.model.network import FineTuneModel, TaskHeads
from zoo.model.view import build_view, check_view, describe
from zoo.registry.guard import guarded_view
from zoo.registry.lookup import HEADS
from zoo.specs import Argument, BackboneView, Call, FeatureKind, Task, bind, parameters_of, parse_options


def load(
    name: str,
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    weights: str | Path | None = None,
    freeze: str = "none",
    features: str | None = None,
    head: str = "linear",
    size: int | tuple[int, int] | None = None,
    channels: int | Sequence[str] | None = None,
) -> FineTuneModel:
    """A backbone by its name, its classifier replaced by a fresh head, frozen as asked.

    Args:
        name: `source/model` or `source/model.tag`, such as `timm/resnet50.a1_in1k`.
        num_classes: number of classes; or give `classes`.
        classes: names of the classes in the order of the outputs.
        weights: a weight tag, a file of weights or the folder of a run, `none` for random weights, or None for the
            default pretrained ones.
        freeze: a freeze policy.
        features: a feature kind of the backbone; None for its default.
        head: a head in the grammar of options.
        size: height and width of the images in pixels, or one number for both; None for that of the weights.
        channels: number of channels of the images, or their names in order, such as ("red", "green", "blue", "nir");
            None for red, green and blue.

    Raises:
        ZooError: unknown names, weights that cannot be had, images that the backbone cannot take, or an option that
            does not parse.
    """
    names = _class_names(num_classes, classes)
    view = strip(adapt_input(build_view(_text("name", name), _spelled(weights)), size=size, channels=channels))
    model = assemble(view, [Task(name="label", classes=names)], kind=features, head=one_head(head))
    _freeze(model, freeze)
    return model


# The name `freeze` is a parameter of `load`.
_freeze = freeze


def one_head(text: str) -> Call:
    """The one head that an option names.

    Raises:
        OptionError: it does not parse, or joins several.
    """
    calls = parse_options(text)
    if len(calls) > 1:
        raise OptionError("one head, please; '+' has no meaning here", text=text, column=calls[1].column)
    return calls[0]


def in_full(head: Call) -> Call:
    """The same head with all its parameters, so that it stays what it is when a release changes a default.

    As it was typed where the grammar of options has no way to write one of them, such as an infinite number.

    Raises:
        OptionError: no plugin offers the head, or it does not take these parameters.
    """
    declared = HEADS.of_call(head).parameters
    bound: Any = bind(head, declared)
    values = {name: getattr(bound, name) for name in parameters_of(declared)}
    full = dataclasses.replace(
        head,
        arguments=tuple(
            Argument(name=name, value=dict(value) if isinstance(value, Mapping) else value, column=0)
            for name, value in values.items()
        ),
    )
    try:
        same = bind(one_head(str(full)), declared) == bound
    except OptionError:
        return head
    return full if same else head


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ZooError(f"{what} is a text, not {value!r}")
    return value


def _spelled(weights: str | Path | None) -> str | None:
    """Weights as text; a path without a folder gets one, so that it is no tag."""
    if weights is None or isinstance(weights, str):
        return weights
    if not isinstance(weights, Path):
        raise ZooError(f"weights are a tag, a path or None, not {weights!r}")
    path = str(weights.expanduser())
    return path if os.sep in path else f".{os.sep}{path}"


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int | None):
        raise ZooError(f"num_classes is a whole number, not {num_classes!r}")
    if isinstance(classes, str) or not isinstance(classes, Sequence | None):
        raise ZooError(f"classes are a list of names, such as ['ok', 'crack'], not {classes!r}")
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ZooError(f"num_classes={num_classes} but {len(classes)} classes are named")
        names = tuple(classes)
    elif num_classes is not None:
        names = tuple(str(index) for index in range(num_classes))
    else:
        raise ZooError("say how many classes there are: num_classes=10, or classes=['ok', 'crack']")
    if len(names) < 2:
        raise ZooError(f"a classifier needs at least two classes, not {len(names)}")
    if len(set(names)) != len(names):
        raise ZooError(f"a class is named twice: {', '.join(names)}")
    return names


def strip(view: BackboneView) -> BackboneView:
    """Take the classifier and auxiliary classifiers off; the module then gives pooled features."""
    with guarded_view(view.name, "reset_classifier"):
        view.reset_classifier(view.module, 0)
    kept = {name for name, _ in view.module.named_parameters()}
    lost = [name for stage in view.stages for name in stage.parameters if name not in kept]
    if lost:
        raise ZooError(f"{view.name}: taking the classifier off removed pretrained parameters: {', '.join(lost[:5])}")
    bare = dataclasses.replace(view, classifier=(), classifier_modules=(), auxiliary=(), auxiliary_modules=())
    check_view(bare)
    return bare


def feature_of(view: BackboneView, kind: str | None, head: Call | None = None) -> FeatureKind:
    """The feature kind of this name, or the first one that the head takes.

    Raises:
        ZooError: the backbone does not offer it, or the head cannot take it; names heads that can.
    """
    record = HEADS.of_call(head or Call(name="linear"))
    fits = [offered for offered in view.features if (offered.name == "tokens") == (record.takes == "tokens")]
    if kind is None and fits:
        return fits[0]
    try:
        feature = view.feature(kind)
    except ValueError as error:
        raise ZooError(str(error)) from None
    if kind is None:
        offered = ", ".join(known.name for known in view.features)
        raise ZooError(
            f"the head {record.name} takes {record.takes}, but {view.name} offers {offered} alone; "
            f"heads that take those: {_heads_for(feature)}"
        )
    if feature in fits:
        return feature
    if record.takes == "tokens":
        raise ZooError(
            f"the head {record.name} takes tokens, not {kind} features; leave the kind of features out, "
            f"or use a head that takes one vector an image: {_heads_for(feature)}"
        )
    raise ZooError(
        f"a {record.name} head takes one vector an image; tokens need a head that pools them: {_heads_for(feature)}"
    )


def _heads_for(feature: FeatureKind) -> str:
    """Names of the heads that take such features."""
    takes = "tokens" if feature.name == "tokens" else "vector"
    return ", ".join(sorted({record.name for _, record in HEADS.items() if record.takes == takes})) or "none"


def assemble(
    view: BackboneView, tasks: Sequence[Task], *, kind: str | None = None, covariates: int = 0, head: Call | None = None
) -> FineTuneModel:
    """Put fresh heads on a stripped view; they take features of `kind` joined to `covariates` columns."""
    feature = feature_of(view, kind, head)
    return FineTuneModel(view, TaskHeads(tasks, feature.width, covariates=covariates, head=head), feature.name)


def adapt_head(model: nn.Module, classes: int | Sequence[str]) -> nn.Module:
    """Replace the classifier of a network by a fresh one, in place; everything pretrained stays.

    Auxiliary classifiers are replaced too. A frozen network stays frozen, and its new classifier trains. A model of
    `zoo.load` keeps what it learned of the mean and the deviation of its features.

    Args:
        model: a model of `zoo.load`, or a network of an installed source (torchvision, timm, …) that you built.
        classes: their number, or their names in the order of the outputs.

    Returns:
        The same model.

    Raises:
        ZooError: fewer than two classes, or a network that no installed source knows.
    """
    names = _class_names(classes if isinstance(classes, int) else None, None if isinstance(classes, int) else classes)
    if isinstance(model, FineTuneModel):
        old = model.heads
        task = Task(name=old.tasks[0].name if len(old.tasks) == 1 else "label", classes=names)
        heads = TaskHeads([task], old.width, covariates=old.covariates, head=old.call)
        model.heads = heads.to(device=old.standardise.mean.device, dtype=old.standardise.mean.dtype)
        model.heads.standardise.load_state_dict(old.standardise.state_dict())
        return model
    view = describe(model)
    parameter = next(model.parameters())
    view.reset_classifier(model, len(names))
    return model.to(device=parameter.device)
