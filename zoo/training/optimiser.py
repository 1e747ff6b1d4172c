"""Optimisers by name, and real learning rates in their groups: of the heads, of the backbone, of each block."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.errors import OptionError
from zoo.specs import BackboneView, Call, block_depths, parse_options

Groups = Sequence[dict[str, Any]]
TORCH: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {"fused": True}),
    "adam": (torch.optim.Adam, {"fused": True}),
    # fused SGD fails where some parameters of a group got their first gradient later than others: a thawed block
    "sgd": (torch.optim.SGD, {"foreach": True, "momentum": 0.9, "nesterov": True}),
}
"""Optimisers that are torch's own, with what they take unless the user says otherwise; all others are timm's."""

RATE_FACTORS = {"adamw": 1.0, "adam": 1.0, "sgd": 10.0}
"""What the default learning rates are multiplied by; an optimiser that is not here has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Learning rates and regularisation.

    Attributes:
        head: learning rate of the heads.
        backbone: learning rate of the backbone's trainable parameters, of its last block where there is a layer decay.
        weight_decay: of the backbone's trainable part; none on biases, norms and other vectors, nor on what the network
            itself excepts, such as position embeddings. Decoupled in AdamW (Loshchilov and Hutter 2019), an L2 penalty
            in SGD and Adam.
        head_l2: strength of the L2 penalty on the heads' weight matrices, part of the loss: with standardised features
            it is the prior of a ridge-penalised logistic regression.
        warmup: share of all steps in which the rates rise from zero.
        layer_decay: each block's rate is that of the block behind it times this factor (Clark et al. 2020, ELECTRA;
            Bao et al. 2022, BEiT).
    """

    head: float
    backbone: float
    weight_decay: float
    head_l2: float
    warmup: float
    layer_decay: float = 1.0


@dataclass(frozen=True, slots=True)
class OptimiserChoice:
    """An optimiser that was asked for.

    Attributes:
        call: as the user wrote it.
        make: builds it over groups that have `params`, `lr` and `weight_decay`.
    """

    call: Call
    make: Callable[[Groups], torch.optim.Optimizer]


def parse_optimiser(text: str) -> OptimiserChoice:
    """Parse `adamw`, `sgd(momentum=0.8)`, `lion(beta1=0.95)`, …: torch's AdamW, Adam and SGD, and what timm offers.

    Raises:
        OptionError: an unknown name, an option that the optimiser does not take, one that needs a second-order
            gradient, or a package that is not installed.
    """
    calls = parse_options(text)
    if len(calls) > 1:
        raise OptionError("there is one optimiser, without +", text=text, column=calls[1].column)
    call = calls[0]
    options = _options(call)
    try:
        cls, defaults = TORCH.get(call.name) or _of_timm(call)
        choice = OptimiserChoice(call, lambda groups: cls(groups, **{**defaults, **options}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            choice.make([{"params": [nn.Parameter(torch.zeros(2, 2))], "lr": 1e-3, "weight_decay": 0.0}])
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError) as error:
        call.fail(f"{call.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return choice


def _options(call: Call) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for argument in call.arguments:
        if argument.name is None:
            call.fail(f"{call.name} takes its options by name, as in sgd(momentum=0.9)", column=argument.column)
        if argument.name in ("lr", "weight_decay", "params"):
            flag = "--lr and --backbone-lr" if argument.name == "lr" else "--weight-decay"
            call.fail(f"{call.name}: {argument.name} is said by {flag}", column=argument.column)
        given[argument.name] = argument.value
    betas = [given.pop(name, None) for name in ("beta1", "beta2")]
    if any(beta is not None for beta in betas):
        usual = (0.9, 0.999)
        given["betas"] = tuple(own if beta is None else beta for beta, own in zip(betas, usual, strict=True))
    return given


def _of_timm(call: Call) -> tuple[Any, dict[str, Any]]:
    from timm import optim

    known: list[str] = sorted({*TORCH, *map(str, optim.list_optimizers())})  # type: ignore[attr-defined]
    if call.name not in known:
        close = difflib.get_close_matches(call.name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        call.fail(f"unknown optimiser {call.name!r}; there are adamw, adam, sgd and timm's {', '.join(known)}{hint}")
    if optim.get_optimizer_info(call.name).second_order:  # type: ignore[attr-defined]
        call.fail(f"{call.name} needs gradients of gradients, which this loop does not compute")
    return optim.get_optimizer_class(call.name, bind_defaults=True), {}  # type: ignore[attr-defined]


ADAMW = parse_optimiser("adamw")

WEIGHING = 1e-2
"""Least learning rate of learned task weights: a few numbers about 0 that have some hundred steps to move in."""


def build_optimiser(
    model: nn.Module,
    heads: nn.Module,
    rates: Rates,
    choice: OptimiserChoice = ADAMW,
    view: BackboneView | None = None,
) -> torch.optim.Optimizer:
    """An optimiser over every parameter of `model`, frozen ones too: they have no gradient, so they stand still.

    Args:
        model: whose parameters.
        heads: its heads; they have a rate of their own and no weight decay.
        rates: what the groups begin with.
        choice: which optimiser.
        view: of the backbone that `model` has as `backbone`, for the layer decay and what is excepted from weight
            decay; None where there is none.

    Groups have beside what the optimiser knows `part` (head or backbone) and `scale`, the factor on the part's rate.
    """
    own = {id(parameter) for parameter in heads.parameters()}
    depths: Mapping[str, int] = {}
    exempt: set[str] = set()
    if view is not None:
        depths = {f"backbone.{name}": depth for name, depth in block_depths(view).items()}
        ask = getattr(view.module, "no_weight_decay", None)
        exempt = {f"backbone.{name}" for name in ask()} if callable(ask) else set()
    groups: dict[tuple[bool, bool, int], list[nn.Parameter]] = {}
    learned = getattr(heads, "log_variances", None)
    for name, parameter in model.named_parameters():
        if parameter is learned:
            continue
        head = id(parameter) in own
        decays = parameter.ndim > 1 and not head and name not in exempt
        depth = 0 if head or rates.layer_decay == 1 else depths.get(name, 0)
        groups.setdefault((head, decays, -depth), []).append(parameter)
    weighing = [{"params": [learned], "part": "head", "scale": max(1.0, WEIGHING / rates.head), "weight_decay": 0.0}]
    return choice.make(
        [
            {
                "params": parameters,
                "part": "head" if head else "backbone",
                "scale": rates.layer_decay**-depth,
                "lr": rates.head if head else rates.backbone * rates.layer_decay**-depth,
                "weight_decay": rates.weight_decay if decays else 0.0,
            }
            for (head, decays, depth), parameters in sorted(groups.items(), reverse=True)
        ]
        + (weighing if learned is not None else [])
    )


def begin_phase(optimiser: torch.optim.Optimizer, rates: Rates, factor: float) -> None:
    """Put the rates of a phase into the groups, and the optimiser's memory into the layout that its parameters have.

    What trained before goes on with the moments that it has; a fused step walks through both as they lie in memory.
    """
    for group in optimiser.param_groups:
        rate = rates.head if group["part"] == "head" else rates.backbone
        group["lr"] = group["initial_lr"] = factor * rate * group["scale"]
    for parameter, state in optimiser.state.items():
        for name, own in state.items():
            if not isinstance(own, torch.Tensor) or own.shape != parameter.shape:
                continue
            if (own.stride(), own.device) != (parameter.stride(), parameter.device):
                state[name] = torch.empty_like(parameter, dtype=own.dtype).copy_(own)
