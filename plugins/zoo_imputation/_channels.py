"""Channels that are missing altogether: the value that normalisation turns into zero, alone or made up for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.specs import ImageRows, TrainView
from zoo_imputation._planes import Arrays, Channels, as_dtype, learn_channels, load_channels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChannelFill:
    """Fills planes of which no pixel is known.

    Attributes:
        channels: that it was fitted on.
        zero: float64 (C,), the raw value of each channel that is zero once it is normalised.
        scaled: whether the channels that are there stand for those that are not.
    """

    channels: Channels
    zero: NDArray[np.float64]
    scaled: bool

    def transform(self, images: ImageRows) -> ImageRows:
        """The same images with every missing plane filled; what was observed stays bit for bit.

        A convolution that pads with zeros then gives what it would give without the kernels of those channels, plus,
        where `scaled`, the share of the others that these stood for: C / those that are there.

        Raises:
            ValueError: other channels than those it was fitted on.
        """
        self.channels.check(images)
        absent = np.asarray(images.missing.all(axis=(2, 3)))
        zero = as_dtype(self.zero, images.values.dtype)[None, :, None, None]
        values = np.where(absent[:, :, None, None], zero, images.values)
        gain = None
        if self.scaled:
            there = (~absent).sum(axis=1)
            gain = (absent.shape[1] / np.maximum(there, 1)).astype(np.float32)
        return dataclasses.replace(images, values=values, gain=gain)

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_channel_fill` takes back."""
        arrays, values = self.channels.save()
        return {**arrays, "zero": self.zero}, {**values, "scaled": self.scaled}


def fit_channel_fill(view: TrainView, *, scaled: bool) -> ChannelFill:
    """Take the channels' zeros, after a look whether training knows each of them.

    Raises:
        ValueError: there are no images, or no training row knows a pixel of a channel.
    """
    channels = learn_channels(view)
    assert view.images is not None  # noqa: S101 - `learn_channels` refuses it
    return ChannelFill(channels=channels, zero=view.images.zero, scaled=scaled)


def load_channel_fill(arrays: Arrays, values: Mapping[str, Any]) -> ChannelFill:
    """The inverse of `ChannelFill.save`."""
    zero = arrays["zero"].astype(np.float64, copy=False)
    return ChannelFill(channels=load_channels(arrays, values), zero=zero, scaled=bool(values["scaled"]))
