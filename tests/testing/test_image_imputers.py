"""The kit of imputers of pixels and channels finds each promise that is broken."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from zoo.registry.lookup import IMPUTERS
from zoo.specs import ImageRows, ImputerRecord, NoParameters
from zoo.testing.image_imputers import CHECKS
from zoo.testing.imputers import imputer_checks
from zoo.testing.pictures import CHANNELS, draw_pictures

KEPT, FILLED = "known-pixels-stay-bit-for-bit", "no-hole-of-its-kind-is-left"
MEANS, TYPES = "what-stands-at-a-hole-means-nothing", "channels-shapes-and-types-stay"


@dataclass
class Zero:
    """Fills every hole with a number; a test breaks one of its habits."""

    value: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)

    def transform(self, images: ImageRows) -> ImageRows:
        values = np.where(images.missing, self.value, images.values).astype(images.values.dtype)
        return dataclasses.replace(images, values=values)

    def save(self):
        return {"value": np.array(self.value)}, {}


def load(arrays, values):
    return Zero(float(arrays["value"]))


def record(cls=Zero, fills="pixels", fit=None, **options):
    return ImputerRecord(
        name="mine", fills=fills, fit=fit or (lambda view, parameters, generator: cls()), **{"load": load, **options}
    )


@pytest.mark.parametrize("fills", ["pixels", "channels"])
def test_a_right_imputer_passes_every_check(fills, ends):
    checks = imputer_checks(record(fills=fills))
    assert {check.name for check in checks} == set(CHECKS)
    assert checks[0].subject == f"imputer of {fills} mine"
    assert ends(checks) == {}


class Touches(Zero):
    def transform(self, images):
        return dataclasses.replace(super().transform(images), values=super().transform(images).values + np.uint8(1))


class Leaves(Zero):
    def transform(self, images):
        return dataclasses.replace(images, values=images.values.copy())


class Looks(Zero):
    def transform(self, images):
        return dataclasses.replace(images, values=np.nan_to_num(images.values))


class Widens(Zero):
    def transform(self, images):
        done = super().transform(images)
        return dataclasses.replace(done, values=done.values.astype(np.float64))


class Unmasks(Zero):
    def transform(self, images):
        return dataclasses.replace(super().transform(images), missing=np.zeros_like(images.missing))


class Weighs(Zero):
    def transform(self, images):
        return dataclasses.replace(super().transform(images), gain=np.zeros(len(images), dtype=np.float32))


class Remembers(Zero):
    def transform(self, images):
        self.value += 1.0
        return super().transform(images)


class Mixes(Zero):
    def transform(self, images):
        values = np.where(images.missing, float(len(images)), images.values).astype(images.values.dtype)
        return dataclasses.replace(images, values=values)


class Writes(Zero):
    def transform(self, images):
        images.values[images.missing] = 0
        return dataclasses.replace(images, values=images.values)


class Unsaid(Zero):
    def save(self):
        return {}, {"value": {self.value}}


@pytest.mark.parametrize(
    ("cls", "name", "message"),
    [
        (Touches, KEPT, "a known pixel in 8 bits comes back changed"),
        (Leaves, FILLED, "are filled with no finite number"),
        (Looks, MEANS, "the value at a hole, which means nothing, changes what it fills in"),
        (Widens, TYPES, "uint8 become float64"),
        (Unmasks, TYPES, "it changes the mask of what was missing"),
        (Weighs, TYPES, "not one positive number an image"),
        (Remembers, "filling-images-teaches-nothing", "after others were filled, the same images differ"),
        (Mixes, "each-image-is-filled-for-itself", "gets other values alone than among others"),
        (Writes, "what-is-given-stays-as-it-is", "it writes to the images that it is given"),
        (Unsaid, "a-saved-imputer-does-the-same", "save gives values that JSON cannot hold"),
    ],
)
def test_each_broken_promise_is_caught(cls, name, message, caught):
    caught(imputer_checks(record(cls)), name, message)


def test_what_is_learned_from_held_out_images_or_drawn_elsewhere_is_caught(caught):
    def peeks(view, parameters, generator):
        images = view.images
        return Zero(float(images._images.as_read(np.arange(len(images) + 5)).values.mean(dtype=np.float64)))

    def draws(view, parameters, generator):
        return Zero(float(np.random.random()))  # noqa: NPY002

    caught(imputer_checks(record(fit=peeks)), "held-out-images-teach-nothing", "change what it learned")
    caught(imputer_checks(record(fit=draws)), "the-generator-decides-what-is-random", "the random numbers of numpy")


def test_a_refusal_names_the_channel_and_what_is_kept_is_filled(caught):
    def refuses(view, parameters, generator):
        if any(part.missing.all(axis=(0, 2, 3)).any() for part in view.images.batches()):
            raise ValueError("something is missing")
        return Zero()

    name = "a-channel-without-training-pixels-is-kept-or-refused"
    caught(imputer_checks(record(fit=refuses)), name, "the refusal does not name it")


def test_a_saved_imputer_that_forgets_is_caught(caught):
    def fit(view, parameters, generator):
        return Zero(3.0)

    forgets = record(fit=fit, load=lambda arrays, values: Zero(4.0))
    caught(imputer_checks(forgets), "a-saved-imputer-does-the-same", "it fills in other values")


def test_a_transductive_imputer_may_look_at_other_images(result):
    found = result(imputer_checks(record(Mixes, transductive=True)), "each-image-is-filled-for-itself")
    assert (found.outcome, found.message) == ("skipped", "it declares itself transductive")


@dataclass(frozen=True)
class Level:
    level: float = 0.0


def test_a_parameter_that_is_ignored_is_caught(caught, result):
    name = "the-parameter-level-reaches-what-is-built"
    used = record(fit=lambda view, parameters, generator: Zero(parameters.level), parameters=Level)
    assert result(imputer_checks(used), name).outcome == "passed"
    caught(imputer_checks(record(parameters=Level)), name, "level changes nothing")


@pytest.mark.parametrize("kind", ["pixels", "channels"])
def test_samples_differ_in_held_out_rows_alone_and_have_holes_of_their_kind(kind):
    with draw_pictures(kind, "8 bits", 0) as here, draw_pictures(kind, "8 bits", 1) as there:
        assert np.array_equal(here.train.values, there.train.values)
        assert not np.array_equal(here.held_out.values, there.held_out.values)
        assert here.view.images.channels == CHANNELS
        holes = here.train.missing[1:]
        whole = holes.all(axis=(2, 3))
        assert whole.any() if kind == "channels" else (holes.any() and not whole.any())


def test_a_name_is_an_imputers_own_among_those_of_its_kind():
    assert IMPUTERS["pixels"].get("mean") is not IMPUTERS["covariates"].get("mean")
    assert IMPUTERS["pixels"].get("mean").parameters is NoParameters
