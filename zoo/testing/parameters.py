"""Whether parameters reach what is built: another acceptable value of each must change it.

Values to try are guessed from the type of a field. Where none can be guessed, or a guess would not matter, the author
states some::

    weights: Mapping[str, float] | None = field(default=None, metadata={"examples": ({"c0": 1.0, "c1": 2.0},)})

Where a default would make every check slow, as long training does, the author states what the checks take instead::

    steps: int = field(default=3000, metadata={"trial": 200, "brief": 3})

A brief one serves where nothing need be learned: whether another parameter matters, whether input is left alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from zoo.specs import parameters_of
from zoo.testing.check import Check, NotApplicable, require

MOST_BUILDS = 200
"""Settings that are tried before a parameter counts as one that changes nothing."""

MOST_BESIDE = 4
"""Values that are tried of a parameter beside other values of the rest, and of the numbers among the rest."""

HOW_TO_STATE = 'state values to try with dataclasses.field(metadata={"examples": (…,)})'
_INTEGERS = (1, 2, 3, 5, 10, 30, 100, 0, -1)
_FLOATS = (0.5, 0.1, 0.9, 1.0, 2.0, 10.0, 0.25, 0.99, 0.999, 1e-2, 1e-4, 100.0, 0.0, -1.0)
_REFUSED = object()


def parameter_checks(subject: str, cls: type, build: Callable[[Any], object]) -> list[Check]:
    """A check for each parameter that `cls` declares, and one of their types.

    Args:
        subject: what is checked.
        cls: the dataclass of the parameters.
        build: `(parameters) -> fingerprint` of what is built from them; a `ValueError` refuses them.
    """
    # Only names here: the types are looked up inside the checks, because that can fail.
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    checks = [
        Check(
            subject=subject,
            name=f"the-parameter-{name.replace('_', '-')}-reaches-what-is-built",
            run=partial(reaches, cls, name, build),
        )
        for name in names
    ]
    if names:
        checks.append(
            Check(subject=subject, name="each-parameter-can-be-written-as-an-option", run=partial(types_of, cls))
        )
    return checks


def types_of(cls: type) -> None:
    """Each parameter has a type that an option can be bound to."""
    for name, hint in parameters_of(cls).items():
        wrong = [option for option in _options(hint) if not _is_written(option)]
        require(
            not wrong,
            f"parameter {name} is {wrong[0] if wrong else hint}, which no option can say; an option says bool, int, "
            "float, str, None, a Literal or a Mapping[str, float]",
        )


def _is_written(option: Any) -> bool:
    plain = option in (bool, int, float, str, type(None))
    return plain or typing.get_origin(option) in (typing.Literal, Mapping, dict)


def reaches(cls: type, name: str, build: Callable[[Any], object]) -> None:
    """Some other value of the parameter changes what is built, be it only beside another value of a second one."""
    own: list[Any] = _values(cls, name)
    if len(own) < 2:
        raise NotApplicable(f"no value of {name} is known beside its default; {HOW_TO_STATE}")
    compared: list[Any] = []
    budget = iter(range(MOST_BUILDS))
    for others in _settings_beside(cls, name):
        built: list[tuple[Any, object]] = []
        for value in own if not compared else own[:MOST_BESIDE]:
            if next(budget, None) is None:
                break
            found = _built(cls, {**others, name: value}, build)
            if found is not _REFUSED:
                built.append((value, found))
            if built and built[-1][1] != built[0][1]:
                return
        compared += [value for value, _ in built if len(built) > 1 and value not in compared]
    if not compared:
        raise NotApplicable(f"no two values of {name} are accepted of {', '.join(map(repr, own))}; {HOW_TO_STATE}")
    same = ", ".join(map(repr, compared))
    require(False, f"{name} changes nothing: {same} give the same. Use it or drop it; if others matter, {HOW_TO_STATE}")


def default_setting(cls: type, *, brief: bool = False) -> Any:
    """The parameters that a bare name stands for, or what is stated for trials of them.

    What has no default takes the first values that are accepted.

    Args:
        cls: the dataclass of the parameters.
        brief: whether nothing need be learned.

    Raises:
        NotApplicable: no acceptable values are known.
    """
    required = [field.name for field in dataclasses.fields(cls) if field.init and not _has_default(field)]
    refusal = "no value of them is known"
    for values in itertools.islice(itertools.product(*(_values(cls, name) for name in required)), MOST_BUILDS):
        try:
            return cls(**_trial(cls, brief=brief), **dict(zip(required, values, strict=True)))
        except ValueError as error:
            refusal = str(error)
    what = f"parameters {', '.join(required)} have no default" if required else "the defaults are refused"
    raise NotApplicable(f"{what}: {refusal}; {HOW_TO_STATE}")


def _trial(cls: type, *, brief: bool = False) -> dict[str, Any]:
    """What the author states for trials, by name of the parameter."""
    words = ("brief", "trial") if brief else ("trial",)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    stated = {field.name: [field.metadata[word] for word in words if word in field.metadata] for field in fields}
    return {name: values[0] for name, values in stated.items() if values}


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _values(cls: type, name: str) -> list[Any]:
    """The default first, or what stands for it in trials, then what the author states and what the type suggests."""
    field = next(field for field in dataclasses.fields(cls) if field.name == name)
    known: list[Any] = []
    if "trial" in field.metadata:
        known.append(field.metadata["trial"])
    elif field.default is not dataclasses.MISSING:
        known.append(field.default)
    elif field.default_factory is not dataclasses.MISSING:
        known.append(field.default_factory())
    near = known[0] if known else None
    known += field.metadata.get("examples", ())
    known += [guess for option in _options(parameters_of(cls)[name]) for guess in _guesses(option, near)]
    distinct: dict[tuple[str, str], Any] = {}
    for value in known:
        distinct.setdefault((type(value).__name__, repr(value)), value)
    return list(distinct.values())


def _guesses(option: Any, near: Any) -> tuple[Any, ...]:
    if typing.get_origin(option) is typing.Literal:
        return typing.get_args(option)
    if option is type(None):
        return (None,)
    if option is bool:
        return (False, True)
    number = near if isinstance(near, int | float) and not isinstance(near, bool) else None
    if option is int:
        return _INTEGERS if number is None else (int(number) + 1, int(number) - 1, int(number) * 2, *_INTEGERS)
    if option is float:
        return _FLOATS if not number else (number * 0.5, number * 2.0, number * 1.1, *_FLOATS)
    return ()  # any text and any mapping would be a guess too far


def _settings_beside(cls: type, name: str) -> Iterator[dict[str, Any]]:
    """Values of the other parameters: brief ones, the defaults, then one at another value, then two of the switches."""
    others = [field for field in dataclasses.fields(cls) if field.init and field.name != name]
    required = {field.name: _values(cls, field.name)[:1] for field in others if not _has_default(field)}
    if not all(required.values()):
        return
    base = {other: value for other, value in _trial(cls).items() if other != name}
    base |= {other: values[0] for other, values in required.items()}
    brief = {**base, **{other: value for other, value in _trial(cls, brief=True).items() if other != name}}
    if brief != base:
        yield brief
    yield base
    for field in others:
        on_or_off = _switch_values(cls, field)
        numbers = [value for value in _values(cls, field.name)[1:] if value not in on_or_off]
        yield from ({**base, field.name: value} for value in (*on_or_off, *numbers[:MOST_BESIDE]))
    switches = [(field.name, _switch_values(cls, field)) for field in others]
    for (one, ones), (two, twos) in itertools.combinations(switches, 2):
        yield from ({**base, one: a, two: b} for a, b in itertools.product(ones, twos))


def _switch_values(cls: type, field: dataclasses.Field[Any]) -> list[Any]:
    """Values that turn something on or off: of a Literal, of a bool, and those that the author states."""
    stated = [repr(value) for value in field.metadata.get("examples", ())]
    return [
        value
        for value in _values(cls, field.name)[1:]
        if value is None or isinstance(value, bool | str) or repr(value) in stated
    ]


def _built(cls: type, values: Mapping[str, Any], build: Callable[[Any], object]) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are tried on purpose
        try:
            return build(cls(**values))
        except ValueError:
            return _REFUSED
