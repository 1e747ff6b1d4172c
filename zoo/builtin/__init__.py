"""What the core offers through the same door as any plugin: heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import HeadRecord

if TYPE_CHECKING:
    from torch import nn


DEEPEST = 8
"""Depth of trees: each level doubles what is kept of them."""


def _check_dropout(dropout: float) -> None:
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must lie in [0, 1), not {dropout}")


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise ValueError(f"{name} must be at least 1, not {count}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """Parameters of the linear head; `dropout` is the share of features dropped in training."""

    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mlp:
    """Parameters of the perceptron: width and number of hidden layers, and the share of hidden units dropped."""

    hidden: int = 512
    layers: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_count("hidden", self.hidden)
        _check_count("layers", self.layers)
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """Parameters of the cosine head: what cosines are multiplied by, and whether that number is learned."""

    scale: float = 10.0
    learn_scale: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.scale < float("inf"):
            raise ValueError(f"scale must be positive, not {self.scale}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Parameters of attentive pooling: number of attention heads, and the share of pooled numbers dropped."""

    heads: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_count("heads", self.heads)
        _check_dropout(self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """Parameters of the ensemble: how many linear members are averaged."""

    members: int = 10

    def __post_init__(self) -> None:
        _check_count("members", self.members)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trees:
    """Parameters of boosted trees: members that are averaged, trees of each, and their depth."""

    members: int = 1
    rounds: int = 50
    depth: int = 1

    def __post_init__(self) -> None:
        for name in ("members", "rounds", "depth"):
            _check_count(name, getattr(self, name))
        if self.depth > DEEPEST:
            raise ValueError(f"depth must be at most {DEEPEST}, not {self.depth}: trees are kept whole, leaf by leaf")


def _build_linear(in_features: int, outputs: int, parameters: Linear) -> nn.Module:
    from zoo.builtin._modules import linear

    return linear(in_features, outputs, dropout=parameters.dropout)


def _build_mlp(in_features: int, outputs: int, parameters: Mlp) -> nn.Module:
    from zoo.builtin._modules import mlp

    return mlp(in_features, outputs, hidden=parameters.hidden, layers=parameters.layers, dropout=parameters.dropout)


def _build_cosine(in_features: int, outputs: int, parameters: Cosine) -> nn.Module:
    from zoo.builtin._modules import CosineHead

    return CosineHead(in_features, outputs, scale=parameters.scale, learn_scale=parameters.learn_scale)


def _build_attention(in_features: int, outputs: int, parameters: Attention) -> nn.Module:
    from zoo.builtin._modules import AttentionHead

    return AttentionHead(in_features, outputs, heads=parameters.heads, dropout=parameters.dropout)


def _build_ensemble(in_features: int, outputs: int, parameters: Ensemble) -> nn.Module:
    from zoo.builtin._modules import EnsembleHead

    return EnsembleHead(in_features, outputs, members=parameters.members)


def _build_trees(in_features: int, outputs: int, parameters: Trees) -> nn.Module:
    from zoo.builtin._modules import TreesHead

    return TreesHead(in_features, outputs, members=parameters.members, rounds=parameters.rounds, depth=parameters.depth)


@hookimpl
def zoo_heads() -> Iterable[HeadRecord]:
    """The heads of the core."""
    yield HeadRecord(name="linear", build=_build_linear, parameters=Linear, summary="one linear layer (linear probe)")
    yield HeadRecord(
        name="mlp", build=_build_mlp, parameters=Mlp, summary="a perceptron with hidden layers of GELU units"
    )
    yield HeadRecord(
        name="cosine",
        build=_build_cosine,
        parameters=Cosine,
        summary="scaled cosines to one direction a class (Gidaris and Komodakis 2018)",
    )
    yield HeadRecord(
        name="attention",
        build=_build_attention,
        takes="tokens",
        parameters=Attention,
        summary="attentive pooling of all tokens by a learned query, then one linear layer",
    )
    yield HeadRecord(
        name="ensemble",
        build=_build_ensemble,
        parameters=Ensemble,
        summary="linear members, probabilities averaged; what bagging fits",
    )
    yield HeadRecord(
        name="trees",
        build=_build_trees,
        parameters=Trees,
        summary="boosted trees, their votes alone learned by epochs; what boosting fits",
    )
