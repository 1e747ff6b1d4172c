"""Which column means what: what the user asked for, and where he named none, what the data bring themselves."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import DataError
from zoo.registry.lookup import suggest
from zoo.specs import Roles


def settle_roles(where: str, columns: Sequence[str], asked: Roles, own: Roles) -> Roles:
    """The roles that the user asked for, and those the data bring themselves where he named none.

    Raises:
        DataError: a column that is not there, or one column in two roles.
    """
    named = (asked.image, *asked.targets, *asked.covariates, asked.group, asked.weight, asked.split)
    taken = [name for name in named if name]
    # What is stratified by keeps its other role: it only decides which rows come together.
    missing = next((name for name in (*taken, asked.stratify) if name and name not in columns), None)
    if missing is not None:
        hint = suggest(missing, columns) or "."
        raise DataError(f"{where} has no column {missing!r}{hint} It has {', '.join(columns)}")
    twice = next((name for name in taken if taken.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: column {twice!r} is given two roles; name it once")

    def free(name: str | None) -> str | None:
        return None if name in taken else name

    return Roles(
        image=asked.image or own.image,
        targets=asked.targets or tuple(name for name in own.targets if name not in taken),
        covariates=asked.covariates or tuple(name for name in own.covariates if name not in taken),
        group=asked.group or free(own.group),
        weight=asked.weight or free(own.weight),
        split=asked.split or free(own.split),
        stratify=asked.stratify or (None if asked.group or own.group else own.stratify),
    )
