"""What strategies do to a trained model: its head edited, its logits given a bias, both chosen on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.specs import Target
from zoo.training.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class Afterwards:
    """What was done to a trained model.

    Attributes:
        bias: by task, added to the logits beside the strategies' own bias.
        said: a sentence about each thing, by task.
    """

    bias: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)


def linear_layer(head: nn.Module, why: str) -> nn.Linear:
    """The last layer of a head that ends in a linear one.

    Raises:
        ZooError: it does not; `why` says who asks.
    """
    last = [part for part in head.modules() if not list(part.children())]
    if not last or not isinstance(last[-1], nn.Linear):
        raise ZooError(f"{why} needs a head that ends in a linear layer, as linear and mlp do")
    return last[-1]


@torch.no_grad()
def finish(trainer: Trainer) -> Afterwards:
    """Edit the heads of a trained model and tune biases, as its last interval's answers ask.

    Raises:
        ZooError: a head that has no last linear layer; no validation row with a label.
    """
    bias: dict[str, tuple[float, ...]] = {}
    said: dict[str, str] = {}
    for task, head in zip(trainer.tasks, trainer.heads.heads, strict=True):
        answer = trainer.answers[task.name]
        if answer.head_edit is None and answer.tuned_bias is None:
            continue
        whole = trainer.data.targets[task.name].take(trainer.data.val)
        known = torch.nonzero(whole.mask if whole.mask.ndim == 1 else whole.mask.any(dim=1))[:, 0]
        target = whole.take(known)
        if not len(target):
            raise ZooError(f"{answer.name} is tuned on validation rows, and none has a label of {task.name}")
        if answer.head_edit is not None:
            said[task.name] = _edited(trainer, head, task.name, known, target)
        if answer.tuned_bias is not None:
            logits = trainer.predict()[task.name][known]
            corrected = logits + torch.tensor(answer.logit_bias) if answer.logit_bias else logits
            bias[task.name] = tuple(answer.tuned_bias(corrected, target))
            figures = ", ".join(f"{value:+.3f}" for value in bias[task.name])
            said[task.name] = f"{said.get(task.name, '')} logits moved by {figures}, chosen on validation rows".strip()
    return Afterwards(bias=bias, said=said)


def _edited(trainer: Trainer, head: nn.Module, name: str, known: Tensor, target: Target) -> str:
    answer = trainer.answers[name]
    assert answer.head_edit is not None  # noqa: S101  asked by the caller
    layer = linear_layer(head, answer.name)

    def logits(weight: Tensor, bias: Tensor) -> Tensor:
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        return trainer.predict()[name][known]

    before = layer.weight.detach().clone().cpu()
    weight, bias = answer.head_edit(before, layer.bias.detach().clone().cpu(), logits, target)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    factors = (weight.norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)).tolist()
    return "weights of the classes multiplied by " + ", ".join(f"{factor:.3f}" for factor in factors) + ";"
