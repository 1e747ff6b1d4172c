"""What an imputer promises, here of covariates: it learns from training rows, fills holes, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.run.row_noise import row_noise
from zoo.specs import CovariateColumns, DrawingImputer, ImputerRecord
from zoo.testing.check import Check, NotApplicable, require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.image_imputers import image_imputer_checks
from zoo.testing.parameters import parameter_checks
from zoo.testing.surroundings import check_draws, sheltered
from zoo.testing.tables import Trial


def imputer_checks(record: ImputerRecord) -> list[Check]:
    """The checks of one imputer."""
    if record.fills != "covariates":
        return image_imputer_checks(record)
    subject = f"imputer {record.name}"
    trial = Trial(record)
    own = CHECKS | DRAWING if record.draws else CHECKS
    checks = [Check(subject=subject, name=name, run=partial(_run, run, trial)) for name, run in own.items()]
    return checks + parameter_checks(subject, record.parameters, partial(_fingerprint, trial))


def _run(run: Callable[[Trial], None], trial: Trial) -> None:
    with sheltered():
        run(trial)


def _fingerprint(trial: Trial, parameters: object) -> Any:
    with sheltered():
        sample = trial.sample()
        fitted = trial.fit(sample, parameters)
        return fingerprint((fitted.save(), _bits(fitted.transform(sample.held_out))))


def _bits(columns: CovariateColumns) -> Any:
    return fingerprint((columns.numeric, columns.categorical))


def _close(one: CovariateColumns, two: CovariateColumns) -> bool:
    """Equal codes, and numbers that are equal but for rounding: sums over more rows are rounded in another order."""
    numbers = np.allclose(one.numeric, two.numeric, rtol=1e-7, atol=1e-9)
    return numbers and np.array_equal(one.categorical, two.categorical)


def _take(columns: CovariateColumns, rows: NDArray[np.int64]) -> CovariateColumns:
    return replace(columns, numeric=columns.numeric[rows], categorical=columns.categorical[rows])


def keeps_observed(trial: Trial) -> None:
    """Every observed entry, minus zero and the smallest digit included, comes back bit for bit."""
    sample = trial.sample()
    fitted = trial.fit(sample)
    for given in (sample.held_out, sample.train):
        found = fitted.transform(given)
        seen, known = ~np.isnan(given.numeric), given.categorical != -1
        same = found.numeric[seen].astype(np.float64).tobytes() == given.numeric[seen].tobytes()
        require(same, "an observed number comes back changed")
        require(np.array_equal(found.categorical[known], given.categorical[known]), "an observed category changes")


def fills_all(trial: Trial) -> None:
    """No hole is left, in a row without any value either, and what is filled in is finite."""
    sample = trial.sample()
    fitted = trial.fit(sample)
    for given in (sample.held_out, sample.train, sample.empty_rows):
        found = fitted.transform(given)
        holes = int(np.isnan(found.numeric).sum() + (found.categorical == -1).sum())
        require(holes == 0, f"{holes} holes are left in {len(given)} rows")
        require(bool(np.isfinite(found.numeric).all()), "a hole is filled with a number that is not finite")


def keeps_columns(trial: Trial) -> None:
    """A column without any training value is filled or refused by name; it is never dropped."""
    sample = trial.sample()
    for name in trial.names:
        bare = sample.without(name)
        try:
            fitted = trial.fit(bare)
        except ValueError as error:
            require(
                name in str(error), f"no training value of {name!r} is known, and the refusal does not name it: {error}"
            )
            continue
        found = fitted.transform(bare.held_out)
        _require_types(bare.held_out, found, f"where no training value of {name!r} is known")
        holes = int(np.isnan(found.numeric).sum() + (found.categorical == -1).sum())
        require(holes == 0, f"{holes} holes are left where no training value of {name!r} is known")


def _require_types(given: CovariateColumns, found: CovariateColumns, where: str) -> None:
    require(isinstance(found, CovariateColumns), f"{where} transform gives {type(found).__name__}")
    for part in ("numeric_names", "categorical_names", "categories"):
        require(getattr(found, part) == getattr(given, part), f"{where} {part} become {getattr(found, part)}")
    for part in ("numeric", "categorical"):
        old, new = getattr(given, part), getattr(found, part)
        require(new.shape == old.shape, f"{where} {part} values {old.shape} become {new.shape}")
        require(new.dtype == old.dtype, f"{where} {part} values of {old.dtype} become {new.dtype}")


def keeps_types(trial: Trial) -> None:
    """Names, categories, shapes and types of numbers stay, for one row and for many."""
    sample = trial.sample()
    fitted = trial.fit(sample)
    for given in (sample.held_out, _take(sample.held_out, np.arange(1)), sample.train):
        _require_types(given, fitted.transform(given), f"of {len(given)} rows")


def keeps_categories(trial: Trial) -> None:
    """Each code that is filled in is one of the column's categories."""
    sample = trial.sample()
    if not sample.train.categorical_names:
        raise NotApplicable("it takes no categories")
    fitted = trial.fit(sample)
    for given in (sample.held_out, sample.empty_rows):
        codes = fitted.transform(given).categorical
        for index, (name, categories) in enumerate(zip(given.categorical_names, given.categories, strict=True)):
            wrong = [int(code) for code in np.unique(codes[:, index]) if not 0 <= code < len(categories)]
            require(not wrong, f"{name!r} is filled with code {wrong[:1]}; it has {len(categories)} categories")


def learns_once(trial: Trial) -> None:
    """Filling other rows in between changes nothing: what was learned stays."""
    sample = trial.sample()
    fitted = trial.fit(sample)
    state, first = fingerprint(fitted.save()), _bits(fitted.transform(sample.held_out))
    fitted.transform(replace(sample.train, numeric=sample.train.numeric * 50 + 1000))
    fitted.transform(sample.empty_rows)
    require(_bits(fitted.transform(sample.held_out)) == first, "after other rows were filled, the same rows get others")
    require(fingerprint(fitted.save()) == state, "filling rows changes what was learned")


def fills_rows_alone(trial: Trial) -> None:
    """Each row gets the same values alone as among others, unless the imputer declares itself transductive."""
    if trial.record.transductive:
        raise NotApplicable("it declares itself transductive")
    sample = trial.sample()
    fitted = trial.fit(sample)
    together = fitted.transform(sample.held_out)
    for row in range(len(sample.held_out)):
        one = np.array([row])
        alone = fitted.transform(_take(sample.held_out, one))
        require(_close(alone, _take(together, one)), f"row {row} gets other values alone than among others")


def leaves_input(trial: Trial) -> None:
    """Neither learning nor filling writes to what is given."""
    sample = trial.sample()
    train, held_out = _bits(sample.train), _bits(sample.held_out)
    fitted = trial.fit(sample)
    fitted.transform(sample.held_out)
    fitted.transform(sample.train)
    require(_bits(sample.train) == train, "it writes to the training rows")
    require(_bits(sample.held_out) == held_out, "it writes to the rows that it is to fill")


def draws_from_generator(trial: Trial) -> None:
    """All randomness comes from the generator that it is given; the global ones are neither read nor moved."""
    sample = trial.sample()

    def answer() -> object:
        fitted = trial.fit(sample)
        return fingerprint((fitted.save(), _bits(fitted.transform(sample.held_out))))

    check_draws(answer)


def learns_from_training(trial: Trial) -> None:
    """Other values in held-out rows change nothing of what is learned."""
    here, there = trial.sample(0), trial.sample(1)
    first = trial.fit(here)
    before = fingerprint((first.save(), _bits(first.transform(here.held_out))))
    first.transform(there.held_out)
    second = trial.fit(there)
    after = fingerprint((second.save(), _bits(second.transform(here.held_out))))
    require(before == after, "other values in held-out rows change what it learned")


def survives_saving(trial: Trial) -> None:
    """What `save` gives can stand in a run's files, and `load` makes the same imputer of it."""
    sample = trial.sample()
    fitted = trial.fit(sample)
    arrays, values = fitted.save()
    for name, array in arrays.items():
        fits = isinstance(array, np.ndarray | np.generic) and np.asarray(array).dtype.kind in "biuf"
        require(
            fits, f"save gives the array {name!r} as {getattr(array, 'dtype', type(array).__name__)}, not as numbers"
        )
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        require(False, f"save gives values that JSON cannot hold: {error}")
    # As a run's file keeps them.
    kept = {name: torch.from_numpy(np.array(array)).numpy() for name, array in arrays.items()}
    loaded: Any = trial.record.load(kept, json.loads(text))
    for given in (sample.held_out, sample.empty_rows):
        same = _bits(loaded.transform(given)) == _bits(fitted.transform(given))
        require(same, "after saving and loading it fills in other values")
        if trial.record.draws:
            both = (cast("DrawingImputer", each) for each in (loaded, fitted))
            drawn = [_bits(each.draw(given, row_noise(given, ["-"] * len(given), 0))) for each in both]
            require(drawn[0] == drawn[1], "after saving and loading it draws other values")
    again = loaded.save()
    require(
        fingerprint((dict(arrays), json.loads(text)))
        == fingerprint((dict(again[0]), json.loads(json.dumps(again[1])))),
        "saved again after loading, it is another",
    )


def draws_rows_alone(trial: Trial) -> None:
    """Observed entries stay, no hole is left, each row draws by its own numbers, and draws differ."""
    sample = trial.sample()
    fitted = cast("DrawingImputer", trial.fit(sample))
    given = sample.held_out
    names = [str(row) for row in range(len(given))]
    first, second = (fitted.draw(given, row_noise(given, names, draw)) for draw in (0, 1))
    _require_types(given, first, "where it draws")
    seen, known = ~np.isnan(given.numeric), given.categorical != -1
    for drawn in (first, second):
        same = drawn.numeric[seen].astype(np.float64).tobytes() == given.numeric[seen].tobytes()
        require(same, "where it draws, an observed number comes back changed")
        require(np.array_equal(drawn.categorical[known], given.categorical[known]), "it draws over observed categories")
        holes = int((~np.isfinite(drawn.numeric)).sum() + (drawn.categorical == -1).sum())
        require(holes == 0, f"{holes} holes are left, or not finite, where it draws")
    require(_bits(fitted.draw(given, row_noise(given, names, 0))) == _bits(first), "the same noise draws other values")
    require(_bits(first) != _bits(second), "two draws fill every hole with the same")
    for row in range(len(given)):
        one = _take(given, np.array([row]))
        alone = fitted.draw(one, row_noise(one, names[row : row + 1], 0))
        require(_close(alone, _take(first, np.array([row]))), f"row {row} draws other values alone than among others")


CHECKS: dict[str, Callable[[Trial], None]] = {
    "observed-entries-stay-bit-for-bit": keeps_observed,
    "no-hole-is-left": fills_all,
    "a-column-without-training-values-is-kept-or-refused": keeps_columns,
    "names-shapes-and-types-stay": keeps_types,
    "codes-stay-within-the-categories": keeps_categories,
    "filling-rows-teaches-nothing": learns_once,
    "each-row-is-filled-for-itself": fills_rows_alone,
    "what-is-given-stays-as-it-is": leaves_input,
    "the-generator-decides-what-is-random": draws_from_generator,
    "held-out-rows-teach-nothing": learns_from_training,
    "a-saved-imputer-does-the-same": survives_saving,
}
DRAWING: dict[str, Callable[[Trial], None]] = {"draws-differ-and-each-row-has-its-own": draws_rows_alone}
"""Of imputers that draw, beside the others."""
