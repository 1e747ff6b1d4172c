"""The uniform view: what the engine knows of a backbone, whatever library it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor, nn

StageRole = Literal["stem", "stage", "neck"]
FeatureName = Literal["pooled", "cls", "mean", "cls+mean", "tokens"]
Crop = Literal["center", "squash"]
PixelType = Literal["uint8", "uint16", "int16", "float32"]
Layout = Literal["hwc", "chw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """How an image becomes the input that a backbone was pretrained on.

    The image is resized so that its shorter side is `resize` pixels and cut to the central `size` (crop `center`), or
    squeezed to `size` whatever its shape (crop `squash`); then divided by `full` and normalised by `mean` and `std`.

    Attributes:
        size: height and width in pixels.
        resize: the shorter side before the central crop, in pixels; not used by `squash`.
        mean, std: one value a channel, of pixels divided by `full`.
        interpolation: `bilinear`, `bicubic`, `nearest` or `lanczos`.
        fixed: whether the network takes no other size.
        full: the raw value that counts as 1: 255 for 8 bits, 1 for others, whose mean and std are in raw units.
        nodata: the raw value that says that a pixel is missing, or None.
        bands: names of the channels in the order in which the network reads them; empty for red, green and blue of
            ordinary pictures.
        file_bands: names of the bands of a file in its order, `-` for one that is passed over; empty where `bands` are
            empty.
        dtype: of the pixels in the files, where there are `bands`; others are brought to 8 bits.
        layout: where `.npy` files have their bands, in the last axis or in the first; None for what their shape says.
    """

    size: tuple[int, int]
    resize: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop: Crop = "center"
    fixed: bool = False
    full: float = 255.0
    nodata: float | None = None
    bands: tuple[str, ...] = ()
    file_bands: tuple[str, ...] = ()
    dtype: PixelType = "uint8"
    layout: Layout | None = None

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
        if self.crop not in get_args(Crop):
            raise ValueError(f"crop must be one of {', '.join(get_args(Crop))}, not {self.crop!r}")
        if self.crop == "center" and self.resize < min(self.size):
            raise ValueError(f"an image resized to {self.resize} cannot be cropped to {self.size}")
        if self.bands and len(self.bands) != len(self.mean):
            raise ValueError(f"{len(self.bands)} bands but {len(self.mean)} means")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.bands or ("red", "green", "blue")[: self.channels]

    @property
    def zero(self) -> tuple[float, ...]:
        """The raw value of each channel that is zero once it is normalised."""
        return tuple(mean * self.full for mean in self.mean)

    @property
    def spread(self) -> tuple[float, ...]:
        """Raw units of each channel that are one once it is normalised."""
        return tuple(std * self.full for std in self.std)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A named, ordered piece of a backbone.

    Attributes:
        name: as users write it and as reports show it.
        role: `stem`, `stage` or `neck`; the neck is what is pretrained between the last stage and the classifier.
        modules: paths of the outermost modules that belong to this stage alone.
        parameters: names of its parameters, those held by the root module included.
    """

    name: str
    role: StageRole
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureKind:
    """Something that a backbone offers to a head, and how many numbers it has per image (per token for `tokens`)."""

    name: FeatureName
    width: int


@dataclass(frozen=True, kw_only=True)
class BackboneView:
    """A built network and its parts: every parameter lies in one stage, the classifier or an auxiliary classifier.

    Attributes:
        name: `source/model`.
        module: the network.
        stages: stem, stages and neck, from the image to the classifier.
        classifier: parameter names of the classifier alone; empty once it has been taken off.
        classifier_modules: paths of the modules that are the classifier.
        auxiliary: parameter names of auxiliary classifiers.
        auxiliary_modules: paths of the modules that are auxiliary classifiers.
        features: kinds of features, the default first.
        input: how images are prepared.
        weights: the tag that was loaded, `none` for random ones, or `unknown` for a network that the user built.
        licence: of the weights, as their publisher states it, or an empty string where nobody states it.
        extract: `(module, images (B, C, H, W), kind) -> features`, (B, width) or (B, tokens, width).
        reset_classifier: `(module, outputs) -> None` puts a new, randomly initialised classifier in place; 0 takes it
            off, after which calling the module gives pooled features.
        resize: `(module, (height, width)) -> note` makes the network take images of that size, positions interpolated,
            and says what it did; raises ValueError with the reason where it cannot. None for a network that takes
            images of any size as it is, or, where `input.fixed`, of no other.
        input_layers: paths of the convolutions that read the image's channels; empty where nobody can tell.
        notes: what was changed or should be known, for people.
    """

    name: str
    module: nn.Module
    stages: tuple[Stage, ...]
    classifier: tuple[str, ...]
    classifier_modules: tuple[str, ...]
    features: tuple[FeatureKind, ...]
    input: InputSpec
    extract: Callable[[nn.Module, Tensor, str], Tensor]
    reset_classifier: Callable[[nn.Module, int], None]
    resize: Callable[[nn.Module, tuple[int, int]], str] | None = None
    input_layers: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()
    auxiliary_modules: tuple[str, ...] = ()
    weights: str = "none"
    licence: str = ""
    notes: tuple[str, ...] = field(default=())

    def feature(self, name: str | None = None) -> FeatureKind:
        """The feature kind of this name, or the default one."""
        if name is None:
            return self.features[0]
        for kind in self.features:
            if kind.name == name:
                return kind
        offered = ", ".join(kind.name for kind in self.features)
        raise ValueError(f"{self.name} offers no {name!r} features; it offers {offered}")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages from the image to the classifier."""
        return tuple(stage.name for stage in self.stages)


def partition(
    module: nn.Module,
    groups: Sequence[tuple[str, StageRole, Sequence[str]]],
    *,
    classifier: Sequence[str],
    auxiliary: Sequence[str] = (),
) -> dict[str, Any]:
    """Sort every parameter of `module` into stages, classifier and auxiliary classifiers by the paths of its owners.

    Args:
        module: the network.
        groups: (name, role, paths) of each stage from the image to the classifier; a path is a module's or a root
            parameter's, and holds everything below it. The longest path that fits a parameter decides.
        classifier: paths of the modules that are the classifier.
        auxiliary: paths of auxiliary classifiers.

    Returns:
        The fields `stages`, `classifier`, `classifier_modules`, `auxiliary`, `auxiliary_modules` of a `BackboneView`.

    Raises:
        ValueError: a parameter that no path holds, or a path that stands twice.
    """
    owner: dict[str, int] = {}
    lists = [list(paths) for _, _, paths in groups] + [list(classifier), list(auxiliary)]
    for index, paths in enumerate(lists):
        for path in paths:
            if path in owner:
                raise ValueError(f"{path} stands in two groups")
            owner[path] = index
    held: list[list[str]] = [[] for _ in lists]
    for name, _ in module.named_parameters():
        held[_owner_of(name, owner)].append(name)
    modules = dict(module.named_modules())
    stages = tuple(
        Stage(
            name=name,
            role=role,
            modules=tuple(path for path in paths if path in modules),
            parameters=tuple(held[index]),
        )
        for index, (name, role, paths) in enumerate(groups)
    )
    return {
        "stages": stages,
        "classifier": tuple(held[-2]),
        "classifier_modules": tuple(classifier),
        "auxiliary": tuple(held[-1]),
        "auxiliary_modules": tuple(auxiliary),
    }


def _owner_of(parameter: str, owner: dict[str, int]) -> int:
    path = parameter
    while path:
        if path in owner:
            return owner[path]
        path = path.rpartition(".")[0]
    raise ValueError(f"parameter {parameter} belongs to no stage and to no classifier")
