"""Each interval of each run is held against what it promises: in its first step, and at its end."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import IntegrityError
from zoo.jobs import fitting, start, training_part
from zoo.training.loop import Trainer


def train(data, out, **options):
    fields = {"backbone": "tiny/test_vit", "size": 64, "batch_size": 8, "quiet": True, "device": "cpu"}
    return zoo.train(data, out=out, **{**fields, "precision": "fp32", "epochs": 2, **options})


@pytest.fixture
def steps(monkeypatch):
    """The steps that were made, as numbers of their epochs."""
    made = []
    step = Trainer._step

    def counting(self, parts, given):
        made.append(self.at.epoch)
        return step(self, parts, given)

    monkeypatch.setattr(Trainer, "_step", counting)
    return made


def blinded(monkeypatch, since):
    """From this epoch on autograd does not see the backbone."""
    plain = training_part.suffix_of

    @contextmanager
    def blind(job, plan, **options):
        with plain(job, plan, **options) as suffix:

            def cut_off(given, covariates):
                if job.intervals[job.interval].start < since:
                    return suffix(given, covariates)
                with torch.no_grad():
                    features = job.model.features(given[0])
                return job.model.heads(features, covariates)

            yield cut_off

    monkeypatch.setattr(training_part, "suffix_of", blind)


def test_a_backbone_that_autograd_does_not_see_stops_the_run_at_its_first_step(
    shape_folder, tmp_path, monkeypatch, steps
):
    blinded(monkeypatch, since=0)
    with pytest.raises(IntegrityError, match=r"trainable tensors got no gradient in the first step"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="none")
    assert steps == [0]


def test_an_unfreezing_that_autograd_does_not_see_stops_the_run(shape_folder, tmp_path, monkeypatch, steps):
    blinded(monkeypatch, since=1)
    with pytest.raises(IntegrityError, match=r"trainable tensors got no gradient in the first step"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="none@lp-ft(1)")
    assert steps.count(1) == 1
    assert steps.count(0) > 1


def test_what_the_optimiser_does_not_hold_stops_the_run(shape_folder, tmp_path, monkeypatch):
    plain = fitting.optimiser_of

    def forgetful(job):
        optimiser = plain(job)
        optimiser.param_groups[-1]["params"].pop()
        return optimiser

    monkeypatch.setattr(fitting, "optimiser_of", forgetful)
    with pytest.raises(IntegrityError, match="1 trainable tensors are not in the optimiser"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="none")


def test_a_run_in_which_nothing_moves_fails(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.optim.AdamW.step", lambda self, closure=None: None)
    with pytest.raises(IntegrityError, match=r"nothing moved of what policy last\(1\) trains"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="last(1)")


def test_a_frozen_tensor_that_moves_is_found_after_one_step(shape_folder, tmp_path, monkeypatch, steps):
    step = Trainer._step

    def careless(self, parts, given):
        with torch.no_grad():
            next(self.model.parameters()).add_(1e-3)
        return step(self, parts, given)

    monkeypatch.setattr(Trainer, "_step", careless)
    with pytest.raises(IntegrityError, match="1 frozen tensors changed"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="last(1)")
    assert steps == [0]


def test_what_is_not_used_or_gets_no_gradient_but_zero_is_told_and_no_error(shape_folder, tmp_path, monkeypatch):
    plain = start._assembled

    def with_idle_parts(*given):
        model = plain(*given)
        model.backbone.spare = nn.Parameter(torch.ones(2))
        block = model.backbone.blocks[-1]
        with torch.no_grad():  # a branch that is multiplied by zero has gradients of zero
            block.mlp.fc2.weight.zero_()
            block.mlp.fc2.bias.zero_()
        block.mlp.fc2.weight.register_hook(torch.zeros_like)
        return model

    monkeypatch.setattr(start, "_assembled", with_idle_parts)
    result = train(shape_folder(16, 16), tmp_path / "run", freeze="none", weight_decay=0.0)
    said = {each["what"]: each for each in result.run["decisions"]}
    assert said["trainable, but not used"]["choice"].startswith("1 of ")
    assert "backbone.spare" in said["trainable, but not used"]["why"]
    assert "backbone.blocks.5.mlp.fc2.weight" in said["trainable, but not moved"]["why"]


def test_a_run_in_which_all_moves_says_nothing_of_it(shape_folder, tmp_path):
    result = train(shape_folder(16, 16), tmp_path / "run", freeze="last(1)@lp-ft(1)")
    assert not [each for each in result.run["decisions"] if "trainable, but" in each["what"]]
