"""The part of a network behind a cut: run on what crosses, and compared with the whole before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo.features.calls import CutError, Run, Site, Stubs, go, modes_kept
from zoo.features.cut import Cut, capture


class Suffix:
    """A network after a boundary: its own forward pass, fed with what crosses.

    A context manager, in which the modules before the boundary do not compute.

    Args:
        cut: of this network.
        module: the network.
        run: its forward pass.
        image: shape (C, H, W) of one image.
    """

    def __init__(self, cut: Cut, module: nn.Module, run: Run, image: tuple[int, ...]) -> None:
        self._cut, self._module, self._run, self._image = cut, module, run, image
        self._stubs = Stubs(module, cut.answers, dense=cut.dense)

    def __enter__(self) -> Suffix:
        self._stubs.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stubs.__exit__(*error)

    def __call__(self, rows: Sequence[Tensor]) -> Tensor:
        """Features (B, …) from the rows (B, *shape) of each crossing."""
        images, device = len(rows[0]), rows[0].device
        given: dict[Site, list[Tensor | None]] = {}
        for each, held in zip(self._cut.crossings, rows, strict=True):
            empty: list[Tensor | None] = [None] * len(self._cut.answers[each.site].tensors)
            given.setdefault(each.site, empty)[each.place] = each.tensor(held)
        self._stubs.begin(images, device, given)
        # A blank in the place of the images; it takes no memory, and nothing that matters reads it.
        return self._run(self._module, torch.zeros((), device=device).expand(images, *self._image))


def check_cut(cut: Cut, module: nn.Module, run: Run, images: Tensor) -> Cut:
    """Compare the network with its two parts, in eval and in training mode, features and gradients.

    Args:
        cut: of this network.
        module: the network, frozen; it is left as it was.
        run: its forward pass.
        images: normalised, (B, C, H, W) with B of at least 2.

    Returns:
        The cut, with blanks that may be written to where the network does so.

    Raises:
        CutError: they differ, an image's rows depend on its neighbours, or rows change while the rest trains.
    """
    kept = _tensors(module)
    with modes_kept(module):
        try:
            go(module, "eval")
            _check_rows(cut, module, run, images)
            _put_back(kept)
            try:
                _check_parts(cut, module, run, images, kept)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a network that writes into what nobody reads, as positions are added in place
                cut = replace(cut, dense=True)
                _check_parts(cut, module, run, images, kept)
        finally:
            _put_back(kept)
    return cut


def _tensors(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Every buffer and every parameter that trains, with a copy of it."""
    moving = [*module.buffers(), *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    return [(tensor, tensor.detach().clone()) for tensor in moving]


@torch.no_grad()
def _put_back(kept: Sequence[tuple[Tensor, Tensor]]) -> None:
    for tensor, copy in kept:
        tensor.copy_(copy)


@torch.no_grad()
def _check_rows(cut: Cut, module: nn.Module, run: Run, images: Tensor) -> None:
    """Rows depend on their image alone, and on nothing that trains: not by a way either that gradients do not take."""
    rows, alone = capture(cut, module, run, images), capture(cut, module, run, images[:1])
    if any(_differ(a[:1], b) for a, b in zip(rows, alone, strict=True)):
        raise CutError("what crosses for one image depends on the others in its batch")
    generator = torch.Generator(images.device).manual_seed(0)
    for parameter in module.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, device=parameter.device, dtype=parameter.dtype)
            parameter.add_(noise * (0.1 + parameter.abs().mean()))
    moved = capture(cut, module, run, images)
    if any(_differ(a, b) for a, b in zip(rows, moved, strict=True)):
        raise CutError("what crosses changes when the rest trains")


def _check_parts(cut: Cut, module: nn.Module, run: Run, images: Tensor, kept: Sequence[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        rows = capture(cut, module, run, images)
    for mode in ("eval", "training"):
        go(module, mode)  # frozen parts stay in eval mode
        whole = _features_and_gradients(module, run, images)
        _put_back(kept)  # BatchNorm's statistics moved
        go(module, mode)
        with Suffix(cut, module, run, tuple(images.shape[1:])) as suffix:
            # Copies, because an activation at the start of the suffix may write into them.
            own = [held.clone() for held in rows]
            parts = _features_and_gradients(module, lambda _, held: suffix([held, *own[1:]]), own[0])  # noqa: B023
        _put_back(kept)
        if any(_unlike(a, b) for a, b in zip(whole, parts, strict=True)):
            raise CutError(f"its two parts do not give what the whole gives in {mode} mode")


def _features_and_gradients(module: nn.Module, run: Run, given: Tensor) -> list[Tensor | None]:
    """The features and the gradient of each trainable parameter, under one seed."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.random.fork_rng(devices=[given.device] if given.device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        features = run(module, given)
        gradients = torch.autograd.grad((features.float() ** 2).mean(), parameters, allow_unused=True)
    return [features.detach(), *gradients]


def _unlike(a: Tensor | None, b: Tensor | None) -> bool:
    return _differ(a, b) if a is not None and b is not None else a is not b


def _differ(a: Tensor, b: Tensor, tolerance: float = 1e-3) -> bool:
    """Whether two tensors differ by more than rounding."""
    a, b = a.float(), b.float()
    return not float((a - b).norm()) <= tolerance * float(a.norm()) + 1e-6
