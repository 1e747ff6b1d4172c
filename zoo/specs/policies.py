"""Freeze policies in the grammar *what @ where*, resolved against a backbone's stages.

`none` freezes nothing, `head` freezes the whole backbone, `last(K)` leaves the last K stages and the neck after them to
train. The head always trains.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from zoo.errors import OptionError
from zoo.specs.binding import NoParameters, bind
from zoo.specs.grammar import Call, parse_terms
from zoo.specs.views import BackboneView, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class LastStages:
    """The parameters of `last(K)`."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"last(K) takes K ≥ 1, not {self.count}; to freeze the whole backbone say head")


@dataclass(frozen=True, kw_only=True, slots=True)
class FreezePolicy:
    """A parsed policy: the stages that train, not yet resolved against a backbone.

    Attributes:
        text: as the user wrote it.
        where: its call, which says which stages train.
        last: number of trainable stages counted from the classifier; None for all of them.
    """

    text: str
    where: Call
    last: int | None

    def trainable_stages(self, view: BackboneView) -> tuple[Stage, ...]:
        """The stages of `view` that train under this policy, in order; necks follow the stage before them.

        Raises:
            OptionError: `last(K)` asks for more stages than there are.
        """
        if self.last is None:
            return view.stages
        if self.last == 0:
            return ()
        counted = [index for index, stage in enumerate(view.stages) if stage.role != "neck"]
        if self.last > len(counted):
            names = ", ".join(view.stages[index].name for index in counted)
            self.where.fail(f"{view.name} has {len(counted)} stages ({names}), not {self.last}")
        return view.stages[counted[-self.last] :]


POLICIES = ("none", "head", "last")


def parse_policy(text: str) -> FreezePolicy:
    """Parse `none`, `head` or `last(K)`.

    Raises:
        OptionError: another name, or wrong arguments; points at the place.
    """
    terms = parse_terms(text)
    if len(terms) > 1 or len(terms[0]) > 1:
        raise OptionError("a policy is one of none, head, last(K)", text=text, column=0)
    where = terms[0][0]
    if where.name not in POLICIES:
        close = difflib.get_close_matches(where.name, POLICIES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        where.fail(f"unknown freeze policy {where.name!r}; there are none, head and last(K){hint}")
    if where.name == "last":
        if not where.arguments:
            where.fail("last(K) needs a number of stages, as in last(1)")
        return FreezePolicy(text=text, where=where, last=bind(where, LastStages).count)
    bind(where, NoParameters)
    return FreezePolicy(text=text, where=where, last=None if where.name == "none" else 0)
