"""The options of `zoo list` as tests of a backbone and its weights; a test may find that nobody states the value."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import get_args

from zoo.config import ListConfig
from zoo.errors import ZooError
from zoo.registry.catalogue import CatalogueRow
from zoo.registry.licences import CLASSES, licence_matches
from zoo.registry.near import suggest
from zoo.registry.origins import Disk
from zoo.specs.records import Weights
from zoo.specs.views import FeatureName

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
_COUNT = re.compile(r"(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)([kmgb]?)", re.IGNORECASE)

Test = Callable[[CatalogueRow, Weights | None], bool | None]
"""Whether a backbone with these weights (None: random ones) fits; None where nobody states what is asked."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One option that chooses.

    Attributes:
        option: as a user writes it.
        what: the value that it asks for, as in "nobody states their WHAT".
        fits: the test.
        of_weights: whether it asks something of weights, so that random ones never fit.
        word: what may be misspelt in it.
        known: the word that stands there for a row.
        also: words that are understood beside those.
    """

    option: str
    what: str
    fits: Test
    of_weights: bool = False
    word: str = ""
    known: Callable[[CatalogueRow], str] | None = None
    also: tuple[str, ...] = ()

    def verdict(self, row: CatalogueRow, weights: Weights | None) -> bool | None:
        """Whether it fits; None where nobody states the value."""
        return False if self.of_weights and weights is None else self.fits(row, weights)


def _like(text: str, glob: str) -> bool:
    return fnmatch.fnmatchcase(text.lower(), glob.lower())


def parse_count(text: str, option: str) -> float:
    """A number such as 25M, 25e6 or 25000000.

    Raises:
        ZooError: it is none.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ZooError(f"{option} must be a number such as 25M or 25e6, not {text!r}")
    return float(match[1]) * _UNITS[match[2].lower()]


def input_of(row: CatalogueRow, weights: Weights | None) -> int | None:
    """Height in pixels of the images that these weights were trained for."""
    return weights.input_size if weights and weights.input_size else row.entry.input_size


def gmacs_of(row: CatalogueRow, weights: Weights | None) -> float | None:
    """1e9 multiply-accumulates at the weights' own input; None where they are stated for another input alone."""
    return row.entry.gmacs if input_of(row, weights) == row.entry.input_size else None


def top1_of(row: CatalogueRow, weights: Weights | None) -> float | None:
    """ImageNet-1K accuracy in percent."""
    del row
    return weights.top1 if weights else None


def parameters_of(row: CatalogueRow, weights: Weights | None) -> int | None:
    """Number of parameters, classifier included."""
    del weights
    return row.entry.parameters


def short_count(number: int) -> str:
    """A number of parameters in a few letters, as `--max-params` takes it: 789, 12.3k, 25.6M."""
    if number < 1e3:
        return str(number)
    return f"{number / 1e3:.1f}k" if number < 999_950 else f"{number / 1e6:.1f}M"


def short_gmacs(gmacs: float) -> str:
    """1e9 multiply-accumulates with two digits that tell something."""
    return f"{gmacs:.2f}" if gmacs >= 0.095 or gmacs == 0 else f"{gmacs:.2g}"


def filters_of(config: ListConfig) -> list[Filter]:
    """The filters that the options ask for, in the order of the help.

    Raises:
        ZooError: a value that is no number, or no kind of features.
    """
    return [*_by_name(config), *_by_number(config), *_by_feature(config), *_by_weights(config)]


def _by_name(config: ListConfig) -> Iterable[Filter]:
    if (source := config.source) is not None:
        yield Filter(
            option=f"--source {source}",
            what="source",
            fits=lambda row, weights: source in (row.source, row.source.rpartition(":")[2]),
            word=source,
            known=lambda row: row.source,
        )
    if (family := config.family) is not None:
        yield Filter(
            option=f"--family {family}",
            what="family",
            fits=lambda row, weights: _like(row.entry.family, family) if row.entry.family else None,
            word=family,
            known=lambda row: row.entry.family,
        )


def _by_number(config: ListConfig) -> Iterable[Filter]:
    numbers: list[tuple[str, float | str | None, Callable[..., bool], Callable[..., float | None], str]] = [
        ("--min-params", config.min_params, operator.ge, parameters_of, "number of parameters"),
        ("--max-params", config.max_params, operator.le, parameters_of, "number of parameters"),
        ("--max-gmacs", config.max_gmacs, operator.le, gmacs_of, "GMACs"),
        ("--min-top1", config.min_top1, operator.ge, top1_of, "top-1 accuracy"),
        ("--input-size", config.input_size, operator.eq, input_of, "input size"),
        ("--max-input-size", config.max_input_size, operator.le, input_of, "input size"),
    ]
    for option, given, compare, value_of, what in numbers:
        if given is not None:
            test = _compared(value_of, compare, parse_count(str(given), option))
            yield Filter(option=f"{option} {given}", what=what, fits=test, of_weights=value_of is top1_of)


def _compared(value_of: Callable[..., float | None], compare: Callable[..., bool], limit: float) -> Test:
    def fits(row: CatalogueRow, weights: Weights | None) -> bool | None:
        value = value_of(row, weights)
        return None if value is None else compare(value, limit)

    return fits


def _by_feature(config: ListConfig) -> Iterable[Filter]:
    if (feature := config.feature) is not None:
        offered = get_args(FeatureName)
        if feature not in offered:
            raise ZooError(f"--feature must be one of {', '.join(offered)}, not {feature!r}{suggest(feature, offered)}")
        yield Filter(
            option=f"--feature {feature}",
            what="features",
            fits=lambda row, weights: feature in row.entry.features if row.entry.features else None,
        )


def _by_weights(config: ListConfig) -> Iterable[Filter]:
    if (licence := config.licence) is not None:
        yield Filter(
            option=f"--licence {licence}",
            what="licence",
            fits=lambda row, weights: licence_matches(licence, weights.licence if weights else ""),
            word=licence,
            known=lambda row: row.entry.weights[0].licence if row.entry.weights else "",
            also=CLASSES,
            of_weights=True,
        )
    if config.pretrained or config.weights:
        option = "--pretrained" if config.pretrained else "--weights"
        yield Filter(option=option, what="weights", fits=lambda row, weights: True, of_weights=True)
    if config.on_disk:
        disk = Disk()
        yield Filter(
            option="--on-disk",
            what="origin",
            fits=lambda row, weights: disk.holds(weights.origin) if weights and weights.origin else None,
            of_weights=True,
        )
