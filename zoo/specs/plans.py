"""What a strategy asks of the engine: typed slots that the core merges.

Four kinds of slot: *multiply* (element weights), *chain* (per-class transforms, boundary resamplers), *add* (logit
biases at inference) and *exclusive* (index sampler, criterion, batch mixer, head, head fitter, head edit, tuned bias),
of which two claims are refused by name. The trainer owns masking and reduction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from zoo.specs.grammar import Call
from zoo.specs.tasks import Target

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EXCLUSIVE_SLOTS = ("sampler", "criterion", "mixer", "image_maker", "head", "head_fitter", "head_edit", "tuned_bias")


class IndexSampler(Protocol):
    """Which training rows an epoch visits, in which order."""

    def __call__(self, labels: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        """Positions int64 (M,) into the training rows, whose hard labels are `labels` int64 (N,), -1 where unknown."""
        ...


class Criterion(Protocol):
    """A loss for each row, never reduced: the trainer weighs, masks and averages."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """Losses (B,) for logits (B, K), or (B, K) of each label where a row has several; some are masked later."""
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

    def __call__(
        self,
        features: Tensor,
        target: Target,
        generator: torch.Generator,
        one_hot: Sequence[tuple[int, int]] = (),
    ) -> tuple[Tensor, Target]:
        """New features (M, D) and targets of M rows from (N, D) and N, whose labels are all known.

        Features are standardised; covariates stand behind them, encoded. `one_hot` names the columns, from and up to,
        of each covariate that is a category; a column alone is 0 or 1.
        """
        ...


class ImageMaker(Protocol):
    """Makes images that stand beside the training rows for the whole run, as a generative model does."""

    @property
    def side(self) -> int:
        """Of the pictures that it takes and makes, in pixels."""
        ...

    def __call__(self, pictures: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        """New pictures float32 (M, C, side, side) and their targets, from N of training rows whose labels are known.

        Pictures are in [0, 1]; what was given is not among what is returned.
        """
        ...


class HeadFitter(Protocol):
    """Fits a head in its own way, as bagging and boosting do, instead of by epochs."""

    def __call__(
        self, features: Tensor, target: Target, weights: Tensor, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        """The state of the head that the plan names in `head`.

        Features (B, D) are standardised, covariates behind them; labels are known; `weights` (B,) are of the rows.
        """
        ...


class HeadEdit(Protocol):
    """Changes the weights of a trained linear head, as tau-normalisation does."""

    def __call__(
        self, weight: Tensor, bias: Tensor, logits: Callable[[Tensor, Tensor], Tensor], target: Target
    ) -> tuple[Tensor, Tensor]:
        """Another weight (K, D) and bias (K,), on standardised features.

        `logits(weight, bias)` gives those of the validation rows, (N, K), and `target` is theirs: what is chosen is
        chosen on them.
        """
        ...


class TunedBias(Protocol):
    """Finds a bias on the logits on validation rows, as threshold moving does."""

    def __call__(self, logits: Tensor, target: Target) -> tuple[float, ...]:
        """What is added to the logits (N, K), which have every other bias already."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """What a strategy appends to the run, as the classifier re-training of cRT does (Kang et al. 2020).

    Attributes:
        epochs: length of the tail; everything but the heads is frozen in it.
        head: what of the heads trains: `kept` (they go on), `reset` (they begin anew), `scaled` (a factor on each
            class's logit alone, as in learnable weight scaling), or `kept+scaled` (both). Factors end in the weights.
        rate: factor on the run's learning rates.
    """

    epochs: int
    head: Literal["kept", "reset", "scaled", "kept+scaled"] = "kept"
    rate: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"a tail has at least one epoch, not {self.epochs}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"the rate of a tail is a positive factor, not {self.rate:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one strategy fills for one target.

    Attributes:
        strategy: its name, for messages.
        shift: the ledger's entry, (K,): natural logarithm of the factor by which the plan multiplies each class's
            share in training, up to a constant; None for that of the element weights, or none. What acts at inference
            is not counted here.
        element_weights: *multiply*: a factor (K,) on the loss of each row by its class; where a row has several labels,
            on that of each label where it is there.
        class_transforms: *chain*: by class index, the grammar's name of an augmentation of the pixels.
        resamplers: *chain*: applied in order to the features at the boundary.
        logit_bias: *add*: from the log prior (K,) that training left uncorrected, or the log odds of several labels, to
            a bias (K,) on the logits at inference; the bias is saved with the run.
        sampler, criterion, mixer, image_maker, head, head_fitter, head_edit, tuned_bias: *exclusive*. A head fitter
            names the head that it fits in `head`. An image maker acts in the whole run.
        hard_labels: whether the criterion takes hard labels alone, so that no mixer stands before it.
        gate: the part of the run, as fractions, in which the plan's training slots act.
        tail: epochs appended to the run, in which alone the plan's training slots act; not together with a gate.
            A plan without one acts in the run before the tail.
        acts_on: whether it needs pixels or works at the boundary, on cached features.
        beside: further plans of the same strategy that act in other parts of the run.
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
    image_maker: ImageMaker | None = None
    head: Call | None = None
    head_fitter: HeadFitter | None = None
    head_edit: HeadEdit | None = None
    tuned_bias: TunedBias | None = None
    hard_labels: bool = False
    gate: tuple[float, float] = (0.0, 1.0)
    tail: Tail | None = None
    acts_on: Literal["pixels", "boundary"] = "boundary"
    beside: tuple[Plan, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.gate[0] < self.gate[1] <= 1.0:
            raise ValueError(f"{self.strategy}: gate {self.gate} is not a part of the run")
        if self.tail is not None and self.gate != (0.0, 1.0):
            raise ValueError(f"{self.strategy}: a plan gates its slots or appends a tail, not both")
        if self.image_maker is not None and (self.tail or self.gate != (0.0, 1.0)):
            raise ValueError(f"{self.strategy}: images that are made stand beside the rows in the whole run")
        if self.element_weights is not None and min(self.element_weights) < 0:
            raise ValueError(f"{self.strategy}: a class weight is negative: {self.element_weights}")
        if self.head_fitter is not None and self.head is None:
            raise ValueError(f"{self.strategy}: a head fitter names the head that it fits")
        if any(plan.strategy != self.strategy or plan.beside for plan in self.beside):
            raise ValueError(f"{self.strategy}: plans beside it bear its name and have none beside them")
