"""The state of a trainer as tensors and JSON values, and back: what training goes on from bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from zoo.training.shards import divided_as, put, whole

if TYPE_CHECKING:
    from zoo.training.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class State:
    """A trainer between two steps.

    Attributes:
        tensors: contiguous copies on the CPU, by name.
        values: JSON values.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@dataclass(kw_only=True)
class Position:
    """How far training is.

    Attributes:
        epoch: over are those before it, from the start of the run.
        step: steps of it that are over.
        losses: of those steps, float32 (step,).
    """

    epoch: int
    step: int = 0
    losses: Tensor | None = None


class Keeper(Protocol):
    """Keeps states of a trainer."""

    def due(self) -> bool:
        """Whether one is wanted now; asked after every step."""
        ...

    def save(self, state: State) -> None:
        """Keep this one; may raise to end the training."""
        ...


def moving(trainer: Trainer) -> dict[str, Tensor]:
    """What may move or has, by name: parameters that train or did in an earlier phase, and every buffer."""
    names = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    names |= {name for name, _ in trainer.model.named_buffers()}
    for phase in trainer.settings.timeline.phases[: trainer.settings.phase]:  # a tail freezes what has moved before it
        names |= {f"backbone.{name}" for name in phase.trainable}
    return {name: tensor for name, tensor in trainer.model.state_dict().items() if name in names}


def state_of(trainer: Trainer) -> State:
    """Everything that the next step of `trainer` depends on beside its data and settings, and what is kept so far.

    Where tensors are divided all processes call this; the first one has them whole, the others none.
    """
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    tensors = {f"model.{name}": own for name, own in moving(trainer).items()}
    plain: dict[str, dict[str, Any]] = {}
    for parameter, memory in trainer.optimiser.state.items():
        for key, own in memory.items():
            if isinstance(own, Tensor):
                tensors[f"optimiser.{names[id(parameter)]}.{key}"] = own
            else:
                plain.setdefault(names[id(parameter)], {})[key] = own
    tensors |= {f"best.{name}": own for name, own in (trainer.best or {}).items()}
    if trainer.average:
        tensors |= {f"average.{name}": own for name, own in trainer.average.values.items()}
    at, schedule = trainer.at, trainer.schedule
    if at.losses is not None:
        tensors["losses"] = at.losses[: at.step]
    first = trainer.settings.group.first
    copies: dict[str, Tensor] = {}
    for name, own in tensors.items():
        gathered = whole(own.detach())
        if first:
            copies[name] = gathered.cpu().clone(memory_format=torch.contiguous_format)
    return State(
        tensors=copies,
        values={
            "epoch": at.epoch,
            "step": at.step,
            "fit": asdict(trainer.found),
            "has_best": trainer.best is not None,
            "memory": plain,
            "rates": [group["lr"] for group in trainer.optimiser.param_groups],
            "schedule": {"step": schedule.last_epoch, **schedule.validation},
            "scaler": trainer.scaler.state_dict(),
            "average_steps": trainer.average.steps if trainer.average else 0,
        },
    )


@torch.no_grad()
def restore(trainer: Trainer, state: State) -> None:
    """Put `trainer`, built anew with the same data and settings, where `state` was taken."""
    tensors, values, device = state.tensors, state.values, trainer.settings.device
    own = trainer.model.state_dict()
    for name, tensor in _below(tensors, "model").items():
        put(own[name], tensor)
    memory: dict[str, dict[str, Any]] = {name: dict(held) for name, held in values["memory"].items()}
    for name, tensor in _below(tensors, "optimiser").items():
        owner, _, key = name.rpartition(".")
        memory.setdefault(owner, {})[key] = tensor
    # A fused step reads its counts where the parameters are; any other reads them on the CPU.
    options = trainer.optimiser.defaults
    counts = device if options.get("fused") or options.get("capturable") else torch.device("cpu")
    for name, held in memory.items():
        parameter = trainer.model.get_parameter(name)
        trainer.optimiser.state[parameter] = {key: _beside(parameter, value, counts) for key, value in held.items()}
    if trainer.average:
        for name, tensor in _below(tensors, "average").items():
            put(trainer.average.values[name], tensor)
        trainer.average.steps = int(values["average_steps"])
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(values["scaler"])
    for group, rate in zip(trainer.optimiser.param_groups, values["rates"], strict=True):
        group["lr"] = rate
    trainer.schedule.go_to(**values["schedule"])
    trainer.found = type(trainer.found)(**values["fit"])
    if values["has_best"]:
        best = _below(tensors, "best").items()
        trainer.best = {name: divided_as(own[name], tensor.to(device)) for name, tensor in best}
    losses = tensors.get("losses")
    trainer.at = Position(
        epoch=int(values["epoch"]),
        step=int(values["step"]),
        losses=None if losses is None else losses.to(device),
    )


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _beside(parameter: Tensor, value: Any, counts: torch.device) -> Any:
    """A value of the optimiser's memory as it was: of the parameter's shape it lies in memory as the parameter does.

    Args:
        parameter: that it is about.
        value: as it was saved.
        counts: where the optimiser wants counts of steps.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        found = torch.empty_like(parameter, dtype=value.dtype)
        put(found, value)
        return found
    return value.clone().to(parameter.device if value.ndim else counts)
