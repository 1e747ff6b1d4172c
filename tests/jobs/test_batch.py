"""The largest batch that fits."""

import pytest
import torch

import zoo
from zoo.errors import ZooError
from zoo.jobs.batch import LARGEST, halved


def fits(most, tried):
    def attempt(rows):
        tried.append(rows)
        if rows > most:
            raise torch.OutOfMemoryError

    return attempt


def test_it_is_halved_until_it_fits():
    tried = []
    assert halved(fits(100, tried), 512) == (
        64,
        "128 ran out of memory; a step of 64 rows through the whole network fits",
    )
    assert tried == [512, 256, 128, 64]


def test_the_largest_is_taken_at_once_where_it_fits():
    rows, why = halved(fits(10_000, []), LARGEST)
    assert rows == LARGEST
    assert why.startswith("as large as it gets")


def test_not_even_two_rows():
    with pytest.raises(ZooError, match="not even two rows fit"):
        halved(fits(1, []), 64)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def attempt(rows):
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        halved(attempt, 64)


def test_on_a_cpu_it_is_a_rule_and_the_run_says_so(shape_folder, tmp_path):
    found = zoo.train(
        shape_folder(16, 16), backbone="tiny/test_resnet", out=tmp_path / "run", epochs=1, size=64, batch_size="auto"
    )
    said = {each["what"]: each["choice"] for each in found.run["decisions"]}
    assert said["batch size"] == "32"
    assert found.run["training"]["batch_size"] == 32


@pytest.mark.gpu
def test_on_a_gpu_a_step_is_tried_and_nothing_moves(shape_folder, tmp_path):
    found = zoo.train(
        shape_folder(16, 16),
        backbone="tiny/test_resnet",
        out=tmp_path / "run",
        epochs=1,
        size=64,
        batch_size="auto",
        freeze="none",
        device="cuda",
    )
    said = {each["what"]: each["why"] for each in found.run["decisions"]}
    assert "fits" in said["batch size"]
