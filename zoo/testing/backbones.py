"""What a backbone promises: the uniform view is true, and freezing by it freezes what it says.

Facts behind these checks: `BackboneView`'s docstring is the contract; each check's docstring says which part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.model.load import strip
from zoo.model.view import check_view
from zoo.specs import BackboneEntry, BackboneSource, BackboneView, FeatureKind
from zoo.testing.check import Check, NotApplicable, listed, require
from zoo.testing.inputs import reads_channels, takes_another_size
from zoo.testing.specimen import BATCH, CLASSES, Specimen

TRAINED = 5_000_000
"""Parameters up to which a network takes a real training step: what that shows does not depend on size."""


def backbone_checks(source: BackboneSource, model: str, specimen: Specimen | None = None) -> list[Check]:
    """The checks of one backbone; they share one built network."""
    subject = f"backbone {source.name}/{model}"
    shared = specimen or Specimen(source, model)
    return [Check(subject=subject, name=name, run=partial(run, shared)) for name, run in CHECKS.items()]


def builds(specimen: Specimen) -> None:
    """`build(model, None)` gives a view that bears its name and says that its weights are random."""
    view = specimen.whole
    wanted = f"{specimen.source.name}/{specimen.model}"
    require(isinstance(view, BackboneView), f"build gave {view!r}, which is no BackboneView")
    require(view.name == wanted, f"the view is named {view.name!r}, not {wanted!r}")
    require(view.weights == "none", f"random weights are called {view.weights!r}, not 'none'")
    require(not view.licence, f"random weights bear the licence {view.licence!r}")
    require(isinstance(view.module, nn.Module), f"module is {view.module!r}, which is no torch module")


def covers(specimen: Specimen) -> None:
    """Stages, classifier and auxiliary classifiers hold each parameter exactly once; stem first, neck last."""
    view = specimen.whole
    try:
        check_view(view)
    except ZooError as error:
        require(False, str(error))
    roles = [stage.role for stage in view.stages]
    order = sorted(roles, key=["stem", "stage", "neck"].index)
    require("stage" in roles, f"no stage among {', '.join(view.stage_names)}")
    require(roles == order, f"stages stand in the order {', '.join(roles)}, not stem, stages, neck")
    modules = dict(view.module.named_modules(remove_duplicate=False))
    owned = {path: stage.name for stage in view.stages for path in stage.modules}
    lost = [path for path in [*owned, *view.classifier_modules, *view.auxiliary_modules] if path not in modules]
    require(not lost, f"these modules are not in the network: {listed(lost)}")
    identity = {id(parameter): name for name, parameter in view.module.named_parameters()}  # some stand at two places
    for stage in view.stages:
        held = {identity[id(parameter)] for path in stage.modules for parameter in modules[path].parameters()}
        foreign = held - set(stage.parameters)
        require(not foreign, f"modules of stage {stage.name} hold parameters of others: {listed(foreign)}")


def runs_in_order(specimen: Specimen) -> None:
    """An image passes stem and stages in the order in which they are listed; else nothing could be cut between them.

    A neck may read what earlier stages give as well as the last one, and so be called before that.
    """
    view = specimen.whole
    first: dict[str, int] = {}
    handles = []

    def note(stage: str, module: nn.Module, inputs: object) -> None:
        first.setdefault(stage, len(first))

    for stage in view.stages:
        if stage.role == "neck":
            continue
        hook = partial(note, stage.name)
        parts = [module for path in stage.modules for module in view.module.get_submodule(path).modules()]
        handles += [module.register_forward_pre_hook(hook) for module in parts]
    with torch.no_grad():
        view.extract(view.module, specimen.images(view), view.features[0].name)
    for handle in handles:
        handle.remove()
    listed = [stage.name for stage in view.stages if stage.name in first]
    require(bool(first), "no module of any stage was called")
    require(list(first) == listed, f"listed as {', '.join(listed)}; an image passes {', '.join(first)}")


def classifier_alone(specimen: Specimen) -> None:
    """Another number of classes changes the classifier and auxiliary classifiers and not one parameter beside them."""
    view = specimen.view()
    backbone = {name for stage in view.stages for name in stage.parameters}
    before = {name: tuple(parameter.shape) for name, parameter in view.module.named_parameters()}
    shapes = []
    for outputs in (CLASSES, CLASSES + 1):
        _replace_classifier(view, outputs)
        shapes.append({name: tuple(parameter.shape) for name, parameter in view.module.named_parameters()})
    lost = [name for name in backbone if before[name] != shapes[0].get(name)]
    require(not lost, f"a new classifier changed or removed pretrained parameters: {listed(lost)}")
    changed = {name for name, shape in shapes[1].items() if shape != shapes[0].get(name)}
    declared = shapes[1].keys() - backbone
    heads = {name for name in declared if _of_layer(name, changed)}
    others = changed & backbone
    require(not others, f"these change with the classes and are not the classifier: {listed(others)}")
    require(heads == declared, f"listed as classifier, but the classes do not change them: {listed(declared - heads)}")


def _replace_classifier(view: BackboneView, outputs: int) -> None:
    try:
        view.reset_classifier(view.module, outputs)
    except ZooError as error:
        if view.classifier:
            raise
        raise NotApplicable(str(error)) from None  # an encoder says that it has no place for one


def _of_layer(name: str, changed: set[str]) -> bool:
    """Whether the parameter, or another one of the same layer, changed; a scale beside a weight matrix may not."""
    layer = name.rpartition(".")[0]
    return any(other.rpartition(".")[0] == layer for other in changed)


def features_have_widths(specimen: Specimen) -> None:
    """Each kind of feature has its declared width, and the default one without the classifier too."""
    for kind in specimen.whole.features:
        _has_width(specimen, specimen.whole, kind, "with")
    bare = strip(specimen.view())
    _has_width(specimen, bare, bare.features[0], "without")


def _has_width(specimen: Specimen, view: BackboneView, kind: FeatureKind, state: str) -> None:
    with torch.no_grad():
        found = view.extract(view.module.eval(), specimen.images(view), kind.name)
    shape = tuple(found.shape)
    if kind.name == "tokens":
        fits = len(shape) == 3 and shape[0] == BATCH and shape[2] == kind.width
        wanted = f"({BATCH}, tokens, {kind.width})"
    else:
        fits, wanted = shape == (BATCH, kind.width), f"({BATCH}, {kind.width})"
    require(fits, f"{kind.name} features {state} the classifier have shape {shape}, not {wanted}")


def bare_network_pools(specimen: Specimen) -> None:
    """Without its classifier, the network itself gives the pooled features."""
    view = strip(specimen.view())
    if view.features[0].name != "pooled":
        raise NotApplicable("it offers no pooled features")
    with torch.no_grad():
        found = view.module.eval()(specimen.images(view))
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    wanted = (BATCH, view.features[0].width)
    require(shape == wanted, f"without its classifier the network gives {shape}, not pooled features {wanted}")


def ten_outputs(specimen: Specimen) -> None:
    """After the classifier was replaced, the network gives one logit a class, in training and in evaluation."""
    view = specimen.view()
    _replace_classifier(view, CLASSES)
    view.module.to(specimen.device)
    for mode in (True, False):
        found = view.module.train(mode)(specimen.images(view))
        outputs = [found] if isinstance(found, Tensor) else list(found)
        shapes = [tuple(output.shape) for output in outputs if output is not None]
        name = "training" if mode else "evaluation"
        wanted = (BATCH, CLASSES)
        # Auxiliary and distilled classifiers give logits of their own in training.
        require(shapes[:1] == [wanted] and set(shapes) == {wanted}, f"in {name} it gives {shapes}, not {wanted}")
        require(mode or isinstance(found, Tensor), f"in {name} it gives a {type(found).__name__}, not one tensor")


def head_alone_trains(specimen: Specimen) -> None:
    """Under `head` exactly the head is trainable and gets gradients, and the backbone stays in eval mode."""
    model, _ = specimen.frozen("head")
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {f"heads.{name}" for name, _ in model.heads.named_parameters()}
    require(trainable == heads, f"trainable beside the head: {listed(trainable - heads)}")
    awake = [name for name, module in model.backbone.named_modules() if module.training]
    require(not awake, f"in training mode although frozen: {listed(awake)}")
    _gradients_are(specimen, model, heads)


def last_stages_train(specimen: Specimen, policy: str) -> None:
    """Each parameter of the last stages and of the head gets a gradient, and no other parameter does.

    Nothing that a frozen stage gives depends on what trains; else it could not be computed once and kept.
    """
    model, frozen = specimen.frozen(policy)
    depends: set[str] = set()

    def note(stage: str, module: nn.Module, inputs: object, output: object) -> None:
        outputs = output if isinstance(output, list | tuple) else [output]
        if any(isinstance(each, Tensor) and each.requires_grad for each in outputs):
            depends.add(stage)

    for stage in model.view.stages:
        for path in stage.modules if stage.name not in frozen.stages else ():
            model.backbone.get_submodule(path).register_forward_hook(partial(note, stage.name))
    _gradients_are(specimen, model, set(frozen.trainable))
    require(not depends, f"what trains reaches frozen stages: {listed(depends)}")


def _gradients_are(specimen: Specimen, model: nn.Module, wanted: set[str]) -> None:
    specimen.backward(model)  # type: ignore[arg-type]
    found = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    require(found >= wanted, f"trainable, but no gradient reaches {listed(wanted - found)}")
    require(found == wanted, f"frozen, but a gradient reaches {listed(found - wanted)}")


def two_last_stages_train(specimen: Specimen) -> None:
    """As `last_stages_train`, for two stages."""
    if sum(stage.role != "neck" for stage in specimen.whole.stages) < 2:
        raise NotApplicable("it has one stage")
    last_stages_train(specimen, "last(2)")


def nothing_frozen_moves(specimen: Specimen) -> None:
    """A real training step with one trainable stage leaves every frozen parameter and buffer bit for bit as it was."""
    count = sum(parameter.numel() for parameter in specimen.whole.module.parameters())
    if count > TRAINED:
        raise NotApplicable(f"{count:,} parameters; up to {TRAINED:,} take a real step")
    real = specimen.on_the_cpu()
    model, frozen = real.frozen("last(1)")
    for parameter in model.heads.parameters():
        nn.init.normal_(parameter)  # behind a head of zeros nothing would move at the first step
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    real.backward(model)
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    frozen.verify()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    stages = {name for name in moved if name.startswith("backbone.")}
    require(bool(stages), "nothing in the trainable stage moved")


def describes_its_own(specimen: Specimen) -> None:
    """`describe` gives a network that the source built the same stages and classifier."""
    source, view = specimen.source, specimen.whole
    if source.describe is None:
        raise NotApplicable("the source describes no networks of the user's")
    found = source.describe(view.module)
    require(found is not None, "describe does not know a network that build has built")
    assert found is not None  # noqa: S101  for the type checker
    require(found.stages == view.stages, f"describe gives other stages: {', '.join(found.stage_names)}")
    require(found.classifier == view.classifier, f"describe gives another classifier: {listed(found.classifier)}")
    require(found.features == view.features, f"describe gives other features: {found.features}")


def entry_is_true(specimen: Specimen) -> None:
    """What the list states of parameters, input and features is what is built."""
    view, entry = specimen.whole, _entry(specimen)
    count = sum(parameter.numel() for parameter in view.module.parameters())
    size, kinds = view.input.size[0], tuple(kind.name for kind in view.features)
    if entry.parameters is not None:
        require(entry.parameters == count, f"listed with {entry.parameters:,} parameters, built with {count:,}")
    if entry.input_size is not None:
        require(entry.input_size == size, f"listed with an input of {entry.input_size} pixels, built for {size}")
    if entry.features:
        require(entry.features == kinds, f"listed with features {entry.features}, built with {kinds}")


def _entry(specimen: Specimen) -> BackboneEntry:
    for entry in specimen.source.entries():
        if entry.name == specimen.model:
            return entry
    raise NotApplicable("entries() does not list it")


CHECKS: dict[str, Callable[[Specimen], None]] = {
    "it-builds-with-random-weights": builds,
    "stages-and-classifier-hold-each-parameter-once": covers,
    "an-image-passes-the-stages-in-order": runs_in_order,
    "the-classifier-alone-changes-with-the-classes": classifier_alone,
    "features-have-their-declared-widths": features_have_widths,
    "without-classifier-the-network-gives-pooled-features": bare_network_pools,
    "a-new-classifier-gives-one-logit-a-class": ten_outputs,
    "under-head-the-head-alone-trains": head_alone_trains,
    "under-last-1-the-last-stage-alone-trains": partial(last_stages_train, policy="last(1)"),
    "under-last-2-the-two-last-stages-alone-train": two_last_stages_train,
    "under-none-a-gradient-reaches-every-parameter": partial(last_stages_train, policy="none"),
    "a-training-step-moves-nothing-frozen": nothing_frozen_moves,
    "it-describes-its-own-networks": describes_its_own,
    "the-list-states-what-is-built": entry_is_true,
    "its-input-layers-read-the-channels": reads_channels,
    "another-size-is-taken-or-refused-with-a-reason": takes_another_size,
}
