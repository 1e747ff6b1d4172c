"""Cut a network at the boundary that a freeze policy leaves: what lies before it is computed once, the rest each step.

Nothing is traced into a graph. The suffix *is* the network's own forward pass, in which each module before the boundary
answers with what it once gave instead of computing: so training mode, dropout, checkpointing and every branch are as
the author wrote them, and what is cheap and constant (rotary tables, positions) is computed where it is used.

Which modules lie before the boundary is observed on a forward pass: those whose output depends on the image and on
nothing that trains. Autograd keeps that book: an output requires a gradient where it depends on what does. What crosses
the boundary are those outputs that something after it reads; the others are answered with blanks of their shape. All
of it works on the meta device too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.features.calls import (
    Answer,
    CutError,
    Recorder,
    Run,
    Site,
    Stubs,
    answer_of,
    go,
    gradients_of,
    modes_kept,
    tensors_of,
)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A tensor that crosses the boundary.

    Attributes:
        site: the call that gives it.
        place: its position among the tensors that the call gives.
        batch: which of its dimensions counts images.
        repeat: entries of that dimension that belong to one image, side by side.
        shape: of one image's share: without that dimension where `repeat` is 1.
    """

    site: Site
    place: int
    batch: int
    repeat: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The module's path, with the call and the place where they are not the first."""
        path, call = self.site
        return path + (f"#{call}" if call else "") + (f"[{self.place}]" if self.place else "")

    def rows(self, tensor: Tensor) -> Tensor:
        """As the network gives it, to rows (B, *shape)."""
        moved = tensor.movedim(self.batch, 0)
        return moved if self.repeat == 1 else moved.reshape(-1, self.repeat, *moved.shape[1:])

    def tensor(self, rows: Tensor) -> Tensor:
        """Rows (B, *shape) as the network gives them."""
        return (rows if self.repeat == 1 else rows.flatten(0, 1)).movedim(0, self.batch)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A boundary of one network, for images of one size.

    Attributes:
        crossings: what crosses it.
        answers: by call before it, what that gives.
        dense: whether blanks stand for the others' tensors with memory of their own.
    """

    crossings: tuple[Crossing, ...]
    answers: Mapping[Site, Answer]
    dense: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The crossings' names."""
        return tuple(each.name for each in self.crossings)

    @property
    def numbers(self) -> int:
        """Numbers that cross for one image."""
        return sum(math.prod(each.shape) for each in self.crossings)


def plan_cut(module: nn.Module, run: Run, trainable: frozenset[str], example: Tensor) -> Cut:
    """Find the boundary before which nothing trains.

    Args:
        module: the network, on any device, meta included; it is left as it was.
        run: its forward pass.
        trainable: names of the parameters at and after the boundary.
        example: normalised images (3, C, H, W) on the network's device.

    Raises:
        CutError: nothing lies before the boundary, or what crosses it cannot be divided by images.
    """
    with modes_kept(module):
        go(module, "eval")
        with gradients_of(module, trainable):
            two = Recorder(module, run, example[:2])
        if not two.features.requires_grad:
            raise CutError("nothing trains that the features depend on")
        go(module, "eval")
        with gradients_of(module, frozenset()):
            three = Recorder(module, run, example.detach().clone().requires_grad_().clone())
            if two.order != three.order:
                raise CutError("the network takes another path for another number of images")
            sites = _before(two, three, _behind(module, trainable))
            if not sites:
                raise CutError("something trains before the first module that reads the image")
            answers = {site: answer_of(site, two.outputs[site], three.outputs[site], two.inner(site)) for site in sites}
            del two, three
            go(module, "eval")
            live = _live(module, run, answers, example[:2])
    return Cut(crossings=tuple(_crossing(answers[site], site, place) for site, place in live), answers=answers)


def _behind(module: nn.Module, trainable: frozenset[str]) -> set[str]:
    """Paths of the modules of which every parameter trains."""
    held = {path: [name for name, _ in part.named_parameters(prefix=path)] for path, part in module.named_modules()}
    return {path for path, names in held.items() if names and trainable.issuperset(names)}


def _before(trained: Recorder, seen: Recorder, behind: set[str]) -> list[Site]:
    """The outermost calls whose output depends on the image (it does in `seen`) and on nothing that trains."""
    frozen = {
        site
        for site in trained.order
        if tensors_of(trained.outputs[site]) and site not in trained.tracked and site in seen.tracked
    }
    # What stands in a module that trains whole, such as an activation before its first layer, is cheaper to compute
    # again than to keep beside its neighbours.
    return [
        site
        for site in trained.order
        if site in frozen and not any(above in frozen or above[0] in behind for above in trained.above(site))
    ]


def _crossing(answer: Answer, site: Site, place: int) -> Crossing:
    leaf, where = answer.leaves[answer.tensors[place]], answer.batch[answer.tensors[place]]
    if where is None:
        raise CutError(f"what {site[0]} gives has no dimension that counts images")
    if not leaf.is_floating_point():
        raise CutError(f"{site[0]} gives {str(leaf.dtype).removeprefix('torch.')} numbers, which rows do not keep")
    at, repeat = where
    rest = [size for dimension, size in enumerate(leaf.shape) if dimension != at]
    shape = tuple(rest) if repeat == 1 else (repeat, *rest)
    return Crossing(site=site, place=place, batch=at, repeat=repeat, shape=shape)


def _live(module: nn.Module, run: Run, answers: Mapping[Site, Answer], images: Tensor) -> list[tuple[Site, int]]:
    """The tensors (call, place) that something after the boundary reads: those that a gradient reaches.

    Numbers without gradients (masks, indices) count as read.
    """
    leaves: dict[tuple[Site, int], Tensor] = {}
    given: dict[Site, list[Tensor | None]] = {}
    discrete: set[tuple[Site, int]] = set()
    for site, answer in answers.items():
        given[site] = []
        for place, at in enumerate(answer.tensors):
            shape = answer.leaves[at]
            zeros = torch.zeros(shape.shape, dtype=shape.dtype, device=images.device)
            if shape.is_floating_point():
                leaves[site, place] = zeros.requires_grad_()
                zeros = zeros.clone()  # a leaf may not be written in place
            else:
                discrete.add((site, place))
            given[site].append(zeros)
    blank = torch.zeros_like(images).requires_grad_()
    with torch.enable_grad(), Stubs(module, answers) as stubs:
        stubs.begin(len(images), images.device, given)
        features = run(module, blank.clone())
    wanted = [blank, *leaves.values()]
    tracked = features.requires_grad
    found = torch.autograd.grad(features.sum(), wanted, allow_unused=True) if tracked else [None] * len(wanted)
    if found[0] is not None:
        raise CutError("what trains reads the image itself")
    live = {key for key, gradient in zip(leaves, found[1:], strict=True) if gradient is not None}
    if not live:
        raise CutError("nothing frozen reaches what trains")
    return [(site, place) for site in given for place in range(len(given[site])) if (site, place) in live | discrete]


class _Done(Exception):  # noqa: N818 - no error: everything that crosses has been seen
    pass


def capture(cut: Cut, module: nn.Module, run: Run, images: Tensor) -> tuple[Tensor, ...]:
    """What crosses the boundary for normalised images, as rows (B, *shape); the network goes no further."""
    counts: Counter[str] = Counter()
    wanted = {each.site for each in cut.crossings}
    found: dict[Site, list[Tensor]] = {}

    def hook_of(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(part: nn.Module, arguments: Any, output: Any) -> None:
            del part, arguments
            site = (path, counts[path])
            counts[path] += 1
            if site not in wanted:
                return
            last = len(found) + 1 == len(wanted)
            # Copied, because what comes after may write into it, as an activation in place does.
            found[site] = [tensor if last else tensor.clone() for tensor in tensors_of(output)]
            if last:
                raise _Done

        return hook

    handles = [module.get_submodule(path).register_forward_hook(hook_of(path)) for path in {path for path, _ in wanted}]
    try:
        run(module, images)
    except _Done:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return tuple(each.rows(found[each.site][each.place]) for each in cut.crossings)
