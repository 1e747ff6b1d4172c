"""What kind of task a target is, as the user says it: `--task age=regression`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from zoo.errors import OptionError
from zoo.specs.grammar import Call, parse_options
from zoo.specs.tasks import TaskKind

KINDS: tuple[str, ...] = get_args(TaskKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetKind:
    """The kind of one target.

    Attributes:
        kind: of its task.
        names: of an ordinal target its ranks, the lowest first, or none where they are numbers; of a multilabel target
            the columns of 0 and 1 that it is made of, or none where one column holds sets.
    """

    kind: TaskKind = "classification"
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(self.names)})" if self.names else self.kind


def parse_kinds(options: Sequence[str]) -> dict[str, TargetKind]:
    """By target, the kinds that `TARGET=KIND` options name, in their order.

    Raises:
        OptionError: another form, a target that is named twice, an unknown kind, or names that it has no use for.
    """
    found: dict[str, TargetKind] = {}
    for option in options:
        target, equals, rest = option.partition("=")
        if not equals or not target.strip():
            raise OptionError("expected TARGET=KIND, as in age=regression", text=option, column=0)
        if target.strip() in found:
            raise OptionError(f"target {target.strip()!r} is given two kinds; name one", text=option, column=0)
        call, *more = parse_options(rest)
        if more:
            more[0].fail("a target has one kind")
        found[target.strip()] = _kind(call)
    return found


def _kind(call: Call) -> TargetKind:
    if call.name not in KINDS:
        close = difflib.get_close_matches(call.name, KINDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        call.fail(f"unknown kind of target {call.name!r}; there are {', '.join(KINDS)}{hint}")
    for argument in call.arguments:
        if argument.name is not None or isinstance(argument.value, Mapping):
            call.fail(f"{call.name} takes names alone, as in {_EXAMPLES[call.name]}", column=argument.column)
    names = tuple(_name(argument.value) for argument in call.arguments)
    if names and call.name not in ("ordinal", "multilabel"):
        call.fail(f"{call.name} takes no names")
    if len(names) == 1 or len(set(names)) != len(names):
        call.fail(f"{call.name} takes two names or more, each once, as in {_EXAMPLES[call.name]}")
    return TargetKind(kind=call.name, names=names)  # type: ignore[arg-type]  # one of KINDS


_EXAMPLES = {
    "classification": "classification",
    "regression": "regression",
    "ordinal": "ordinal(mild, moderate, severe)",
    "multilabel": "multilabel(crack, spot)",
}


def _name(value: Any) -> str:
    """A value of the grammar as a table's cell spells it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
