"""From the text of an option to the parameters object that a plugin declared.

A plugin declares its parameters as a frozen dataclass. `bind` checks names, types and duplicates, and builds it; the
dataclass refuses bad values itself by raising `ValueError` in `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from zoo.specs.grammar import Argument, Call

P = TypeVar("P")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NoParameters:
    """The parameters of a thing that takes none."""


def parameters_of(cls: type) -> dict[str, Any]:
    """Names and types of the parameters that a dataclass declares, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def bind(call: Call, cls: type[P]) -> P:
    """Build `cls` from the arguments of `call`; positional arguments follow the order of its fields.

    Raises:
        OptionError: unknown or repeated parameter, wrong type, missing value, or a value that `cls` refuses.
    """
    declared = parameters_of(cls)
    spelled = {name.replace("_", "-"): name for name in declared}
    given: dict[str, Any] = {}
    order = list(declared)
    for index, argument in enumerate(call.arguments):
        name = _name_of(call, argument, index, order, spelled)
        if name in given:
            call.fail(f"{call.name}: {name} is given twice", column=argument.column)
        given[name] = _checked(call, argument, name, declared[name])
    if missing := [name for name in _required(cls) if name not in given]:
        wanted = ", ".join(f"{name}={_describe(declared[name])}" for name in missing)
        call.fail(f"{call.name} needs {wanted}")
    try:
        return cls(**given)
    except (ValueError, TypeError) as error:
        call.fail(f"{call.name}: {error}")


def _required(cls: type) -> list[str]:
    """Names of the parameters that have no default."""
    lacking = dataclasses.MISSING
    own = [field for field in dataclasses.fields(cls) if field.init]
    return [field.name for field in own if field.default is lacking and field.default_factory is lacking]


def _name_of(call: Call, argument: Argument, index: int, order: list[str], spelled: dict[str, str]) -> str:
    if argument.name is None:
        if index >= len(order):
            call.fail(f"{call.name} takes {_allowed(order)}; one value is too many", column=argument.column)
        return order[index]
    name = spelled.get(argument.name.replace("_", "-"))
    if name is None:
        close = difflib.get_close_matches(argument.name, order, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        call.fail(
            f"{call.name} has no parameter {argument.name!r}; it takes {_allowed(order)}{hint}", column=argument.column
        )
    return name


def _allowed(order: list[str]) -> str:
    return ", ".join(order) if order else "no parameters"


def _checked(call: Call, argument: Argument, name: str, hint: Any) -> Any:
    value, wanted = argument.value, _describe(hint)
    for option in _options(hint):
        matched, converted = _match(value, option)
        if matched:
            return converted
    call.fail(f"{call.name}: {name} must be {wanted}, not {value!r}", column=argument.column)


def _options(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _match(value: Any, hint: Any) -> tuple[bool, Any]:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint), value
    if typing.get_origin(hint) in (Mapping, dict):
        return isinstance(value, Mapping), value
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number, float(value) if number else value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return True, str(value)
    return isinstance(value, hint), value


def _describe(hint: Any) -> str:
    names: list[str] = []
    for option in _options(hint):
        if typing.get_origin(option) is typing.Literal:
            names.extend(str(choice) for choice in typing.get_args(option))
        elif typing.get_origin(option) in (Mapping, dict):
            names.append("{name: number, …}")
        else:
            names.append("none" if option is type(None) else option.__name__)
    return " or ".join(names)
