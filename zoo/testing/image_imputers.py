"""What an imputer of pixels or channels promises: it learns from training rows, fills its holes, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.specs import ImageRows, ImputerRecord
from zoo.testing.check import Check, NotApplicable, require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.parameters import parameter_checks
from zoo.testing.pictures import CHANNELS, SPECS, ImageTrial
from zoo.testing.surroundings import check_draws, sheltered


def image_imputer_checks(record: ImputerRecord) -> list[Check]:
    """The checks of one imputer of pixels or channels."""
    subject = f"imputer of {record.fills} {record.name}"
    trial = ImageTrial(record)
    checks = [Check(subject=subject, name=name, run=partial(_run, run, trial)) for name, run in CHECKS.items()]
    return checks + parameter_checks(subject, record.parameters, partial(_fingerprint, trial))


def _run(run: Callable[[ImageTrial, str], None], trial: ImageTrial) -> None:
    with sheltered():
        for unit in SPECS:
            run(trial, unit)


def _fingerprint(trial: ImageTrial, parameters: object) -> Any:
    with sheltered(), trial.draw("raw units") as pictures:
        fitted = trial.fit(pictures, parameters)
        return fingerprint((fitted.save(), _bits(fitted.transform(pictures.held_out))))


def _bits(rows: ImageRows) -> Any:
    return fingerprint((rows.values, rows.gain))


def _take(rows: ImageRows, chosen: list[int]) -> ImageRows:
    return replace(rows, values=rows.values[chosen], missing=rows.missing[chosen])


def _holes(trial: ImageTrial, rows: ImageRows) -> NDArray[np.bool_]:
    """The holes that are its own: of an imputer of channels, planes that are missing altogether."""
    if trial.record.fills == "pixels":
        return rows.missing
    return np.broadcast_to(rows.missing.all(axis=(2, 3), keepdims=True), rows.missing.shape)


def keeps_observed(trial: ImageTrial, unit: str) -> None:
    """Every pixel that is known comes back bit for bit."""
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        for given in (pictures.held_out, pictures.train):
            found, seen = fitted.transform(given), ~given.missing
            same = found.values[seen].tobytes() == given.values[seen].tobytes()
            require(same, f"a known pixel in {unit} comes back changed")


def fills_all(trial: ImageTrial, unit: str) -> None:
    """No hole of its kind is left, in an image of which nothing is known either, and what is filled in is finite."""
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        for given in (pictures.held_out, pictures.train):
            # What stands at a hole means nothing: where that can be NaN, it is.
            empty = given if unit == "8 bits" else replace(given, values=np.where(given.missing, np.nan, given.values))
            empty = replace(empty, values=empty.values.astype(given.values.dtype))
            left = ~np.isfinite(fitted.transform(empty).values[_holes(trial, given)])
            require(not left.any(), f"{int(left.sum())} pixels in {unit} are filled with no finite number")


def ignores_what_stands_there(trial: ImageTrial, unit: str) -> None:
    """Whatever value stands at a hole, the answer is the same."""
    with trial.draw(unit) as pictures:
        fitted, given = trial.fit(pictures), pictures.held_out
        holes = _holes(trial, given)
        low, high = (replace(given, values=np.where(holes, value, given.values)) for value in (0, 200))
        low, high = (replace(each, values=each.values.astype(given.values.dtype)) for each in (low, high))
        same = _bits(fitted.transform(low)) == _bits(fitted.transform(high))
        require(same, f"in {unit} the value at a hole, which means nothing, changes what it fills in")


def keeps_types(trial: ImageTrial, unit: str) -> None:
    """Channels, shapes, types and masks stay, for one image and for many; a gain is one positive number an image."""
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        for given in (pictures.held_out, _take(pictures.held_out, [1])):
            found = fitted.transform(given)
            require(isinstance(found, ImageRows), f"transform gives {type(found).__name__}")
            require(found.channels == given.channels, f"channels become {found.channels}")
            require(found.values.shape == given.values.shape, f"{given.values.shape} become {found.values.shape}")
            require(found.values.dtype == given.values.dtype, f"{given.values.dtype} become {found.values.dtype}")
            require(np.array_equal(found.missing, given.missing), "it changes the mask of what was missing")
            gain = found.gain
            fits = gain is None or (gain.shape == (len(given),) and bool((np.isfinite(gain) & (gain > 0)).all()))
            require(fits, f"the gain is {gain}, not one positive number an image")


def keeps_channels(trial: ImageTrial, unit: str) -> None:
    """A channel of which training knows nothing is filled or refused by name; it is never dropped."""
    for name in CHANNELS:
        with trial.draw(unit, lost=name) as pictures:
            try:
                fitted = trial.fit(pictures)
            except ValueError as error:
                said = f"training knows nothing of channel {name}, and the refusal does not name it: {error}"
                require(name in str(error), said)
                continue
            found = fitted.transform(pictures.held_out)
            whole = np.isfinite(found.values[_holes(trial, pictures.held_out)]).all()
            require(bool(whole), f"holes are left where training knows nothing of channel {name}")


def learns_once(trial: ImageTrial, unit: str) -> None:
    """Filling other images in between changes nothing: what was learned stays."""
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        state, first = fingerprint(fitted.save()), _bits(fitted.transform(pictures.held_out))
        fitted.transform(
            replace(pictures.train, values=(pictures.train.values * 2).astype(pictures.train.values.dtype))
        )
        require(_bits(fitted.transform(pictures.held_out)) == first, "after others were filled, the same images differ")
        require(fingerprint(fitted.save()) == state, "filling images changes what was learned")


def fills_rows_alone(trial: ImageTrial, unit: str) -> None:
    """Each image gets the same values alone as among others, unless the imputer declares itself transductive."""
    if trial.record.transductive:
        raise NotApplicable("it declares itself transductive")
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        together = fitted.transform(pictures.held_out)
        for row in range(len(together)):
            alone = fitted.transform(_take(pictures.held_out, [row]))
            same = np.array_equal(alone.values[0], together.values[row])
            gains = [None if each.gain is None else each.gain[at] for each, at in ((alone, 0), (together, row))]
            require(same and gains[0] == gains[1], f"image {row} gets other values alone than among others")


def leaves_input(trial: ImageTrial, unit: str) -> None:
    """Neither learning nor filling writes to what is given."""
    with trial.draw(unit) as pictures:
        before = fingerprint((pictures.train.values, pictures.held_out.values, pictures.held_out.missing))
        fitted = trial.fit(pictures)
        fitted.transform(pictures.held_out)
        fitted.transform(pictures.train)
        after = fingerprint((pictures.train.values, pictures.held_out.values, pictures.held_out.missing))
        require(before == after, "it writes to the images that it is given")


def draws_from_generator(trial: ImageTrial, unit: str) -> None:
    """All randomness comes from the generator that it is given; the global ones are neither read nor moved."""
    with trial.draw(unit) as pictures:

        def answer() -> object:
            fitted = trial.fit(pictures)
            return fingerprint((fitted.save(), _bits(fitted.transform(pictures.held_out))))

        check_draws(answer)


def learns_from_training(trial: ImageTrial, unit: str) -> None:
    """Other held-out images change nothing of what is learned."""
    with trial.draw(unit, 0) as here, trial.draw(unit, 1) as there:
        first = trial.fit(here)
        before = fingerprint((first.save(), _bits(first.transform(here.held_out))))
        first.transform(there.held_out)
        second = trial.fit(there)
        after = fingerprint((second.save(), _bits(second.transform(here.held_out))))
    require(before == after, "other values in held-out images change what it learned")


def survives_saving(trial: ImageTrial, unit: str) -> None:
    """What `save` gives can stand in a run's files, and `load` makes the same imputer of it."""
    with trial.draw(unit) as pictures:
        fitted = trial.fit(pictures)
        arrays, values = fitted.save()
        for name, array in arrays.items():
            kind = getattr(array, "dtype", np.dtype(object)).kind
            require(kind in "biuf", f"save gives the array {name!r} as {type(array).__name__}, not as numbers")
        try:
            text = json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            require(False, f"save gives values that JSON cannot hold: {error}")
        # As a run's file keeps them.
        kept = {name: torch.from_numpy(np.array(array)).numpy() for name, array in arrays.items()}
        loaded: Any = trial.record.load(kept, json.loads(text))
        same = _bits(loaded.transform(pictures.held_out)) == _bits(fitted.transform(pictures.held_out))
        require(same, "after saving and loading it fills in other values")
        again = loaded.save()
        one, two = (dict(arrays), json.loads(text)), (dict(again[0]), json.loads(json.dumps(again[1])))
        require(fingerprint(one) == fingerprint(two), "saved again after loading, it is another")


CHECKS: dict[str, Callable[[ImageTrial, str], None]] = {
    "known-pixels-stay-bit-for-bit": keeps_observed,
    "no-hole-of-its-kind-is-left": fills_all,
    "what-stands-at-a-hole-means-nothing": ignores_what_stands_there,
    "channels-shapes-and-types-stay": keeps_types,
    "a-channel-without-training-pixels-is-kept-or-refused": keeps_channels,
    "filling-images-teaches-nothing": learns_once,
    "each-image-is-filled-for-itself": fills_rows_alone,
    "what-is-given-stays-as-it-is": leaves_input,
    "the-generator-decides-what-is-random": draws_from_generator,
    "held-out-images-teach-nothing": learns_from_training,
    "a-saved-imputer-does-the-same": survives_saving,
}
