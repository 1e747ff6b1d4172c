"""Freezing that freezes: parameters and buffers stand still, dropout is off, and `.train()` does not undo it.

A frozen module is made an instance of a subclass whose `train` always goes to eval mode, so that no ancestor's
`.train()`, no wrapper and no copy turns BatchNorm or dropout on again; `isinstance` and `state_dict` are as before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import IntegrityError, ZooError
from zoo.model.batchnorm import BatchNormMode, batch_norms, default_mode
from zoo.model.lora import add_adapters
from zoo.model.network import FineTuneModel
from zoo.model.view import describe
from zoo.specs import BackboneView, FreezePolicy, parse_policy


class StaysInEval(nn.Module):
    """Mixed into the class of a frozen module: its mode is eval whatever `train` is told."""

    def train(self, mode: bool = True) -> Any:
        """Go to eval mode, for this module and everything below it; `mode` changes nothing."""
        del mode
        return super().train(False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made at run time, so pickle and deepcopy rebuild it from the one it came from.
        return _rebuild, (type(self).__mro__[2],), self.__getstate__()  # type: ignore[no-untyped-call]


_FROZEN_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


def _frozen_class(cls: type[nn.Module]) -> type[nn.Module]:
    if cls not in _FROZEN_CLASSES:
        body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        _FROZEN_CLASSES[cls] = type(cls.__name__, (StaysInEval, cls), body)
    return _FROZEN_CLASSES[cls]


def _rebuild(cls: type[nn.Module]) -> nn.Module:
    frozen = _frozen_class(cls)
    return frozen.__new__(frozen)


def _keep_in_eval(module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise ZooError(f"a scripted module ({module.original_name}) cannot be kept frozen; freeze it before scripting")
    if not isinstance(module, StaysInEval):  # a module that stands at two places of the network comes here twice
        module.__class__ = _frozen_class(type(module))
    module.eval()


def _release(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, StaysInEval):
            part.__class__ = type(part).__mro__[2]


@dataclass(frozen=True, kw_only=True, repr=False)
class Frozen:
    """What a policy froze in one model; `verify` says whether it stood still.

    Attributes:
        policy: as written.
        stages: names of the trainable stages.
        trainable, frozen: parameter names in the model.
        batchnorm: `frozen` where no BatchNorm statistics move, `train` where those of the trainable stages do.
        trained: how many numbers train, by stage.
        sizes: how many numbers each parameter has, because adapters are gone once they are merged.
        digests: hash of every frozen parameter, of every buffer below a frozen module and of BatchNorm statistics that
            stand still, at the time of freezing.
        derived: shapes of those buffers that are not saved with the weights. A network may make one anew for images of
            another size (the distances between ConViT's patches); it is then another tensor and no change.
    """

    model: nn.Module
    policy: str
    stages: tuple[str, ...]
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    digests: dict[str, str]
    batchnorm: str = "frozen"
    trained: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    derived: dict[str, torch.Size] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line without names of tensors."""
        stages = ", ".join(self.stages) or "the head alone"
        counts = f"{len(self.trainable)} tensors trainable, {len(self.frozen)} frozen, {len(self.digests)} remembered"
        return f"Frozen(policy={self.policy!r}, stages trained: {stages}; {counts})"

    def verify(self) -> int:
        """Compare every frozen tensor with what it was; returns how many were compared.

        Raises:
            IntegrityError: a parameter or buffer of the frozen part changed; the message names up to five.
        """
        tensors = named_tensors(self.model)
        anew = {name for name, shape in self.derived.items() if tensors[name].shape != shape}
        digests = {name: digest for name, digest in self.digests.items() if name not in anew}
        moved = [name for name, digest in digests.items() if digest_tensor(tensors[name]) != digest]
        if moved:
            raise IntegrityError(
                f"{len(moved)} frozen tensors changed under policy {self.policy}: {', '.join(moved[:5])}; "
                "something wrote to them after freezing"
            )
        return len(digests)


def digest_tensor(tensor: Tensor) -> str:
    """Hash of a tensor's values, dtype and shape; the same on every device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    label = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=16, key=label[:64]).hexdigest()


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, those too that are not saved."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def freeze(
    model: nn.Module, policy: str | FreezePolicy = "head", *, batchnorm: Literal["frozen", "train"] | None = None
) -> Frozen:
    """Freeze `model` in place so that exactly what `policy` names trains; the head always trains.

    Takes a model of `zoo.load`, or a network of torchvision, timm or another installed source that you built yourself.
    Frozen parameters get `requires_grad=False` and no gradient; frozen modules stay in eval mode through every
    `.train()`. A second call replaces the first.

    Args:
        model: the network; changed in place.
        policy: what trains, such as `head`, `last(2)` or `norm@last(2)`; see `zoo.specs.policies`.
        batchnorm: `frozen` keeps the running statistics of the trainable stages too, `train` lets those move. By
            default they move where the weights are known to be random, and where nothing at all is frozen in a network
            that you built yourself.

    Returns:
        A record of what was frozen, whose `verify()` checks after training that it stood still.

    Raises:
        OptionError: the policy does not parse, or asks for what this network does not have.
        ZooError: no installed source knows this network, or it can have no adapters.
    """
    parsed = parse_policy(policy) if isinstance(policy, str) else policy
    if parsed.lora is not None:
        _add_adapters(model, parsed)
    prefix, view = ("backbone.", model.view) if isinstance(model, FineTuneModel) else ("", describe(model))
    mode: BatchNormMode = default_mode(view.weights)
    if view.weights == "unknown" and parsed.where.name == "none" and parsed.what is None:
        mode = "train"
    return freeze_parts(model, view, parsed, prefix, batchnorm=batchnorm or mode)


def _add_adapters(model: nn.Module, policy: FreezePolicy) -> None:
    if not isinstance(model, FineTuneModel):
        raise ZooError("adapters are put into a model of zoo.load; give freeze one, or use peft by itself")
    if model.adapters is None:
        _release(model)
        add_adapters(model, policy)
    elif model.adapters.lora != policy.lora:
        raise ZooError(f"this model has adapters already, of rank {model.adapters.lora.r}; merge them first")


def freeze_parts(
    model: nn.Module,
    view: BackboneView,
    policy: FreezePolicy,
    prefix: str = "",
    *,
    digest: bool = True,
    batchnorm: BatchNormMode = "frozen",
) -> Frozen:
    """Freeze by a view whose parameter names, with `prefix` before them, are those of `model`.

    Without `digest` nothing is remembered for `verify`: tensors on the meta device have no content. Recalibrated
    statistics stand still from here on.
    """
    selected = policy.select(view)
    training = {prefix + name for name in selected.parameters}
    backbone = {prefix + name for stage in view.stages for name in stage.parameters}
    standing = backbone - training
    _release(model)
    trainable: list[str] = []
    frozen: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in standing)
        if name in standing:
            parameter.grad = None
        (frozen if name in standing else trainable).append(name)
    buffers: set[str] = set()
    if standing:
        for path in _eval_roots(model, prefix.removesuffix("."), set(trainable)):
            part = model.get_submodule(path)
            _keep_in_eval(part)
            buffers.update(f"{path}.{name}" for name, _ in part.named_buffers())
    if batchnorm != "train":
        for path, layer in batch_norms(model.get_submodule(prefix.removesuffix("."))).items():
            _keep_in_eval(layer)
            buffers.update(f"{prefix}{path}.{name}" for name, _ in layer.named_buffers())
    tensors = named_tensors(model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return Frozen(
        model=model,
        policy=policy.text,
        stages=tuple(stage.name for stage in selected.stages),
        trainable=tuple(trainable),
        frozen=tuple(frozen),
        digests={name: digest_tensor(tensors[name]) for name in [*frozen, *sorted(buffers)]} if digest else {},
        batchnorm="train" if batchnorm == "train" else "frozen",
        trained={
            stage.name: sum(sizes[prefix + name] for name in stage.parameters if name in selected.parameters)
            for stage in view.stages
        },
        sizes=sizes,
        derived={name: tensors[name].shape for name in buffers & _unsaved(model)},
    )


def _unsaved(model: nn.Module) -> set[str]:
    """Names of buffers that `state_dict` leaves out."""
    return {name for name, _ in model.named_buffers()} - set(model.state_dict())


def _eval_roots(model: nn.Module, start: str, trainable: set[str]) -> list[str]:
    """Paths of the outermost modules at and below `start` that hold nothing trainable, before the first that does.

    A module without parameters, such as a dropout between two blocks, belongs to what is registered around it: before
    the first trainable parameter it is frozen, after it it trains.
    """
    roots: list[str] = []
    reached = False  # whether the walk has passed a module that owns a trainable parameter

    def walk(module: nn.Module, path: str) -> None:
        nonlocal reached
        names = [name for name, _ in module.named_parameters()]
        if not any(_join(path, name) in trainable for name in names):
            if path and (names or not reached):
                roots.append(path)
            return
        # An adapter's dropout stands before its matrices, and belongs to them.
        own = [name for name, _ in module.named_parameters(recurse=False)]
        own += [name for name in names if name.startswith("lora_A.")]
        reached = reached or any(_join(path, name) in trainable for name in own)
        for name, child in module.named_children():
            walk(child, _join(path, name))

    walk(model.get_submodule(start), start)
    return roots


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
