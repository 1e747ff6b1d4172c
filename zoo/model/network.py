"""The network that is fine-tuned: a backbone without its classifier, and one head for each task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.model.lora import Adapters
from zoo.registry.guard import fault, guarded, view_fault
from zoo.registry.lookup import HEADS
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneView, Call, HeadRecord, Task, bind

NUMBERS_PRIOR = 4.0
"""How much stronger weights of numbers are held than those of classes: logits are expected to have a standard deviation
of 2, standardised numbers one of 1."""

STATISTICS_ROWS = 64
"""Rows that feature statistics are learned from at once: tokens in double precision take a megabyte a row."""


class Standardise(nn.Module):
    """Features to zero mean and unit variance, by statistics of the training rows that are data, not parameters.

    Tokens are standardised by channel, over rows and tokens alike.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, features: Tensor) -> None:
        """Learn from training features (N, width) or (N, tokens, width); a constant one keeps a deviation of one."""
        self.fit_parts(torch.split(features, STATISTICS_ROWS))

    def fit_parts(self, parts: Iterable[Tensor]) -> None:
        """Learn from training features in parts, each of which is read once, so that all of them need not be there."""
        count, mean, squares = 0, self.mean.double() * 0, self.mean.double() * 0
        for part in parts:
            rows = part.flatten(0, -2).double()
            own = rows.mean(dim=0)
            # Two parts' sums of squares about their own means, joined about the mean of both (Chan et al. 1979).
            shift, total = own - mean, count + len(rows)
            squares += (rows - own).square().sum(dim=0) + shift.square() * (count * len(rows) / total)
            mean += shift * (len(rows) / total)
            count = total
        std = (squares / max(1, count)).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) or (B, tokens, width) to the same shape."""
        return (features - self.mean) / self.std


class TaskHeads(nn.Module):
    """One head for each task on the same features, joined to the covariates where there are some.

    Attributes:
        takes: `vector` or `tokens`; covariates are joined to each token.
        linear: whether every head is one linear layer, dropout before it or not.
        one_layer: whether no head has more than one matrix of weights.
        log_variances: (T,), of each task, where a run learns how much each counts in its loss; no part of a finished
            model. None where nothing of that is learned.
    """

    log_variances: nn.Parameter | None

    def __init__(self, tasks: Sequence[Task], width: int, *, covariates: int = 0, head: Call | None = None) -> None:
        """Build the heads.

        Raises:
            OptionError: no plugin offers the head, or it does not take these parameters.
            PluginError: the head's plugin broke, or gave a head with another number of outputs.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = width
        self.covariates = covariates
        self.call = head or Call(name="linear")
        record = HEADS.of_call(self.call)
        self.takes = record.takes
        parameters: Any = bind(self.call, record.parameters)
        self.standardise = Standardise(width)
        # Integer keys: a task is named by a column, and a column's name may hold a dot.
        home = HEADS.home(self.call.name)
        self.heads = nn.ModuleList(
            _built(home, record, width + covariates, task.outputs, parameters) for task in self.tasks
        )
        self.register_parameter("log_variances", None)
        self.linear = all(_is_linear(head) for head in self.heads)
        self.one_layer = all(sum(p.ndim > 1 for p in head.parameters()) <= 1 for head in self.heads)

    def forward(self, features: Tensor, covariates: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (B, outputs) by task from features (B, width) or (B, tokens, width), and covariates (B, C)."""
        joined = self.standardise(features.to(self.standardise.mean.dtype))
        if self.covariates:
            if covariates is None:
                raise ValueError(f"this model was trained with {self.covariates} covariate columns; give them")
            columns = covariates.to(joined.dtype)
            if self.takes == "tokens":
                columns = columns.unsqueeze(1).expand(-1, joined.shape[1], -1)
            joined = torch.cat([joined, columns], dim=-1)
        return {task.name: head(joined) for task, head in zip(self.tasks, self.heads, strict=True)}

    def weigh_tasks(self, learned: bool) -> None:
        """Begin to learn how much each task counts, all alike at first; or forget it."""
        zeros = torch.zeros(len(self.tasks), device=self.standardise.mean.device)
        self.log_variances = nn.Parameter(zeros) if learned else None

    def penalty(self, strength: float) -> Tensor:
        """Half of `strength` times the squared norm of the weight matrices, of numbers `NUMBERS_PRIOR` times that.

        Biases are free. Covariates stand beside many more features; their weights are held in the proportion of their
        number, so that a few that say much are not drowned.
        """
        squares: list[Tensor] = []
        for task, head in zip(self.tasks, self.heads, strict=True):
            own = [part for parameter in head.parameters() if parameter.ndim > 1 for part in self._squares(parameter)]
            squares += [part * NUMBERS_PRIOR for part in own] if task.kind == "regression" else own
        # Summed in Python: stacking a handful of numbers costs more than adding them, and this runs in every step.
        total = sum(squares[1:], squares[0]) if squares else torch.zeros((), device=self.standardise.mean.device)
        return 0.5 * strength * total

    def _squares(self, parameter: Tensor) -> Iterator[Tensor]:
        """The squared norm of a matrix, in parts."""
        if self.covariates and parameter.shape[1] == self.width + self.covariates:
            yield parameter[:, : self.width].square().sum()
            yield parameter[:, self.width :].square().sum() * (self.covariates / self.width)
        else:
            yield parameter.square().sum()

    @torch.no_grad()
    def fold(self) -> bool:
        """Put the standardisation into linear heads, so that raw features go in; False where a head is not linear."""
        if not all(isinstance(head, nn.Linear) for head in self.heads):
            return False
        mean, std = self.standardise.mean.double(), self.standardise.std.double()
        for head in self.heads:
            assert isinstance(head, nn.Linear)  # noqa: S101 - checked above; for the type checker
            weight = head.weight.double()
            weight[:, : self.width] /= std
            head.bias.copy_(head.bias.double() - weight[:, : self.width] @ mean)
            head.weight.copy_(weight)
        self.standardise.mean.zero_()
        self.standardise.std.fill_(1.0)
        return True


def _built(plugin: Plugin, record: HeadRecord, width: int, outputs: int, parameters: object) -> nn.Module:
    """One head, tried on two rows: it gives a logit for each output, or its plugin is named."""
    what = f"head {record.name}"
    with guarded(plugin, what):
        head = record.build(width, outputs, parameters)
    if not isinstance(head, nn.Module):
        raise fault(plugin, what, f"build gave {head!r}, which is no torch module")
    like = next(head.parameters(), torch.zeros(()))
    shape = (2, 4, width) if record.takes == "tokens" else (2, width)
    modes = [(module, module.training) for module in head.modules()]
    with guarded(plugin, what), torch.no_grad():
        found = head.eval()(torch.zeros(shape, device=like.device, dtype=like.dtype))
    for module, mode in modes:
        module.training = mode
    given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if given != (2, outputs):
        raise fault(plugin, what, f"asked for {outputs} outputs, it gives {given} for two rows, not (2, {outputs})")
    return head


def require_width(view: BackboneView, kind: str, features: Tensor) -> Tensor:
    """The features (..., width), if they have the width that the view declares for this kind.

    Raises:
        PluginError: they have another; names the plugin of the backbone.
    """
    declared = view.feature(kind).width
    if features.shape[-1] != declared:
        said = f"it declares {declared} {kind} features and gives {features.shape[-1]}"
        raise view_fault(view.name, said)
    return features


def _is_linear(head: nn.Module) -> bool:
    parts = [part for part in head.modules() if not isinstance(part, nn.Sequential | nn.Dropout)]
    return len(parts) == 1 and isinstance(parts[0], nn.Linear)


class FineTuneModel(nn.Module):
    """A backbone and its heads. Calling it with images (B, C, H, W) gives logits.

    Attributes:
        view: the backbone's parts; parameter names in it lack the prefix `backbone.`.
        kind: the kind of feature that the heads take.
        adapters: what `zoo.model.lora` put in; None where nothing is in.
    """

    def __init__(self, view: BackboneView, heads: TaskHeads, kind: str) -> None:
        super().__init__()
        self.view = view
        self.kind = kind
        self.backbone = view.module
        self.heads = heads
        self.adapters: Adapters | None = None

    def features(self, images: Tensor) -> Tensor:
        """Features (B, width), or (B, tokens, width) where the heads take tokens, of normalised images (B, C, H, W)."""
        return require_width(self.view, self.kind, self.view.extract(self.backbone, images, self.kind))

    def logits(self, images: Tensor, covariates: Tensor | None = None) -> dict[str, Tensor]:
        """Logits (B, outputs) of each task by its name."""
        logits: dict[str, Tensor] = self.heads(self.features(images), covariates)
        return logits

    def forward(self, images: Tensor, covariates: Tensor | None = None) -> Tensor | Mapping[str, Tensor]:
        """Logits (B, outputs) where there is one task, else a mapping from each task's name."""
        logits = self.logits(images, covariates)
        return next(iter(logits.values())) if len(logits) == 1 else logits
