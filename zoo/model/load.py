"""`zoo.load` and `zoo.adapt_head`: a backbone by name with a fresh head, and a fresh head for a network of your own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from zoo.errors import OptionError, ZooError
from zoo.model.freeze import freeze
from zoo.model.network import FineTuneModel, TaskHeads
from zoo.model.view import build_view, check_view, describe
from zoo.specs import BackboneView, Call, FeatureKind, Task, parse_options


def load(
    name: str,
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    weights: str | None = None,
    freeze: str = "none",
    features: str | None = None,
    head: str = "linear",
) -> FineTuneModel:
    """A backbone by its name, its classifier replaced by a fresh head, frozen as asked.

    Args:
        name: `source/model` or `source/model.tag`, such as `timm/resnet50.a1_in1k`.
        num_classes: number of classes; or give `classes`.
        classes: names of the classes in the order of the outputs.
        weights: a weight tag, `none` for random weights, or None for the default pretrained ones.
        freeze: a freeze policy.
        features: a feature kind of the backbone; None for its default.
        head: a head in the grammar of options.

    Raises:
        ZooError: unknown names, weights that cannot be had, or an option that does not parse.
    """
    names = _class_names(num_classes, classes)
    view = strip(build_view(name, weights))
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


def _class_names(num_classes: int | None, classes: Sequence[str] | None) -> tuple[str, ...]:
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
    view.reset_classifier(view.module, 0)
    kept = {name for name, _ in view.module.named_parameters()}
    lost = [name for stage in view.stages for name in stage.parameters if name not in kept]
    if lost:
        raise ZooError(f"{view.name}: taking the classifier off removed pretrained parameters: {', '.join(lost[:5])}")
    bare = dataclasses.replace(view, classifier=(), classifier_modules=(), auxiliary=(), auxiliary_modules=())
    check_view(bare)
    return bare


def feature_of(view: BackboneView, kind: str | None) -> FeatureKind:
    """The feature kind of this name, or the default one.

    Raises:
        ZooError: the backbone does not offer it, or a head cannot take it.
    """
    try:
        feature = view.feature(kind)
    except ValueError as error:
        raise ZooError(str(error)) from None
    if feature.name == "tokens":
        raise ZooError("a linear head takes one vector an image; tokens need a head that pools them")
    return feature


def assemble(
    view: BackboneView, tasks: Sequence[Task], *, kind: str | None = None, covariates: int = 0, head: Call | None = None
) -> FineTuneModel:
    """Put fresh heads on a stripped view; they take features of `kind` joined to `covariates` columns."""
    feature = feature_of(view, kind)
    return FineTuneModel(view, TaskHeads(tasks, feature.width, covariates=covariates, head=head), feature.name)


def adapt_head(model: nn.Module, classes: int | Sequence[str]) -> nn.Module:
    """Replace the classifier of a network by a fresh one, in place; everything pretrained stays.

    Auxiliary classifiers are replaced too. A frozen network stays frozen, and its new classifier trains.

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
        device = old.standardise.mean.device
        task = Task(name=old.tasks[0].name if len(old.tasks) == 1 else "label", classes=names)
        model.heads = TaskHeads([task], old.width, covariates=old.covariates, head=old.call).to(device)
        return model
    view = describe(model)
    parameter = next(model.parameters())
    view.reset_classifier(model, len(names))
    return model.to(device=parameter.device)
