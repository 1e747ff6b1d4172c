"""What a strategy asks of the engine: typed slots that the core merges.

Four kinds of slot: *multiply* (element weights), *chain* (per-class transforms, boundary resamplers), *add* (logit
biases at inference) and *exclusive* (index sampler, criterion, batch mixer, head, head fitter), of which two claims are
refused by name. The trainer owns masking and reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from zoo.specs.grammar import Call
from zoo.specs.tasks import Target

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EXCLUSIVE_SLOTS = ("sampler", "criterion", "mixer", "head", "head_fitter")


class IndexSampler(Protocol):
    """Which training rows an epoch visits, in which order."""

    def __call__(self, labels: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Positions int64 (M,) into the training rows, whose hard labels are `labels` int64 (N,), -1 where unknown."""
        ...


class Criterion(Protocol):
    """A loss for each row, never reduced: the trainer weighs, masks and averages."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """Losses (B,) for logits (B, K)."""
        ...


class BatchMixer(Protocol):
    """Mixes the rows of a batch, as mixup does; its targets are soft."""

    def __call__(
        self, inputs: tuple[Tensor, ...], target: Target, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Target]:
        """Mixed inputs and soft target of the same rows."""
        ...


class BoundaryResampler(Protocol):
    """Adds or removes rows among cached features, as SMOTE does; needs a frozen backbone."""

    def __call__(self, features: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        """New features (M, D) and targets of M rows from (N, D) and N."""
        ...


class HeadFitter(Protocol):
    """Fits a head in its own way, as L-BFGS, ridge or bagging do, instead of by epochs."""

    def __call__(
        self, features: Tensor, targets: Mapping[str, Target], weights: Tensor, generator: torch.Generator
    ) -> nn.Module:
        """A head that maps features (B, D) to logits (B, K)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """What a strategy appends to the run, as the classifier re-training of cRT does (Kang et al. 2020).

    Attributes:
        epochs: length of the tail; everything but the heads is frozen in it.
        reset_head: whether the heads begin anew.
    """

    epochs: int
    reset_head: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"a tail has at least one epoch, not {self.epochs}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one strategy fills for one target.

    Attributes:
        strategy: its name, for messages.
        shift: the ledger's entry, (K,): natural logarithm of the factor by which the plan multiplies each class's
            share in training, up to a constant; None for that of the element weights, or none. What acts at inference
            is not counted here.
        element_weights: *multiply*: a factor (K,) on the loss of each row by its class.
        class_transforms: *chain*: by class index, the grammar's name of an augmentation of the pixels.
        resamplers: *chain*: applied in order to the features at the boundary.
        logit_bias: *add*: from the log prior (K,) that training left uncorrected to a bias (K,) on the logits at
            inference; the bias is saved with the run.
        sampler, criterion, mixer, head, head_fitter: *exclusive*.
        gate: the part of the run, as fractions, in which the plan's training slots act.
        tail: epochs appended to the run, in which alone the plan's training slots act; not together with a gate.
        acts_on: whether it needs pixels or works at the boundary, on cached features.
    """

    strategy: str
    shift: tuple[float, ...] | None = None
    element_weights: tuple[float, ...] | None = None
    class_transforms: Mapping[int, str] = field(default_factory=dict)
    resamplers: tuple[BoundaryResampler, ...] = ()
    logit_bias: Callable[[Sequence[float]], tuple[float, ...]] | None = None
    sampler: IndexSampler | None = None
    criterion: Criterion | None = None
    mixer: BatchMixer | None = None
    head: Call | None = None
    head_fitter: HeadFitter | None = None
    gate: tuple[float, float] = (0.0, 1.0)
    tail: Tail | None = None
    acts_on: Literal["pixels", "boundary"] = "boundary"

    def __post_init__(self) -> None:
        if not 0.0 <= self.gate[0] < self.gate[1] <= 1.0:
            raise ValueError(f"{self.strategy}: gate {self.gate} is not a part of the run")
        if self.tail is not None and self.gate != (0.0, 1.0):
            raise ValueError(f"{self.strategy}: a plan gates its slots or appends a tail, not both")
        if self.element_weights is not None and min(self.element_weights) < 0:
            raise ValueError(f"{self.strategy}: a class weight is negative: {self.element_weights}")
