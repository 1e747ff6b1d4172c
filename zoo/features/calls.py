"""The calls of a network's modules in one forward pass: which there are, what each gives, and standing in for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

Run = Callable[[nn.Module, Tensor], Tensor]
"""A forward pass: (network, images (B, C, H, W)) -> features (B, …)."""

Site = tuple[str, int]
"""One call of a module in a forward pass: the module's path, and how many calls of it came before."""


class CutError(Exception):
    """The network cannot be cut at this boundary; `str(error)` says why."""


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in what a module gave, in the order of its structure."""
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]


class Recorder:
    """The calls of one forward pass as a tree, and what each gave.

    Attributes:
        outputs: by call.
        tracked: the calls that gave something that requires a gradient, as it was when they gave it.
        parents: the call that each was made in; None in the network's own.
        order: the calls in the order in which they began.
    """

    def __init__(self, module: nn.Module, run: Run, images: Tensor) -> None:
        self.outputs: dict[Site, Any] = {}
        self.tracked: set[Site] = set()
        self.parents: dict[Site, Site | None] = {}
        self.order: list[Site] = []
        self._stack: list[Site] = []
        self._counts: Counter[str] = Counter()
        handles = []
        for path, part in module.named_modules():
            if path:
                handles += [part.register_forward_pre_hook(self._enter(path)), part.register_forward_hook(self._leave)]
        try:
            with torch.enable_grad():
                self.features = run(module, images)
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            del module, arguments
            site = (path, self._counts[path])
            self._counts[path] += 1
            self.parents[site] = self._stack[-1] if self._stack else None
            self.order.append(site)
            self._stack.append(site)

        return hook

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        del module, arguments
        site = self._stack.pop()
        self.outputs[site] = output
        if any(tensor.requires_grad for tensor in tensors_of(output)):
            self.tracked.add(site)

    def inner(self, site: Site) -> Counter[str]:
        """How many calls of each module are made within a call."""
        return Counter(path for path, number in self.order if site in self.above((path, number)))

    def above(self, site: Site) -> Iterator[Site]:
        """The calls that a call was made in, the nearest first."""
        parent = self.parents[site]
        while parent is not None:
            yield parent
            parent = self.parents[parent]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call gives, known from two and from three images.

    Attributes:
        spec: the structure.
        leaves: of two images: a tensor on the meta device where the call gives a tensor, else the value itself.
        batch: by leaf, (the dimension that counts images, its entries an image), or None where none does.
        inner: by path, how many calls are made in it; they count though they are not made.
    """

    spec: TreeSpec
    leaves: tuple[Any, ...]
    batch: tuple[tuple[int, int] | None, ...]
    inner: Mapping[str, int]

    @property
    def tensors(self) -> list[int]:
        """Positions of the tensors among the leaves."""
        return [at for at, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]

    def shape(self, leaf: int, images: int) -> list[int]:
        """Of one leaf for so many images."""
        held, where = list(self.leaves[leaf].shape), self.batch[leaf]
        if where is not None:
            held[where[0]] = where[1] * images
        return held


def answer_of(site: Site, two: Any, three: Any, inner: Mapping[str, int] | None = None) -> Answer:
    """What a call gives, from what it gave for two and for three images.

    Raises:
        CutError: it gives another value, or a tensor of which no one dimension counts images.
    """
    leaves, spec = tree_flatten(two)
    others, other_spec = tree_flatten(three)
    if spec != other_spec:
        raise CutError(f"{site[0]} gives another structure for another number of images")
    held: list[Any] = []
    batch: list[tuple[int, int] | None] = []
    for leaf, other in zip(leaves, others, strict=True):
        if isinstance(leaf, Tensor):
            held.append(torch.empty_like(leaf, device="meta", requires_grad=False))
            batch.append(_batch(site, leaf.shape, other.shape))
        elif leaf == other:
            held.append(leaf)
            batch.append(None)
        else:
            raise CutError(f"{site[0]} gives {leaf!r} for two images and {other!r} for three")
    return Answer(spec=spec, leaves=tuple(held), batch=tuple(batch), inner=inner or {})


def _batch(site: Site, two: Sequence[int], three: Sequence[int]) -> tuple[int, int] | None:
    """The dimension that counts images, and its entries an image; None where none does."""
    moved = [at for at, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) == len(three) and not moved:
        return None
    at = moved[0] if moved else 0
    if len(two) != len(three) or len(moved) > 1 or two[at] % 2 or three[at] != two[at] // 2 * 3:
        raise CutError(f"{site[0]} gives {tuple(two)} for two images and {tuple(three)} for three")
    return at, two[at] // 2


class Stubs:
    """Modules that answer with what they are given instead of computing; with blanks where nothing was given.

    A context manager: the modules compute again when it is left. The calls of each forward pass are counted, so that a
    module that stands on both sides of a boundary computes where it should.

    Args:
        module: the network.
        answers: by call that is answered.
        dense: whether blanks have memory of their own, for networks that write into them.
    """

    def __init__(self, module: nn.Module, answers: Mapping[Site, Answer], *, dense: bool = False) -> None:
        self._answers = answers
        self._dense = dense
        self._parts = {path: module.get_submodule(path) for path, _ in answers}
        self._counts: Counter[str] = Counter()
        self._given: Mapping[Site, Sequence[Tensor | None]] = {}
        self._images = 0
        self._blanks: dict[torch.dtype, Tensor] = {}
        self._own: dict[str, Any] = {}

    def __enter__(self) -> Stubs:
        for path, part in self._parts.items():
            # One that somebody put on the instance, as wrappers do, is put back afterwards.
            self._own[path] = vars(part).get("forward")
            part.forward = self._stub(path, part.forward)
        return self

    def __exit__(self, *error: object) -> None:
        for path, part in self._parts.items():
            if self._own[path] is None:
                del part.forward
            else:
                part.forward = self._own[path]

    def begin(self, images: int, device: torch.device, given: Mapping[Site, Sequence[Tensor | None]]) -> None:
        """Begin a forward pass of so many images; `given` holds each call's tensors, None where nobody reads them."""
        self._images, self._given = images, given
        self._counts.clear()
        if any(blank.device != device for blank in self._blanks.values()):
            self._blanks.clear()
        for answer in self._answers.values():
            for at in answer.tensors:
                dtype = answer.leaves[at].dtype
                self._blanks.setdefault(dtype, torch.zeros((), dtype=dtype, device=device))

    def _stub(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*arguments: Any, **named: Any) -> Any:
            site = (path, self._counts[path])
            self._counts[path] += 1
            return self._give(site) if site in self._answers else forward(*arguments, **named)

        return answer

    def _give(self, site: Site) -> Any:
        answer, given = self._answers[site], self._given.get(site)
        self._counts.update(answer.inner)
        leaves = list(answer.leaves)
        for place, at in enumerate(answer.tensors):
            known = given[place] if given else None
            leaves[at] = self._blank(leaves[at].dtype, answer.shape(at, self._images)) if known is None else known
        return tree_unflatten(leaves, answer.spec)

    def _blank(self, dtype: torch.dtype, shape: list[int]) -> Tensor:
        # Expanded, a blank takes no memory whatever its shape, but cannot be written to.
        blank = self._blanks[dtype]
        return blank.new_zeros(shape) if self._dense else blank.expand(shape)


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """The mode of every module is put back afterwards."""
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        module.train()
        for part, mode in modes.items():
            part.training = mode


def go(module: nn.Module, mode: str) -> None:
    """Bring the module into `eval` or `training` mode, by way of training mode.

    Some networks (LeViT and its kin) keep biases in eval mode that they computed once, with the graph that made them,
    and let go of them when training mode is asked for.
    """
    module.train()
    module.train(mode == "training")


@contextmanager
def gradients_of(module: nn.Module, names: frozenset[str]) -> Iterator[None]:
    """Only the parameters of these names require gradients meanwhile."""
    before = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in names)
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)
