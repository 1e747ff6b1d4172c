"""A prefix is compiled where that saves more than it costs, and gives the rows that it gave before."""

import shutil

import numpy as np
import pytest
import torch

from zoo.data.ingest import ingest
from zoo.features import compiled
from zoo.features.compiled import Trial, said, try_compiling
from zoo.features.prefix import Prefix, Recipe
from zoo.model.load import strip
from zoo.model.view import build_view

CPU = torch.device("cpu")


@pytest.fixture
def ready(shapes, tmp_path):
    torch.manual_seed(0)
    view = strip(build_view("timm/test_resnet", "none"))
    paths, _ = shapes(40)
    return Prefix(view, "pooled", Recipe(), CPU), ingest(paths, view.input, tmp_path / "images")


def asked(ready, tmp_path, passes=100_000, seconds=1.0):
    prefix, images = ready
    return try_compiling(prefix, images, passes=passes, seconds=seconds, memory=tmp_path / "speeds")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_prefix_gives_the_same_rows_for_any_number_of_images(ready):
    prefix, images = ready
    translated = prefix.compiled()
    for count in (40, 3):
        pixels = images.pixels(np.arange(count))
        found = translated(pixels)
        assert found.shape == (count, *prefix.shape)
        assert torch.allclose(found, prefix(pixels), rtol=1e-3, atol=1e-4)
    assert translated.description("x") == {**prefix.description("x"), "compiled": True}
    assert str(translated.recipe) == f"{prefix.recipe}, compiled"
    assert not prefix.recipe.compiled


def test_what_is_soon_computed_is_not_compiled(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("it was compiled"))
    assert asked(ready, tmp_path, passes=1000, seconds=0.01) is None


@pytest.mark.parametrize(
    ("translate", "problem"),
    [
        (
            lambda call: lambda ready: [each * -1 for each in call(ready)],
            r"compiled it gives other features: cosine -1",
        ),
        (lambda call: lambda ready: 1 / 0, "it cannot be compiled here: ZeroDivisionError: division by zero"),
        (lambda call: call, ""),
    ],
)
def test_it_is_tried_once_and_refused_where_it_fails_or_gives_other_rows(
    ready, tmp_path, monkeypatch, translate, problem
):
    made = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: made.append(call) or translate(call))
    trial, read = asked(ready, tmp_path)
    assert trial.problem.startswith(problem)
    assert bool(trial.problem) == bool(problem)
    assert not read
    assert asked(ready, tmp_path) == (trial, True)
    assert asked(ready, tmp_path, passes=1) == (trial, True)  # what is known is known for small jobs too
    assert len(made) == 1


def test_it_pays_where_it_saves_more_than_it_costs():
    trial = Trial(compile=10.0, plain=0.004, compiled=0.003)
    assert trial.saves(20_000) == pytest.approx(10.0)
    assert trial.saves(1000) == pytest.approx(-9.0)
    assert Trial(problem="no compiler").saves(10**9) == float("-inf")
    told = said(trial, 20_000, used=True, read=True)
    assert (told.what, told.choice) == ("compiling the prefix", "yes")
    assert told.why == (
        "333 images a second against 250; compiling takes 10.0 s; over 20000 images it saves 10 s (an earlier run)"
    )
    assert "compiling took 10.0 s to find out" in said(trial, 20_000, used=True, read=False).why
    assert said(Trial(problem="no compiler"), 5, used=False, read=True).why == "no compiler"
    assert compiled.WORTH_TRYING.keys() == {"cpu", "cuda"}
