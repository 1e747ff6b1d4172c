"""`--missing-labels`: what becomes of training rows whose labels have holes. Held-out rows are never touched."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.drop_rows import DropRows
from zoo.data.label_sets import parse_set
from zoo.data.labels import label_texts
from zoo.data.table import Table
from zoo.specs import NoParameters, bind, parse_options


@dataclass(frozen=True, kw_only=True, slots=True)
class Pseudo:
    """Missing classes and labels are filled with what the model is sure of, in the last part of the run.

    Attributes:
        tau: probability that the class which the model knows best must exceed.
        floor: that any class must exceed, however little the model knows of it.
        start: the part of the run that is over when the model, its rates having run out, gives labels and goes on.
    """

    tau: float = 0.95
    floor: float = 0.5
    start: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.start < 1.0:
            raise ValueError(f"start is a part of the run, in (0, 1), not {self.start}")
        if not 0.0 <= self.floor <= self.tau < 1.0:
            raise ValueError(f"tau and floor are probabilities, 0 <= floor <= tau < 1, not {self.floor} and {self.tau}")

    def begins(self, epochs: int) -> int:
        """The first epoch, counted from 0, with pseudo-labels in a run of so many; 0 where none is left for it."""
        at = round(self.start * epochs)
        return at if 0 < at < epochs else 0


Policy = DropRows | Pseudo | None
"""None masks what is missing."""

KINDS: dict[str, type] = {"mask": NoParameters, "drop": DropRows, "pseudo": Pseudo}


def parse_policy(text: str) -> Policy:
    """What `mask`, `drop(max=0.1)` or `pseudo(tau=0.9)` asks for.

    Raises:
        OptionError: another name, a bad parameter, or more than one.
    """
    call, *more = parse_options(text)
    if more:
        more[0].fail("--missing-labels takes one answer")
    if call.name not in KINDS:
        close = difflib.get_close_matches(call.name, KINDS, n=1)
        call.fail(
            f"unknown answer to missing labels {call.name!r}; there are {', '.join(KINDS)}"
            + (f"; did you mean {close[0]}?" if close else "")
        )
    found: object = bind(call, KINDS[call.name])
    return found if isinstance(found, DropRows | Pseudo) else None


def incomplete(table: Table) -> NDArray[np.bool_]:
    """Bool (N,), True for rows of which some target, or some label of it, is missing."""
    found = np.zeros(len(table), dtype=bool)
    for name in table.roles.targets:
        several = table.kind(name).kind == "multilabel"
        texts = label_texts(table, name)
        found |= [text is None or (several and bool(parse_set(text)[1])) for text in texts]
    return found
