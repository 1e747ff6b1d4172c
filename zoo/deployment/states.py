"""The tensors of a run under the names that the backbone's own library gives them."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.deployment.graphs import Loaded
from zoo.deployment.libraries import Origin, build_own
from zoo.deployment.outputs import served_output
from zoo.deployment.served import ServedModel
from zoo.model.states import with_versions
from zoo.run.artifact import Artifact

HEADS, BIAS = "zoo_heads.", "zoo_logit_bias."
"""What stands before the names of tensors that no library knows."""

_AGREE = 1e-4
"""Largest difference of logits, as a share of the largest, of a network that counts as the same."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Tensors by name.

    Attributes:
        why: why the library's own network with its own classifier cannot hold all of it; empty where it does.
    """

    tensors: Mapping[str, Tensor]
    why: str = ""


def state_of(served: ServedModel, artifact: Artifact, origin: Origin) -> State:
    """The backbone's own tensors, with the head as the network's own classifier where that is the same function.

    Else the heads stand beside them, after `HEADS`, and what is added to their logits after `BIAS`.
    """
    why = _not_linear(artifact)
    if not why:
        why, tensors = _as_classifier(served, artifact, origin)
        if not why:
            return State(tensors=tensors)
    heads = {f"{HEADS}{name}": tensor for name, tensor in artifact.model.heads.state_dict().items()}
    biases = {f"{BIAS}{place}": served.get_buffer(f"bias{place}") for place in range(len(served.tasks))}
    return State(tensors={**artifact.model.backbone.state_dict(), **heads, **biases}, why=why)


def _not_linear(artifact: Artifact) -> str:
    heads = artifact.model.heads
    if len(artifact.tasks) > 1:
        return f"it has {len(artifact.tasks)} heads"
    if heads.covariates:
        return "its head sees covariates too"
    return "" if heads.linear else f"its head is {heads.call.name}, not linear"


def _as_classifier(served: ServedModel, artifact: Artifact, origin: Origin) -> tuple[str, dict[str, Tensor]]:
    """Why the network's own classifier cannot hold the head, or an empty text; and all tensors of the network."""
    weight, bias = _folded(served, artifact)
    own = dict(artifact.model.backbone.state_dict())
    try:
        network = build_own(origin, artifact.model.view, len(bias))
        added = {name: tensor for name, tensor in network.state_dict().items() if name not in own}
        weights = [name for name, tensor in added.items() if tensor.ndim > 1 and tensor.numel() == weight.numel()]
        biases = [name for name, tensor in added.items() if tensor.shape == bias.shape]
        if len(weights) != 1 or len(biases) != 1 or len(added) != 2:
            return f"the network's own classifier is no linear layer but {', '.join(added) or 'nothing'}", {}
        tensors = {**own, weights[0]: weight.reshape(added[weights[0]].shape), biases[0]: bias}
        network.load_state_dict(with_versions(network, tensors), strict=True)
        return _differs(served, network, artifact), tensors
    except Exception as error:  # a library's constructor fails in its own way; the heads then stand beside
        return f"{origin.library or 'its source'} builds another network: {str(error).strip().splitlines()[-1]}", {}


def _folded(served: ServedModel, artifact: Artifact) -> tuple[Tensor, Tensor]:
    """Weight (K, width) and bias (K) of the linear head, its standardisation and the correction of logits included.

    Those of a number give it in its own units.
    """
    heads = artifact.model.heads
    layer = next(part for part in heads.heads[0].modules() if isinstance(part, nn.Linear))
    weight = layer.weight.detach().double() / heads.standardise.std.double()
    bias = served.get_buffer("bias0").double() - weight @ heads.standardise.mean.double()
    bias = bias if layer.bias is None else bias + layer.bias.detach().double()
    task = artifact.tasks[0]
    return (task.scale * weight).float(), (task.scale * bias + task.center).float()


@torch.no_grad()
def _differs(served: ServedModel, network: nn.Module, artifact: Artifact) -> str:
    """Why the network as its library runs it is another function, or an empty text."""
    spec = artifact.model.view.input
    images = torch.randn((2, spec.channels, *spec.size), generator=torch.Generator().manual_seed(0))
    wanted = served.network.logits(images)[served.tasks[0]] + served.get_buffer("bias0")
    wanted = served_output(artifact.tasks[0], wanted, softmax=False)
    found = network(images)
    if isinstance(found, Tensor) and found.shape == wanted.shape:
        apart = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-6))
        if apart <= _AGREE:
            return ""
    return f"its head takes {artifact.model.kind} features, and the network's own classifier others"


def write_state(state: State, path: Path, description: Mapping[str, Any]) -> None:
    """Write the tensors; `format` in the metadata is what other libraries look for."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in state.tensors.items()}
    save_file(tensors, path, metadata={"format": "pt", "backbone-zoo": json.dumps(description, ensure_ascii=False)})


def config_of(artifact: Artifact, origin: Origin, state: State, description: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON beside the tensors: what timm's `local-dir:` reads, and under `backbone-zoo` the description."""
    spec, task = artifact.model.view.input, artifact.tasks[0]
    outputs = 0 if state.why else task.outputs
    classes = list(task.classes) if outputs == len(task.classes) else []
    side = min(spec.size)
    # timm divides, and rounds down what it gets.
    share = side / spec.resize if int(side / (side / spec.resize)) == spec.resize else side / (spec.resize + 1e-6)
    return {
        "architecture": origin.architecture,
        "num_classes": outputs,
        "label_names": classes,
        "model_args": dict(origin.arguments),
        "pretrained_cfg": {
            "num_classes": outputs,
            "input_size": [spec.channels, *spec.size],
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": spec.interpolation,
            "crop_pct": share,
            "crop_mode": spec.crop,
        },
        "backbone-zoo": dict(description),
    }


def load_state(path: Path, served: ServedModel, artifact: Artifact, origin: Origin, *, beside: bool) -> Loaded:
    """The file's tensors at work, giving logits: in the library's own network or, with heads beside, in the run's."""
    tensors = load_file(path)
    if beside:
        ours = copy.deepcopy(served)
        # Of the images and of the covariates; the description holds them, not the tensors.
        state, told = ours.state_dict(), ("mean", "std", "encode.mean", "encode.std")
        fixed = {name: state[name] for name in told if name in state}
        held = {_name_in_run(name): tensor for name, tensor in tensors.items()} | fixed
        ours.load_state_dict(with_versions(ours, held), strict=True)
        ours.softmax = False
        return torch.no_grad()(ours)
    network = build_own(origin, artifact.model.view, artifact.tasks[0].outputs)
    network.load_state_dict(with_versions(network, tensors), strict=True)

    @torch.no_grad()
    def run(images: Tensor, covariates: Tensor | None) -> dict[str, Tensor]:
        del covariates
        return {served.tasks[0]: network((images.float() - served.mean) / served.std)}

    return run


def _name_in_run(name: str) -> str:
    if name.startswith(HEADS):
        return f"network.heads.{name.removeprefix(HEADS)}"
    return f"bias{name.removeprefix(BIAS)}" if name.startswith(BIAS) else f"network.backbone.{name}"
