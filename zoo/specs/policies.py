"""Freeze policies in the grammar *what @ where*, resolved against a backbone's stages and parameters.

Where something trains, counted from the classifier; the head always trains:

    none              everywhere: nothing is frozen
    head              nowhere in the backbone
    last(K)           in the last K stages, and in the neck after them
    until(STAGE)      from STAGE on: everything before it is frozen
    depth(0.5)        behind the first half of the blocks
    regex(PATTERN)    in the parameters whose names the regular expression finds

What trains there, by default everything:

    norm              weights and biases of normalisation layers
    bias              every bias, as BitFit does (Ben Zaken, Ravfogel and Goldberg 2022)
    lora(r=8)         matrices of rank r beside the frozen weights of its layers; see `zoo.specs.adapters`

So `norm@last(2)` trains the normalisation layers of the last two stages, and `bias` alone every bias of the network.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionError
from zoo.specs.adapters import Lora, adapted_names, plain_name
from zoo.specs.binding import NoParameters, bind
from zoo.specs.blocks import blocks_of
from zoo.specs.grammar import Call, parse_terms
from zoo.specs.views import BackboneView, Stage

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class LastStages:
    """The parameters of `last(K)`."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"last(K) takes K ≥ 1, not {self.count}; to freeze the whole backbone say head")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenUntil:
    """The parameters of `until(STAGE)`."""

    stage: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenDepth:
    """The parameters of `depth(SHARE)`: the share of the blocks, from the image on, that is frozen."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"depth takes a share between 0 and 1, not {self.share:g}; the ends are none and head")


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """The parameters of `regex(PATTERN)`."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no regular expression: {error}") from None


WHERE: dict[str, type] = {
    "none": NoParameters,
    "head": NoParameters,
    "last": LastStages,
    "until": FrozenUntil,
    "depth": FrozenDepth,
    "regex": Matching,
}
WHAT: dict[str, type] = {"norm": NoParameters, "bias": NoParameters, "lora": Lora}
SCHEDULES = ("lp-ft", "gradual", "thaw")
"""Of `zoo.specs.schedules`."""
SHOWN = "none, head, last(K), until(STAGE), depth(SHARE), regex(PATTERN), and norm, bias or lora, alone or before @"
_EXAMPLES = {"last": "last(1)", "until": "until(layer4)", "depth": "depth(0.5)", "regex": 'regex("layer4.*conv")'}


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What trains in one backbone.

    Attributes:
        parameters: names of the parameters that train.
        stages: those that hold such a parameter, in order; with `none` and `last(K)` all stages there.
        behind: names of the parameters at and after the boundary, those that train among them.
        before: name of the stage or block that the boundary lies before; None where nothing trains.
    """

    parameters: frozenset[str]
    stages: tuple[Stage, ...]
    behind: frozenset[str]
    before: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FreezePolicy:
    """A parsed policy, not yet resolved against a backbone.

    Attributes:
        text: as the user wrote it.
        what: `norm`, `bias` or `lora`, or None for everything.
        where: its call, which says where something trains.
        place: the parameters of that call.
        lora: the parameters of `lora`, where that is what trains.
    """

    text: str
    what: Call | None
    where: Call
    place: Any
    lora: Lora | None = None

    @property
    def head_alone(self) -> bool:
        """Whether nothing of the backbone trains, whichever it is."""
        return self.where.name == "head"

    def trainable_stages(self, view: BackboneView) -> tuple[Stage, ...]:
        """The stages of `view` in which something trains; see `select`."""
        return self.select(view).stages

    def select(self, view: BackboneView) -> Selection:
        """What of `view` trains under this policy.

        Raises:
            OptionError: the backbone has too few stages, none of that name, or nothing of that kind there.
        """
        names, boundary = self._place(view)
        if self.what is not None:
            kind = self.what.name
            kept = names & (adapted_names(view) if self.lora else _KINDS[kind](view.module))
            if not kept and names:
                nothing = "layer that takes adapters" if self.lora else f"parameter of kind {kind}"
                self.what.fail(f"{view.name} has no {nothing} there")
            names = kept
        if not names:
            # Of a network whose last stage has no parameter, say a pool: then the head alone trains.
            return Selection(parameters=frozenset(), stages=(), behind=frozenset(), before=None)
        whole = self.what is None and self.where.name in ("none", "last", "until")
        order = {name: index for index, (_, own) in enumerate(boundary) for name in own}
        first = min(order[name] for name in names)
        behind = frozenset(name for _, own in boundary[first:] for name in own)
        start = next(i for i, stage in enumerate(view.stages) if not names.isdisjoint(stage.parameters))
        stages = view.stages[start:]
        if not whole:
            stages = tuple(stage for stage in stages if not names.isdisjoint(stage.parameters))
        return Selection(parameters=names, stages=stages, behind=behind, before=boundary[first][0])

    def _place(self, view: BackboneView) -> tuple[frozenset[str], list[tuple[str, tuple[str, ...]]]]:
        """Names of the parameters there, and the pieces between which a boundary may lie, with their parameters."""
        stages = [(stage.name, stage.parameters) for stage in view.stages]
        everything = [name for _, own in stages for name in own]
        match self.place:
            case LastStages(count=count):
                first = self._last(view, count)
            case FrozenUntil(stage=name):
                first = self._until(view, name)
            case FrozenDepth(share=share):
                blocks = list(blocks_of(view))
                frozen = round(share * len(blocks))
                if not 0 < frozen < len(blocks):
                    self.where.fail(f"{view.name} has {len(blocks)} blocks; {share:.0%} of them are none or all")
                return frozenset(name for _, own in blocks[frozen:] for name in own), blocks
            case Matching(pattern=pattern):
                found = frozenset(name for name in everything if re.search(pattern, plain_name(name)))
                if not found:
                    shown = ", ".join([everything[0], everything[len(everything) // 2], everything[-1]])
                    self.where.fail(f"no parameter of {view.name} has a name like that; there are {shown} and more")
                return found, stages
            case _:
                first = 0 if self.where.name == "none" else len(stages)
        return frozenset(name for _, own in stages[first:] for name in own), stages

    def _last(self, view: BackboneView, count: int) -> int:
        counted = [index for index, stage in enumerate(view.stages) if stage.role != "neck"]
        if count > len(counted):
            names = ", ".join(view.stages[index].name for index in counted)
            self.where.fail(f"{view.name} has {len(counted)} stages ({names}), not {count}")
        return counted[-count]

    def _until(self, view: BackboneView, name: str) -> int:
        if name not in view.stage_names:
            close = difflib.get_close_matches(name, view.stage_names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.where.fail(f"{view.name} has no stage {name!r}; it has {', '.join(view.stage_names)}{hint}")
        return view.stage_names.index(name)


def policy_terms(text: str) -> tuple[tuple[Call, ...], ...]:
    """The terms of a policy or a schedule.

    Raises:
        OptionError: it does not parse; of a pattern without quotes it says so.
    """
    try:
        return parse_terms(text)
    except OptionError as error:
        if "regex(" not in text or '"' in text:
            raise
        said = f"{error.message}; a pattern stands in quotes, as in {_EXAMPLES['regex']}"
        raise OptionError(said, text=error.text, column=error.column) from None


def parse_policy(text: str) -> FreezePolicy:
    """Parse a policy.

    Raises:
        OptionError: an unknown name, wrong arguments, or parts that do not go together; points at the place.
    """
    terms = policy_terms(text)
    if len(terms) > 1:
        raise OptionError(f"there is one policy, without +; it is one of {SHOWN}", text=text, column=0)
    calls = list(terms[0])
    what = calls.pop(0) if calls[0].name in WHAT else None
    how: Any = bind(what, WHAT[what.name]) if what is not None else None
    where = calls.pop(0) if calls else Call(name="none", text=text)
    if calls and where.name in WHERE:
        close = difflib.get_close_matches(calls[0].name, SCHEDULES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        calls[0].fail(f"a policy is what@where@when, such as norm@last(2) or last(2)@gradual{hint}")
    if where.name in SCHEDULES:
        where.fail(f"{where.name} changes what trains during a run: zoo train --freeze takes it, and nothing else does")
    if where.name not in WHERE:
        close = difflib.get_close_matches(where.name, [*WHERE, *WHAT, *SCHEDULES], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        where.fail(f"unknown freeze policy {where.name!r}; there are {SHOWN}{hint}")
    if where.name in _EXAMPLES and not where.arguments:
        where.fail(f"{where.name} needs to be told more, as in {_EXAMPLES[where.name]}")
    if what is not None and where.name == "head":
        where.fail(f"{what.name}@head trains nothing of the backbone; say head")
    lora = how if isinstance(how, Lora) else None
    return FreezePolicy(text=text, what=what, where=where, place=bind(where, WHERE[where.name]), lora=lora)


def _norms(module: nn.Module) -> frozenset[str]:
    """Names of the vectors that normalisation layers own; by the class's name, because libraries write their own."""
    found: set[str] = set()
    for path, part in module.named_modules():
        if any("Norm" in cls.__name__ for cls in type(part).__mro__):
            own = part.named_parameters(path, recurse=False)
            found.update(name for name, parameter in own if sum(side > 1 for side in parameter.shape) <= 1)
    return frozenset(found)


def _biases(module: nn.Module) -> frozenset[str]:
    """Names of the biases: `bias`, and what attention calls `q_bias` or `in_proj_bias`; no table of position biases."""
    return frozenset(n for n, parameter in module.named_parameters() if n.endswith("bias") and parameter.ndim == 1)


_KINDS = {"norm": _norms, "bias": _biases}
