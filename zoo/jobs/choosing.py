"""Choose among the backbones of the catalogue by what their sources state of them. Imports no torch and no plugin."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zoo.config import ListConfig
from zoo.errors import UnknownNameError, ZooError
from zoo.jobs.filters import Filter, filters_of, gmacs_of, input_of, parameters_of, top1_of
from zoo.registry.catalogue import CatalogueRow, catalogue
from zoo.registry.near import suggest, suggest_models
from zoo.specs.records import Weights

VALUES: dict[str, Callable[[CatalogueRow, Weights | None], float | None]] = {
    "params": parameters_of,
    "gmacs": gmacs_of,
    "input": input_of,
    "top1": top1_of,
}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was chosen, each row with those of its weights that fit.

    Attributes:
        rows: in the order asked for, at most `limit` of them.
        found: how many there are without the limit.
        unstated: by value, how many backbones fell out for nothing but that nobody states it.
    """

    rows: tuple[CatalogueRow, ...]
    found: int
    unstated: Counter[str]

    @property
    def footnote(self) -> str:
        """A sentence about what fell out because nobody states a value, or an empty string."""
        parts = ", ".join(f"{what} ({count})" for what, count in self.unstated.items())
        return f"{self.unstated.total()} more may fit, but nobody states their {parts}" if parts else ""


def choose(config: ListConfig) -> Chosen:
    """The backbones that fit every option.

    Raises:
        UnknownNameError: nothing fits; the message says which option left nothing, and suggests close names.
        ZooError: a value that is no number, a limit below one, an order that there is not.
    """
    if config.limit is not None and config.limit < 1:
        raise ZooError(f"--limit must be at least 1, not {config.limit}")
    if config.sort not in ("name", *VALUES):
        raise ZooError(f"--sort must be one of name, {', '.join(VALUES)}, not {config.sort!r}")
    rows, filters = match_patterns(config.pattern), filters_of(config)
    kept, unstated = _sift(rows, filters)
    if not kept:
        raise UnknownNameError(_nothing_left(rows, filters))
    if config.weights:
        kept = [_with(row, (each,)) for row in kept for each in row.entry.weights]
    ordered = _ordered(kept, config.sort, turned=config.reverse)
    return Chosen(rows=tuple(ordered[: config.limit]), found=len(ordered), unstated=unstated)


def match_patterns(patterns: Sequence[str]) -> tuple[CatalogueRow, ...]:
    """Rows of the catalogue whose `source/model` matches one of the globs; a word without a glob matches anywhere.

    Case is of no matter. A pattern with a dot that no name matches is held against `source/model.tag`; those rows keep
    the weights that match.

    Raises:
        UnknownNameError: a pattern that matches nothing; the message suggests close names.
    """
    rows, found = catalogue().rows, dict[str, CatalogueRow]()
    for pattern in patterns or ("*",):
        glob = (pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*").lower()
        matched = [row for row in rows if fnmatch.fnmatchcase(row.name.lower(), glob)]
        matched = matched or _with_tags(rows, pattern.lower(), glob)
        if not matched:
            problems = "".join(f"\n  ({problem})" for problem in catalogue().problems)
            hint = suggest_models(pattern, [row.name for row in rows])
            raise UnknownNameError(f"no backbone matches {pattern!r}{hint}{problems}")
        for row in matched:
            found[row.name] = _both(row, found.get(row.name))
    return tuple(found[row.name] for row in rows if row.name in found)


def _with_tags(rows: Sequence[CatalogueRow], name: str, glob: str) -> list[CatalogueRow]:
    """Rows with those of their weights whose `source/model.tag` is the name, or else matches the glob."""
    if "." not in name:
        return []
    for fits in (name.__eq__, lambda full: fnmatch.fnmatchcase(full, glob)):
        kept = [(row, tuple(w for w in row.entry.weights if fits(f"{row.name}.{w.tag}".lower()))) for row in rows]
        if found := [_with(row, weights) for row, weights in kept if weights]:
            return found
    return []


def _both(row: CatalogueRow, other: CatalogueRow | None) -> CatalogueRow:
    """A row with the weights of both, in the order of the catalogue."""
    if other is None:
        return row
    tags = {*row.entry.tags, *other.entry.tags}
    whole = next(each for each in catalogue().rows if each.name == row.name)
    return _with(whole, tuple(each for each in whole.entry.weights if each.tag in tags))


def first(row: CatalogueRow) -> Weights | None:
    """The weights that stand for a row."""
    return row.entry.weights[0] if row.entry.weights else None


def _with(row: CatalogueRow, weights: tuple[Weights, ...]) -> CatalogueRow:
    return row if weights == row.entry.weights else replace(row, entry=replace(row.entry, weights=weights))


def _sift(rows: Sequence[CatalogueRow], filters: Sequence[Filter]) -> tuple[list[CatalogueRow], Counter[str]]:
    """The rows that fit with those of their weights that do, and how many might, by the value that nobody states."""
    kept: list[CatalogueRow] = []
    unstated: Counter[str] = Counter()
    for row in rows:
        candidates = row.entry.weights or (None,)
        verdicts = [_verdict(row, weights, filters) for weights in candidates]
        if True in verdicts:
            fitting = (w for w, verdict in zip(candidates, verdicts, strict=True) if verdict is True and w is not None)
            kept.append(_with(row, tuple(fitting)))
        elif missing := [verdict for verdict in verdicts if isinstance(verdict, str)]:
            unstated[missing[0]] += 1
    return kept, unstated


def _verdict(row: CatalogueRow, weights: Weights | None, filters: Sequence[Filter]) -> bool | str:
    """Whether a backbone with these weights fits every filter; where only a value is missing for it, that value."""
    missing = ""
    for each in filters:
        fits = each.verdict(row, weights)
        if fits is False:
            return False
        missing = missing or ("" if fits else each.what)
    return missing or True


def _ordered(rows: list[CatalogueRow], sort: str, *, turned: bool) -> list[CatalogueRow]:
    """By one value, rows without it last; equal ones stay in the order of their names."""
    if sort == "name":
        return rows[::-1] if turned else rows
    values = [(VALUES[sort](row, first(row)), row) for row in rows]
    # The best accuracy is the first that anyone looks for; of the costs it is the smallest.
    descending = (sort == "top1") != turned
    stated = [(value, row) for value, row in values if value is not None]
    stated.sort(key=lambda pair: -pair[0] if descending else pair[0])
    return [row for _, row in stated] + [row for value, row in values if value is None]


def _nothing_left(rows: Sequence[CatalogueRow], filters: Sequence[Filter]) -> str:
    """Which option left nothing, what each before it left, and close names where a name may be misspelt."""
    left, said = list(rows), [f"{len(rows)} by name"]
    for count, each in enumerate(filters, start=1):
        kept, _ = _sift(rows, filters[:count])
        if not kept:
            break
        left, said = kept, [*said, f"{len(kept)} with {each.option}"]
    missing = _sift(left, [each])[1].total()
    unstated = f"; of {missing} of them nobody states the {each.what}" if missing else ""
    known = sorted({each.known(row) for row in left} - {""} | set(each.also)) if each.known else []
    hint = suggest(each.word, known) or (f"; there are {', '.join(known)}" if 0 < len(known) <= 12 else "")
    return f"no backbone is left by {each.option} (before it: {', '.join(said)}{unstated}){hint}"
