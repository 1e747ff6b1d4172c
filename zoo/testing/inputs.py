"""What a backbone promises of images that are not those it was made for: other channels, another size."""

from __future__ import annotations

import torch
from torch import nn

from zoo.model.adapt import adapt_input
from zoo.model.view import check_view
from zoo.testing.check import NotApplicable, listed, require
from zoo.testing.specimen import BATCH, Specimen

COLOURS, CHANNELS = 3, 4
LARGER = 2
"""A size so many times the default one is a whole number of patches and windows where that one is."""


def reads_channels(specimen: Specimen) -> None:
    """`input_layers` are the convolutions that read the image: given a fourth channel, they and no other change."""
    view = specimen.view()
    if not view.input_layers:
        raise NotApplicable("it names no input layers")
    modules = dict(view.module.named_modules(remove_duplicate=False))
    lost = [path for path in view.input_layers if path not in modules]
    require(not lost, f"these input layers are not in the network: {listed(lost)}")
    others = [path for path in view.input_layers if not isinstance(modules[path], nn.Conv2d)]
    require(not others, f"these input layers are no convolutions: {listed(others)}")
    if view.input.channels != COLOURS:
        raise NotApplicable(f"it reads {view.input.channels} and not {COLOURS} channels")
    found = [path for path in view.input_layers if modules[path].in_channels != COLOURS]
    require(not found, f"these input layers do not read {COLOURS} channels: {listed(found)}")
    check_view(adapt_input(view, channels=CHANNELS))


def takes_another_size(specimen: Specimen) -> None:
    """Images of twice the size become features of the declared width, or `resize` refuses them with a reason."""
    view = specimen.view()
    if view.resize is None and view.input.fixed:
        raise NotApplicable("it takes images of one size alone")
    height, width = (LARGER * side for side in view.input.size)
    if view.resize is not None:
        try:
            said = view.resize(view.module, (height, width))
        except ValueError as error:
            require(bool(str(error).strip()), f"resize refuses {height} x {width} pixels and gives no reason")
            return
        require(isinstance(said, str) and bool(said.strip()), f"resize says {said!r}, not what it did")
        check_view(view)
    kind = view.features[0]
    images = torch.zeros((BATCH, view.input.channels, height, width), device=specimen.device)
    with torch.no_grad():
        found = view.extract(view.module.to(specimen.device).eval(), images, kind.name)
    shape = tuple(found.shape)
    fits = shape[0] == BATCH and shape[-1] == kind.width
    require(fits, f"{height} x {width} pixels become features {shape}, not of width {kind.width}")
