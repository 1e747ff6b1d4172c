"""Stem, stages and neck of a timm network, from what timm itself says of it.

`group_matcher(coarse=True)` sorts parameters into ordered groups; where it is missing, and where it makes a group of
every layer of a pyramid, `feature_info` says where the resolutions end.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn

from zoo.specs import Stage
from zoo.specs.views import StageRole

_PREVIOUS = 99999.0  # timm's MATCH_PREV_GROUP: a parameter that goes with the group before it, such as the last norm
_MOST_STAGES = 8  # of a pyramid; an EfficientNet has seven

Key = tuple[float, ...]
Group = list[str]


def split(module: nn.Module, classifier: Collection[str]) -> tuple[Stage, ...]:
    """Every parameter of `module` outside its `classifier`, given by the paths of its layers, in ordered stages.

    They are a stem, the stages and, where something pretrained follows the last of them, a neck.

    Raises:
        ValueError: timm says nothing about the network's stages.
    """
    taken = tuple(f"{path}." for path in classifier)
    names = [name for name, _ in module.named_parameters() if not name.startswith(taken)]
    stem, stages, neck = _coat(names) or _by_matcher(module, names) or _by_features(module, names)
    label, first = ("block", 0) if _isotropic(module) else ("stage", 1)
    made: list[tuple[str, StageRole, Group]] = [("stem", "stem", stem)]
    made += [(f"{label}{index}", "stage", group) for index, group in enumerate(stages, first)]
    made += [("neck", "neck", neck)] if neck else []
    parameters = dict(module.named_parameters())
    owner = {id(parameters[name]): index for index, (_, _, group) in enumerate(made) for name in group}
    owned = _owned(module, owner, classifier)
    return tuple(
        Stage(name=name, role=role, modules=tuple(owned.get(index, ())), parameters=tuple(group))
        for index, (name, role, group) in enumerate(made)
    )


def _coat(names: list[str]) -> tuple[Group, list[Group], Group] | None:
    """CoaT's stages by the number in the names: its matcher parts what one resolution shares from those who use it."""
    if not any(name.startswith("serial_blocks1.") for name in names):
        return None
    groups: list[Group] = [[] for _ in range(5)]
    neck: Group = []
    for name in names:
        numbered = re.match(r"(?:patch_embed|cls_token|cpe|crpe|serial_blocks)(\d)", name)
        parallel = name.startswith("parallel_blocks")
        (groups[int(numbered[1]) - 1] if numbered else groups[4] if parallel else neck).append(name)
    stem = [name for name in groups[0] if name.startswith("patch_embed")]
    groups[0] = [name for name in groups[0] if name not in stem]
    return stem, [group for group in groups if group], neck


def _by_matcher(module: nn.Module, names: list[str]) -> tuple[Group, list[Group], Group] | None:
    try:
        key = _key_function(module.group_matcher(coarse=True))  # type: ignore[operator]
        keys = {name: key(name) for name in names}
    except (AttributeError, AssertionError):
        return None  # 29 architectures have no matcher, and that of rdnet knows no coarse groups
    unmatched = [name for name in names if math.isinf(keys[name][0])]
    groups: list[tuple[Key, Group]] = []
    for held in sorted({found for found in keys.values() if not math.isinf(found[0])}):
        members = [name for name in names if keys[name] == held]
        if groups and held[-1] == _PREVIOUS:
            groups[-1][1].extend(members)
        else:
            groups.append((held, members))
    (_, stem), *rest = groups
    stages = [group for _, group in rest]
    if not stages:
        return None
    early, late = _early(names, unmatched, stages[0])
    behind = {*late, *(name for name in stages[-1] if keys[name][-1] == _PREVIOUS), *_behind_blocks(module, stages)}
    stages = [[name for name in group if name not in behind] for group in stages]
    stem, stages = _merge(module, [*stem, *early], [group for group in stages if group])
    return stem, stages, [name for name in names if name in behind]


def _behind_blocks(module: nn.Module, stages: list[Group]) -> list[str]:
    """What is made behind the last block of an isotropic network; CaiT's matcher puts some of it among the blocks."""
    ends = _ends(module) if _isotropic(module) else []
    if not ends:
        return []
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    return [name for group in stages for name in group if order[name.rpartition(".")[0]] > ends[-1] and "." in name]


def _early(names: list[str], unmatched: list[str], first: Group) -> tuple[Group, Group]:
    """Parameters that no group claims: those made before the first stage (shared position tables) belong to the stem.

    Were a shared table in the neck, a frozen prefix would depend on something that trains.
    """
    start = min(names.index(name) for name in first)
    early = [name for name in unmatched if "." not in name or names.index(name) < start]
    return early, [name for name in unmatched if name not in early]


def _key_function(matcher: Mapping[str, Any] | Callable[[str], Any]) -> Callable[[str], Key]:
    """The ordering key that timm's `group_with_matcher` gives a parameter; infinity where nothing matches."""
    if callable(matcher):
        return lambda name: _floats(matcher(name))
    rules: list[tuple[re.Pattern[str], int, Key]] = []
    for ordinal, wanted in enumerate(matcher.values()):
        pairs: Iterable[tuple[str, Any]] = [(wanted, None)] if isinstance(wanted, str) else wanted or ()
        rules += [(re.compile(text), ordinal, _floats(suffix)) for text, suffix in pairs]

    def key(name: str) -> Key:
        for pattern, ordinal, suffix in rules:
            if found := pattern.match(name):
                return (float(ordinal), *(float(group) for group in found.groups() if group is not None), *suffix)
        return (math.inf,)

    return key


def _floats(value: Any) -> Key:
    if value is None:
        return ()
    return tuple(float(part) for part in value) if isinstance(value, Iterable) else (float(value),)


def _feature_info(module: nn.Module) -> list[Mapping[str, Any]]:
    found = getattr(module, "feature_info", None) or []
    return list(getattr(found, "info", found))


def _isotropic(module: nn.Module) -> bool:
    reductions = [info.get("reduction") for info in _feature_info(module)]
    return len(reductions) > 1 and len(set(reductions)) == 1


def _resolutions(module: nn.Module) -> list[Mapping[str, Any]]:
    """The resolutions whose last module timm names truly; none where one module stands for several of them."""
    held = {name for name, _ in module.named_modules() if name}
    known = [info for info in _feature_info(module) if info["module"] in held]
    return known if len({info["module"] for info in known}) == len(known) else []


def _ends(module: nn.Module) -> list[int]:
    """Position, among all modules, of the last module of each resolution."""
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    paths = [f"{info['module']}." for info in _resolutions(module)]
    return [max(index for name, index in order.items() if f"{name}.".startswith(path)) for path in paths]


def _stem_like(module: nn.Module) -> bool:
    """Whether the first resolution that timm lists lies before the first stage proper."""
    first = _resolutions(module)[0]
    return first["reduction"] < 4 or "stem" in first["module"]


def _merge(module: nn.Module, stem: Group, stages: list[Group]) -> tuple[Group, list[Group]]:
    """Join the layer-wise groups of a pyramid by resolution."""
    ends = _ends(module)
    full = bool(ends) and _resolutions(module)[0]["reduction"] == 1  # a VGG's layers at full resolution
    if _isotropic(module) or not ends or not (full or len(stages) > _MOST_STAGES):
        return stem, stages
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    joined: list[Group] = [[] for _ in ends]
    place = 0
    for group in stages:
        position = max(order[name.rpartition(".")[0]] for name in group)
        while place < len(ends) - 1 and position > ends[place]:
            place += 1
        joined[place].extend(group)
    if _stem_like(module):
        stem, joined = [*stem, *joined[0]], joined[1:]
    return stem, [group for group in joined if group]


def _by_features(module: nn.Module, names: list[str]) -> tuple[Group, list[Group], Group]:
    """By resolution alone: what lies before the first listed module is the stem, what lies behind the last the neck."""
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    ends = _ends(module)
    if not ends:
        raise ValueError("timm says nothing about the stages of this network")
    start = order[str(_resolutions(module)[0]["module"])]
    stem: Group = []
    groups: list[Group] = [[] for _ in range(len(ends) + 1)]
    for name in names:
        owner = name.rpartition(".")[0]
        position = order[owner]
        if not owner or position < start:
            stem.append(name)
        else:
            groups[sum(position > end for end in ends)].append(name)
    if _stem_like(module):
        stem, groups = [*stem, *groups[0]], groups[1:]
    return stem, [group for group in groups[:-1] if group], groups[-1]


def _owned(module: nn.Module, owner: Mapping[int, int], classifier: Collection[str]) -> dict[int, list[str]]:
    """By stage, paths of the outermost modules that belong to it alone; `owner` gives the stage of a parameter's id."""
    found: dict[int, list[str]] = {}

    def visit(path: str, child: nn.Module) -> None:
        held = {owner.get(id(parameter), -1) for parameter in child.parameters()}
        if len(held) == 1 and -1 not in held and not any(f"{layer}.".startswith(f"{path}.") for layer in classifier):
            found.setdefault(held.pop(), []).append(path)
        elif held:
            for name, inner in child.named_children():
                visit(f"{path}.{name}", inner)

    for name, child in module.named_children():
        visit(name, child)
    return found
