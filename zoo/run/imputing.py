"""What `--impute` asks for: an imputer for each kind of hole, and what stands beside that of covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zoo.data.drop_rows import DropRows
from zoo.errors import OptionError
from zoo.registry.lookup import IMPUTERS
from zoo.registry.near import suggest
from zoo.specs import Call, bind, parse_assignment

BESIDE = ("indicator", "dropout", "multiple")
"""What may stand beside the imputer of covariates, and be all that is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout:
    """Modality dropout: in training, all covariates of a row count as missing, now and then.

    What stands for a missing covariate is learned then, and the head learns to do without any of them, as it must where
    images come alone (Neverova et al. 2016, arXiv:1501.00102).

    Attributes:
        p: how likely that is for each row in each epoch, in (0, 1).
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.p < 1.0:
            raise ValueError(f"p must lie in (0, 1), not {self.p}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Multiple:
    """Multiple imputation: each hole is drawn `m` times from what it may have held (Rubin 1987).

    One network trains on all completions, each epoch on another; what is predicted of a row is the mean over its own,
    and their spread says how much its holes matter.
    """

    m: int = 5

    def __post_init__(self) -> None:
        if self.m < 2:
            raise ValueError(f"m must be 2 or more, not {self.m}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Imputing:
    """What `--impute` asks for.

    Attributes:
        calls: the imputer of each kind of hole.
        indicator: whether columns say where covariates were missing; always with `dropout`, whose learned token for a
            missing covariate is the weight of its column.
        dropout: of all covariates of a row, in training; None for never.
        multiple: of the covariates' holes; None where each is filled once.
        rows: training rows with holes in covariates are left out within these caps; None where they stay.
    """

    calls: Mapping[str, Call]
    indicator: bool = False
    dropout: Dropout | None = None
    multiple: Multiple | None = None
    rows: DropRows | None = None

    @property
    def varies(self) -> str:
        """What makes the covariates of a row others in another epoch, in words; empty where nothing does."""
        if self.dropout:
            return "dropout of covariates"
        return "multiple imputation" if self.multiple else ""


def parse_imputing(options: Sequence[str]) -> Imputing:
    """What `--impute KIND=NAME` asks for each kind of hole, and `rows=drop(max=…)`.

    Raises:
        OptionError: no such imputer, one for another kind of hole, two for one kind, parameters that it refuses, or
            one that cannot draw where imputation is to be multiple.
    """
    calls: dict[str, Call] = {}
    rows, beside = None, Imputing(calls={})
    for option in options:
        kind, given = parse_assignment(option)
        named = [call for call in given if kind != "covariates" or call.name not in BESIDE]
        if kind == "covariates":
            beside = _with_beside(beside, given, option)
        if len(named) > 1 or kind in calls or (kind == "rows" and rows is not None):
            raise OptionError(f"one imputer for {kind}, please", text=option, column=0)
        if not named:
            continue
        call = replace(named[0], text=option, column=option.index("=") + 1)
        if kind == "rows":
            if call.name != "drop":
                raise OptionError(f"rows can be dropped, not {call.name}: rows=drop(max=0.05)", text=option, column=0)
            rows = bind(call, DropRows)
            continue
        if kind not in IMPUTERS:
            near = suggest(kind, [*IMPUTERS, "rows"])
            raise OptionError(
                f"holes of {kind} are filled by nothing; say {', '.join(IMPUTERS)} or rows{near}", text=option, column=0
            )
        bind(call, IMPUTERS[kind].of_call(call).parameters)
        calls[kind] = call
    if beside.multiple:
        _refuse_single(calls.get("covariates"), next(option for option in options if "multiple" in option))
    return replace(beside, calls=calls, rows=rows)


def _with_beside(found: Imputing, given: Sequence[Call], option: str) -> Imputing:
    """What was found, with what stands beside the imputer in this option."""
    for call in given:
        if call.name not in BESIDE:
            continue
        placed = replace(call, text=option, column=max(0, option.find(call.name)))
        if call.name == "multiple":
            found = replace(found, multiple=bind(placed, Multiple))
            continue
        found = replace(found, indicator=True)
        if call.name == "dropout":
            found = replace(found, dropout=bind(placed, Dropout))
    return found


def _refuse_single(call: Call | None, option: str) -> None:
    """Refuse multiple imputation by what fills a hole with one value and knows no other."""
    shelf = IMPUTERS["covariates"]
    if call is None or not shelf.of_call(call).draws:
        able = [record.name for _, record in shelf.items() if record.draws]
        raise OptionError(
            f"{call.name if call else 'the mean'} fills a hole with one value; those that can draw several are "
            f"{', '.join(able)}: covariates={able[0]}+multiple",
            text=option,
            column=option.index("multiple"),
        )
