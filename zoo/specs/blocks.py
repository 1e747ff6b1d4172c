"""The blocks of a network, from the image on: what `depth` counts, and rates decay by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.specs.views import BackboneView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def blocks_of(view: BackboneView) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The pieces of a network one behind the other, with their parameters, none without: residual blocks, layers.

    Lists and sequences of modules are taken apart, other modules only where a list holds most of what they have.
    """
    for stage in view.stages:
        left = dict.fromkeys(stage.parameters)
        found: list[tuple[str, tuple[str, ...]]] = []
        for path in stage.modules:
            for name in _pieces(view.module.get_submodule(path), path):
                own = tuple(each for each in left if each == name or each.startswith(f"{name}."))
                for each in own:
                    del left[each]
                if own:
                    found.append((name, own))
        if left:  # what the root owns, such as a class token
            yield stage.name, tuple(left)
        yield from found


def _pieces(module: nn.Module, path: str) -> Iterator[str]:
    if not (_is_list(module) or _is_mostly_a_list(module)):
        yield path
        return
    for name, child in module.named_children():
        yield from _pieces(child, f"{path}.{name}")


def _is_list(module: nn.Module) -> bool:
    # By the class itself: libraries call a convolution with its normalisation a Sequential of another name.
    return type(module).__name__ in ("Sequential", "ModuleList")


def _is_mostly_a_list(module: nn.Module) -> bool:
    # A residual block may hold a sequence too, of layers of several kinds; blocks one behind the other are of one kind.
    whole = sum(parameter.numel() for parameter in module.parameters())
    for each in filter(_is_list, module.children()):
        alike = len({type(child) for child in each.children()}) == 1 and len(list(each.children())) > 1
        if alike and 2 * sum(parameter.numel() for parameter in each.parameters()) > whole:
            return True
    return False


def block_depths(view: BackboneView) -> dict[str, int]:
    """For each parameter of the stages, how many blocks lie between its own and the head; blocks as of `depth`."""
    blocks = list(blocks_of(view))
    return {name: len(blocks) - 1 - place for place, (_, own) in enumerate(blocks) for name in own}


def block_modules(view: BackboneView) -> dict[str, tuple[str, ...]]:
    """Paths of the blocks that are modules, from the image on, with their parameters; blocks as of `depth`."""
    paths = {path for path, _ in view.module.named_modules()}
    # A stage that owns parameters of the root may have the name of a module that does not hold them.
    inside = ((name, own) for name, own in blocks_of(view) if all(each.startswith(f"{name}.") for each in own))
    return {name: own for name, own in inside if name in paths}
