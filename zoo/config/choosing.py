"""What the commands take that show which backbones and plugins there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from zoo.config.marks import Positional, arg


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """List backbones.

    --licence, --on-disk, --min-top1 and the sizes of the input look at each set of weights: a backbone stays with those
    that fit, and the first of them is shown. What nobody states fits no filter; a note says how many fell out for that.
    """

    pattern: Positional[tuple[str, ...]] = ("*",)
    """Globs over source/model, of which one must match; a word without a glob matches anywhere, as in `zoo list
    resnet`."""
    source: str | None = None
    """Only this source, such as timm."""
    family: str | None = None
    """Only this family of architectures, as a glob, such as resnet."""
    min_params: str | None = None
    """Smallest number of parameters, such as 5M or 5e6."""
    max_params: str | None = None
    """Largest number of parameters, such as 25M or 25e6."""
    max_gmacs: float | None = None
    """Largest number of 1e9 multiply-accumulates for one image."""
    min_top1: float | None = None
    """Lowest ImageNet-1K accuracy in percent, as published by the library."""
    input_size: int | None = None
    """Height in pixels of the images that the weights were trained for."""
    max_input_size: int | None = None
    """Largest such height."""
    feature: str | None = None
    """Only backbones that offer this kind of features to a head: pooled, cls, mean, cls+mean or tokens."""
    licence: str | None = None
    """permissive, restricted or unstated; or a glob over the licence as it is stated, such as "apache*"."""
    pretrained: bool = False
    """Only backbones with pretrained weights."""
    on_disk: bool = False
    """Only weights that lie on this disk, so that no network is needed."""
    sort: Literal["name", "params", "gmacs", "input", "top1"] = "name"
    """Order of the rows: the smallest first, for top1 the best; those without a value come last."""
    reverse: bool = False
    """Turn the order round; those without a value still come last."""
    limit: int | None = None
    """Show no more than this many rows."""
    weights: bool = False
    """A row for each set of weights instead of one for each backbone."""
    json: bool = False
    """Print as JSON."""
    csv: bool = False
    """Print as CSV."""


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Show one backbone: stages, parameters, input, features, weights, licence, and where all of it comes from."""

    name: Positional[str]
    """source/model or source/model.tag."""
    freeze: str = "head"
    """Show what trains under this policy or schedule, as zoo train takes it."""
    epochs: int = 10
    """Length of the run that is shown."""
    batchnorm: Literal["frozen", "recalibrate", "train"] | None = None
    """BatchNorm statistics, as zoo train takes it."""
    optimiser: Annotated[str, arg(aliases=["--optimizer"])] = "adamw"
    """As zoo train takes it; the default rates depend on it."""
    lr: float | None = None
    """Learning rate of the head; by default that of zoo train."""
    backbone_lr: float | None = None
    """Learning rate of the backbone's trainable part; by default that of zoo train."""
    layer_decay: float = 1.0
    """Each block of the backbone has the rate of the block behind it times this."""
    size: int | None = None
    """Show it for images of so many pixels, height and width; refused where it cannot take them."""
    json: bool = False
    """Print as JSON."""


@dataclass(frozen=True, kw_only=True)
class PluginsConfig:
    """List the installed plugins, what they offer, and which failed to load and why."""

    verbose: bool = False
    """Show what each thing that they offer is."""
    json: bool = False
    """Print as JSON."""
