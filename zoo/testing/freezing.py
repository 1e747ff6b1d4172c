"""Whether each kind of freeze policy trains what it names and nothing else, as cells of a grid.

A backbone with random weights trains for two epochs in each interval, by the engine's own loop and optimiser. What the
interval froze, buffers among it, must be bit for bit what it was, and what it trains must have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import IntegrityError, ZooError
from zoo.grid.rows import Cell
from zoo.model.adapt import adapt_input
from zoo.model.batchnorm import BatchNormMode, batch_norms, recalibrate
from zoo.model.freeze import digest_tensor, freeze_parts
from zoo.model.load import assemble, strip
from zoo.model.lora import add_adapters
from zoo.model.network import FineTuneModel
from zoo.model.reach import reached_parameters
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version
from zoo.specs import BackboneView, Interval, Phase, Target, Timeline, parse_schedule
from zoo.testing.specimen import TASK
from zoo.training.finite import NonFiniteLossError
from zoo.training.first_step import FirstStep
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates, build_optimiser
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer

ROWS = 4
"""Images of an epoch, which is one batch."""

SIDE = 96
"""Pixels of an image, of networks that take such small ones."""

LONG = 1000
"""Epochs in which any schedule ends; it is then cut so that its last interval has two, as the others do."""

CHECKED = ("zoo.specs", "zoo.model", "zoo.training", "zoo.testing.freezing")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of policy.

    Attributes:
        write: it for a backbone, whose stages and parameters it may name.
        batchnorm: whether the statistics of what trains follow the batches.
    """

    write: Callable[[BackboneView], str]
    batchnorm: BatchNormMode = "frozen"


def _middle(view: BackboneView) -> str:
    names = [stage.name for stage in view.stages if stage.role != "neck"]
    return f'"{names[len(names) // 2]}"'


def _last(view: BackboneView) -> str:
    return f'"{[stage.name for stage in view.stages if stage.role != "neck"][-1]}"'


def _one_layer(view: BackboneView) -> str:
    """A pattern of the layer in the middle of the network."""
    names = [name for stage in view.stages for name in stage.parameters if name.endswith(".weight")]
    return names[len(names) // 2].removesuffix("weight")  # a point stands for itself too


KINDS: dict[str, Kind] = {
    "head": Kind(lambda view: "head"),
    "last(1)": Kind(lambda view: "last(1)"),
    "last(1), statistics": Kind(lambda view: "last(1)", "train"),
    "last(2)": Kind(lambda view: "last(2)"),
    "until": Kind(lambda view: f"until({_middle(view)})"),
    "depth": Kind(lambda view: "depth(0.5)"),
    "regex": Kind(lambda view: f'regex("^{_one_layer(view)}")'),
    "norm@": Kind(lambda view: "norm@last(2)"),
    "bias@": Kind(lambda view: "bias@last(2)"),
    "lora@": Kind(lambda view: "lora(r=2)@last(2)"),
    "none": Kind(lambda view: "none"),
    "none, statistics": Kind(lambda view: "none", "train"),
    "lp-ft": Kind(lambda view: "last(2)@lp-ft(2)"),
    "gradual": Kind(lambda view: "last(2)@gradual(every=2)"),
    "thaw": Kind(lambda view: f"thaw({_last(view)}, 2)+thaw({_middle(view)}, 4)"),
}
"""Every kind of the grammar by name."""


def freezing_cells(source: str, models: Sequence[str], kinds: Sequence[str] = tuple(KINDS)) -> list[Cell]:
    """A cell for each backbone of a source, of all these kinds."""
    library, its_version = library_version(SOURCES.get(source), SOURCES.home(source).distribution)
    context = {
        "backbone-zoo": version("backbone-zoo"),
        "torch": torch.__version__,
        library: its_version,
        "code": "".join(package_digest(name)[:8] for name in CHECKED),
    }
    return [
        Cell(
            task=f"{__name__}:freeze_backbone",
            parameters={"source": source, "model": model, "kinds": list(kinds)},
            context=context,
        )
        for model in models
    ]


def freeze_backbone(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What came of each kind of policy with one backbone: see `train_under`, or why it was `refused`, or `failed`."""
    found: dict[str, Any] = {}
    for name in parameters["kinds"]:
        torch.manual_seed(seed)
        try:
            found[name] = train_under(f"{parameters['source']}/{parameters['model']}", KINDS[name])
        except (IntegrityError, NonFiniteLossError) as error:
            found[name] = {"failed": str(error)}
        except ZooError as error:  # no norm, no bias, no layer for adapters: a policy that this backbone has not
            found[name] = {"refused": str(error).splitlines()[0]}
    return found


def train_under(name: str, kind: Kind) -> dict[str, Any]:
    """Train a backbone under a policy, two epochs in each interval.

    Returns:
        The policy as it is written; of each interval the number of `frozen` tensors that were compared, of
        `trainable` ones, and under `still` those of them that did not move, by why: `unused` where the head's features
        do not depend on them, `zero` where no gradient but zero came.

    Raises:
        IntegrityError: what was frozen moved or got a gradient, or what trains got none.
        NonFiniteLossError: the numbers grew beyond all bounds.
        ZooError: the backbone has nothing that the policy names.
    """
    model = _model(name)
    text = kind.write(model.view)
    schedule = parse_schedule(text)
    epochs = schedule.intervals(model.view, LONG)[-1].start + 2
    intervals = schedule.intervals(model.view, epochs)
    adapted = next((each.policy for each in reversed(intervals) if each.policy.lora), None)
    if adapted is not None:
        add_adapters(model, adapted)
    optimiser = build_optimiser(model, model.heads, _RATES, view=model.view)
    found = [_interval(model, intervals, number, optimiser, kind.batchnorm) for number in range(len(intervals))]
    return {"policy": text, "intervals": found}


def _model(name: str) -> FineTuneModel:
    """The backbone with random weights, as a run would have it, of images as small as it takes.

    No number is exactly zero, as last scales of residual blocks are at first: behind them nothing would move.
    """
    source, _, model = name.partition("/")
    view = SOURCES.get(source).build(model, None)
    try:
        view = adapt_input(view, size=SIDE)
    except ZooError:  # it takes one size alone
        view = SOURCES.get(source).build(model, None)
    found = assemble(strip(view), [TASK])
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    layers = batch_norms(found.backbone)
    if layers:  # those of random weights say nothing, and activations grow from layer to layer
        recalibrate(found.backbone, found.features, layers.values(), [_images(found.view)])
    return found


def _images(view: BackboneView) -> Tensor:
    shape = (ROWS, view.input.channels, *view.input.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


_RATES = Rates(head=1e-3, backbone=1e-3, weight_decay=0.0, head_l2=0.0, warmup=0.0)
"""Without weight decay, which moves what no gradient does."""


class _Held(Inputs):
    """The images themselves."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def take(self, rows: Tensor, epoch: int | None = None) -> tuple[Tensor, ...]:
        del epoch
        return (self._images[rows],)


def _interval(
    model: FineTuneModel,
    intervals: Sequence[Interval],
    number: int,
    optimiser: torch.optim.Optimizer,
    batchnorm: BatchNormMode,
) -> dict[str, Any]:
    frozen = freeze_parts(model, model.view, intervals[number].policy, "backbone.", batchnorm=batchnorm)
    reached = reached_parameters(model)
    before = _digests(model)

    def suffix(given: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        return model.logits(given[0], covariates)

    answers = {TASK.name: Answer()}
    trainer = Trainer(
        model, model.heads, suffix, _data(model), (TASK,), answers, _settings(intervals, number), optimiser
    )
    trainer.first = FirstStep(reached=frozenset(map(id, reached.values())), verify=frozen.verify)
    trainer.fit()
    still = [name for name, digest in _digests(model).items() if digest == before[name]]
    return {
        "frozen": frozen.verify(),
        "trainable": len(before),
        "still": {name: "zero" if name in reached else "unused" for name in still},
    }


def _digests(model: nn.Module) -> dict[str, str]:
    return {name: digest_tensor(each) for name, each in model.named_parameters() if each.requires_grad}


def _data(model: FineTuneModel) -> Data:
    rows = torch.arange(ROWS)
    target = Target(value=rows % TASK.outputs, mask=torch.ones(ROWS, dtype=torch.bool))
    inputs = _Held(_images(model.view))
    return Data(inputs=inputs, covariates=None, targets={TASK.name: target}, train=rows, val=rows[:2])


def _settings(intervals: Sequence[Interval], number: int) -> Settings:
    phases = [
        Phase(name=each.policy.text, start=each.start, stop=each.stop, trainable=frozenset()) for each in intervals
    ]
    return Settings(
        timeline=Timeline(phases=tuple(phases)),
        phase=number,
        rates=_RATES,
        batch_size=ROWS,
        metric="log_loss",
        seed=0,
        autocast=None,
        smoothing=0.1,  # four images are soon learned by heart, and then nothing is left to move
        device=torch.device("cpu"),
    )
