"""`zoo train`: options that choose another job than training."""

import pytest

from zoo.cli import main


@pytest.mark.parametrize("words", [["--find-lr"], ["--find-lr-steps", "50"]])
def test_testing_learning_rates_and_resuming_are_refused_together(words, tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path), *words]) == 2
    assert "before a run begins, and --resume goes on with one at its own; leave out one" in capsys.readouterr().err
