"""Low-rank adapters put into a network before it trains, by peft, and merged into its weights afterwards.

Which layers may take them is said in `zoo.specs.adapters`; of those the ones do that compute by their own forward pass.
A layer whose weights others read, as `nn.MultiheadAttention` and torchvision's Swin do, would never use its adapters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import IntegrityError, ZooError
from zoo.specs import BackboneView, FreezePolicy, Lora, Stage, plain_name

if TYPE_CHECKING:
    from zoo.model.network import FineTuneModel

TOLERANCE = 1e-5
"""Relative change of the logits above which merged adapters are not taken for what was trained."""


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """What was put into a network.

    Attributes:
        lora: how.
        layers: paths of the layers in the backbone.
        numbers: of all their matrices.
        plain: the view of the backbone without them.
    """

    lora: Lora
    layers: tuple[str, ...]
    numbers: int
    plain: BackboneView


def require_peft() -> None:
    """Refuse what needs peft where it is not installed.

    Raises:
        ZooError: it is not; says how to install it.
    """
    if find_spec("peft") is None:
        raise ZooError("lora needs the package peft, which is not installed: pip install 'backbone-zoo[lora]'")


def add_adapters(model: FineTuneModel, policy: FreezePolicy, seed: int = 0) -> Adapters:
    """Put adapters where `policy` says, in place; the network computes what it did, because B begins at zero.

    The view goes along: weights are called `….base_layer.weight` now, and adapters lie in the stage of their layer.

    Args:
        model: without adapters.
        policy: with `lora`.
        seed: that A is drawn from, by layer's order.

    Raises:
        OptionError: no layer there takes adapters.
        ZooError: peft is not installed, adapters are there already, or no layer there computes by itself.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model

    if policy.lora is None:
        raise ValueError(f"{policy.text} names no adapters")
    if model.adapters is not None:
        raise ZooError("this model has adapters; merge them with zoo.model.lora.merge_adapters before others go in")
    view, lora = model.view, policy.lora
    paths = [name.removesuffix(".weight") for name in policy.select(view).parameters]
    called = _called(model, paths)
    layers = tuple(path for path, _ in view.module.named_modules() if path in called)
    if not layers:
        raise ZooError(
            f"{view.name}: the layers of --freeze {policy.text} never compute by themselves, something else reads "
            "their weights; adapters there would have no effect"
        )
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # A pattern, because peft takes a plain name for the end of any path.
        target_modules="|".join(re.escape(path) for path in layers),
    )
    modes = {path: part.training for path, part in view.module.named_modules()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, view.module)
    for path in layers:
        view.module.get_submodule(path).train(modes[path])
    model.view = _with_adapters(view)
    numbers = sum(view.module.get_parameter(name).numel() for name in policy.select(model.view).parameters)
    model.adapters = Adapters(lora=lora, layers=layers, numbers=numbers, plain=view)
    return model.adapters


def _with_adapters(view: BackboneView) -> BackboneView:
    """The view with the names that parameters have now, each in the stage of its plain name."""
    names = [name for name, _ in view.module.named_parameters()]

    def held(stage: Stage) -> Stage:
        own = set(stage.parameters)
        return dataclasses.replace(stage, parameters=tuple(name for name in names if plain_name(name) in own))

    return dataclasses.replace(view, stages=tuple(held(stage) for stage in view.stages))


@torch.no_grad()
def _called(model: FineTuneModel, paths: Collection[str]) -> set[str]:
    """Of the layers at `paths` those whose forward pass runs when the backbone's does."""
    found: set[str] = set()
    module = model.view.module
    modes = {part: part.training for part in module.modules()}
    handles = []
    for path in paths:

        def ran(part: nn.Module, given: Any, path: str = path) -> None:
            del part, given
            found.add(path)

        handles.append(module.get_submodule(path).register_forward_pre_hook(ran))
    module.eval()
    try:
        model.features(_example(model))
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes.items():
            part.training = mode
    return found


def _example(model: FineTuneModel) -> Tensor:
    """Two normalised images (2, C, H, W) of noise."""
    spec, parameter = model.view.input, next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, spec.channels, *spec.size), generator=generator).to(parameter.device, parameter.dtype)


def merge_adapters(model: FineTuneModel) -> float:
    """Merge the adapters into the weights, in place, and take them out; the model is a plain one again.

    Returns:
        The relative change of the logits of two images of noise, in eval mode.

    Raises:
        ZooError: there are none.
        IntegrityError: the change is more than rounding; the model is then of no use.
    """
    if model.adapters is None:
        raise ZooError("this model has no adapters to merge")
    plain = model.adapters.plain
    before = _logits(model)
    with torch.backends.cudnn.flags(allow_tf32=False):  # the product of a convolution's matrices is a convolution
        for path in model.adapters.layers:
            layer: Any = plain.module.get_submodule(path)
            layer.merge(safe_merge=True)
            plain.module.set_submodule(path, layer.get_base_layer())
    del plain.module.peft_config
    model.view, model.adapters = plain, None
    after = _logits(model)
    moved = max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(after, before, strict=True))
    if not moved <= TOLERANCE:
        raise IntegrityError(f"merging the adapters changed the logits by {moved:.1e}, more than {TOLERANCE:.0e}")
    return moved


@torch.no_grad()
def _logits(model: FineTuneModel) -> Sequence[Tensor]:
    """Float64 copies on the CPU of the logits of each task for `_example`, computed in float32."""
    modes = {part: part.training for part in model.modules()}
    images = _example(model)
    covariates = images.new_zeros((len(images), model.heads.covariates)) if model.heads.covariates else None
    model.eval()
    # TF32 rounds to three digits, more than the check allows.
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = [own.double().cpu() for own in model.logits(images, covariates).values()]
    for part, mode in modes.items():
        part.training = mode
    return found
