"""The loop: cached and uncached training agree bit for bit, the best epoch is kept, and numbers are honest."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

import zoo
from zoo.data.ingest import ingest
from zoo.errors import ZooError
from zoo.features.digests import weights_digest
from zoo.features.extract import keep
from zoo.features.prefix import Prefix, Recipe
from zoo.group import ALONE, Group
from zoo.model.load import assemble, strip
from zoo.model.network import TaskHeads
from zoo.model.view import build_view
from zoo.specs import Phase, Target, Task, Timeline
from zoo.training.finite import NonFiniteLossError
from zoo.training.inputs import CachedFeatures, Inputs
from zoo.training.live import LiveFeatures, Pixels
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates, build_optimiser, parse_optimiser
from zoo.training.settings import Data, Settings
from zoo.training.shared import shared
from zoo.training.strategy import Answer

TASK = Task(name="shape", classes=("disc", "square"))
TASKS = (TASK,)
ANSWERS = {"shape": Answer()}
CPU = torch.device("cpu")


class Fixed(Inputs):
    """Inputs that are there already."""

    def __init__(self, features):
        self.features = features

    def take(self, rows, epoch=None):
        return (self.features[rows],)


def settings(epochs=3, batch_size=8, lr=0.01, **fields):
    phase = Phase(name="head", start=0, stop=epochs, trainable=frozenset())
    defaults = {
        "timeline": Timeline(phases=(phase,)),
        "rates": Rates(head=lr, backbone=1e-3, weight_decay=0.05, head_l2=0.0, warmup=0.1),
        "batch_size": batch_size,
        "metric": "accuracy",
        "seed": 0,
        "autocast": False,
        "device": CPU,
    }
    return Settings(**{**defaults, **fields})


def toy(rows=40, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    features = torch.randn(rows, width, generator=generator) + labels[:, None]
    target = Target(value=labels, mask=torch.ones(rows, dtype=torch.bool))
    data = Data(
        inputs=Fixed(features),
        covariates=None,
        targets={"shape": target},
        train=torch.arange(0, 32),
        val=torch.arange(32, rows),
    )
    return data, TaskHeads([TASK], width)


def trainer(data, heads, own):
    return Trainer(heads, heads, lambda given, c: heads(given[0], c), data, (TASK,), {"shape": Answer()}, own)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    weights = []
    for seed in (0, 0, 1):
        data, heads = toy()
        trainer(data, heads, settings(seed=seed)).fit()
        weights.append(heads.heads[0].weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Talking(Group):
    """A process of several, of which the others are asked nothing: it gives back its own part."""

    def join(self, part):
        return part

    def copy(self, tensors):
        del tensors


@pytest.mark.parametrize(("rows", "size"), [(1, 2), (7, 2), (129, 2), (65, 3), (2, 3), (200, 3)])
def test_each_row_is_validated_once_by_as_many_passes_in_each_process(rows, size):
    """Where tensors are divided a pass takes everybody."""
    data, heads = toy(rows=32 + rows)
    seen, passes = [], []
    for rank in range(size):
        counted = []

        def suffix(given, covariates, counted=counted):
            counted.append(len(given[0]))
            return heads(given[0], covariates)

        own = settings(group=Talking(rank=rank, size=size))
        one = Trainer(heads, heads, suffix, data, TASKS, ANSWERS, own, None, shared(heads, suffix, ALONE))
        seen.append(one.predict()["shape"])
        passes.append(len(counted))
    expected = trainer(data, heads, settings()).predict()["shape"]
    assert torch.allclose(torch.cat(seen), expected)
    assert len(set(passes)) == 1


def test_training_leaves_the_callers_random_state_alone():
    data, heads = toy()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer(data, heads, settings()).fit()
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_by_validation_is_what_is_kept():
    data, heads = toy()
    kept = {}
    own = trainer(data, heads, settings(epochs=6, lr=0.05))
    plain = own.validate

    def watched():
        found = plain()
        kept[len(kept)] = (found["shape/accuracy"], copy.deepcopy(heads.state_dict()))
        return found

    own.validate = watched
    fit = own.fit()
    best = max(kept, key=lambda epoch: (kept[epoch][0], -epoch))
    assert fit.best_epoch == best + 1
    assert fit.best_value == kept[best][0]
    assert all(torch.equal(value, kept[best][1][name]) for name, value in heads.state_dict().items())
    assert [row["epoch"] for row in fit.history] == [1, 2, 3, 4, 5, 6]


def test_validation_scores_logits_as_they_will_be_corrected_at_inference():
    data, heads = toy()
    own = Trainer(
        heads,
        heads,
        lambda given, c: heads(given[0], c),
        data,
        (TASK,),
        {"shape": Answer(logit_bias=(100.0, 0.0))},
        settings(),
    )
    assert own.validate()["shape/accuracy"] == 0.5  # everything is called the first class


def test_a_loss_that_is_not_finite_stops_the_run_with_a_hint():
    data, heads = toy()
    data.inputs.features[3] = float("inf")
    with pytest.raises(ZooError, match=r"the loss of step \d of epoch 1 is nan; lower the learning rate"):
        trainer(data, heads, settings()).fit()


def test_the_rows_of_the_step_whose_loss_is_not_finite_are_named():
    data, heads = toy()
    own = trainer(data, heads, settings(batch_size=4))
    data.inputs.features[3] = float("inf")
    step = [3 in part.tolist() for part in own._batches(own._order(0))].index(True)
    with pytest.raises(NonFiniteLossError, match=f"the loss of step {step + 1} of epoch 1") as caught:
        own.fit()
    assert sorted(caught.value.rows) == sorted(own._batches(own._order(0))[step].tolist())


def taught(**fields):
    """The heads' weights after three epochs."""
    data, heads = toy(seed=3)
    holes = data.targets["shape"].mask.clone()
    holes[::5] = False  # labels that are not known, so that batches have unequal numbers of them
    data.targets["shape"] = dataclasses.replace(data.targets["shape"], mask=holes)
    data = dataclasses.replace(data, val=torch.tensor([32, 33, 34, 36, 37, 38]))
    torch.nn.init.ones_(heads.heads[0].weight)
    fit = trainer(data, heads, settings(**fields)).fit()
    return heads.heads[0].weight.detach().clone(), fit


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_accumulated_batches_train_as_one_large_batch_does(optimiser):
    choice = parse_optimiser(optimiser)
    large, fit = taught(batch_size=16, optimiser=choice)
    small, other = taught(batch_size=4, accumulate=4, optimiser=choice)
    torch.testing.assert_close(small, large, rtol=1e-5, atol=1e-6)
    assert [row["train_loss"] for row in other.history] == pytest.approx([row["train_loss"] for row in fit.history])
    assert not torch.allclose(taught(batch_size=4, optimiser=choice)[0], large, rtol=1e-3)


def test_a_clipped_gradient_has_the_norm_that_was_asked_for():
    data, heads = toy()
    own = trainer(data, heads, settings(clip_norm=1e-3, optimiser=parse_optimiser("sgd(momentum=0, nesterov=false)")))
    norms = []
    own.optimiser.register_step_pre_hook(
        lambda *_: norms.append(float(torch.stack([p.grad.norm() for p in heads.parameters()]).norm()))
    )
    own.fit()
    assert norms == pytest.approx([1e-3] * len(norms), rel=1e-3)


def test_what_is_validated_and_kept_under_ema_is_the_average():
    data, heads = toy()
    own = trainer(data, heads, settings(epochs=2, ema=0.9))
    seen = []
    plain = own._forward

    def forward(batch, *suffix):
        seen.append((heads.training, heads.heads[0].weight.detach().clone()))
        return plain(batch, *suffix)

    own._forward = forward
    fit = own.fit()
    validated = [weight for training, weight in seen if not training]
    kept = heads.heads[0].weight.detach()
    assert torch.equal(kept, validated[fit.best_epoch - 1])
    trained = [weight for training, weight in seen if training]
    assert not any(torch.equal(weight, other) for weight in trained for other in validated)


def test_training_stops_when_validation_has_not_improved_for_as_long_as_patience_says():
    data, heads = toy()
    own = trainer(data, heads, settings(epochs=20, patience=3))
    values = iter([0.5, 0.6, 0.6, 0.55, 0.6, *[0.9] * 20])
    own.validate = lambda: {"shape/accuracy": next(values)}
    fit = own.fit()
    assert fit.best_epoch == 2
    assert len(fit.history) == 5


def test_smoothed_labels_lower_what_the_network_is_sure_of():
    sharp, _ = taught(epochs=40)
    soft, _ = taught(epochs=40, smoothing=0.4)
    assert float(soft.norm()) < float(sharp.norm())


def test_a_mixed_batch_has_the_loss_of_both_its_labels():
    data, heads = toy()
    images = torch.randn(40, 1, 4, 4)
    data = dataclasses.replace(data, inputs=Fixed(images))
    heads = TaskHeads([TASK], 16)
    own = Trainer(
        heads,
        heads,
        lambda given, c: heads(given[0].flatten(1), c),
        data,
        (TASK,),
        {"shape": Answer()},
        settings(mixup=1.0),
    )
    rows = torch.arange(8)
    torch.manual_seed(0)
    found = own._loss(own._batch(rows, (images[rows],), None), None)
    torch.manual_seed(0)
    mixed, share = own.mixer(images[rows])
    logits, labels = heads(mixed.flatten(1), None)["shape"], rows % 2
    expected = share * torch.nn.functional.cross_entropy(logits, labels)
    expected += (1 - share) * torch.nn.functional.cross_entropy(logits, labels.roll(1))
    torch.testing.assert_close(found, expected)


def test_a_sampler_draws_from_the_training_rows_alone():
    data, heads = toy()
    asked = []

    class Watched(Fixed):
        def take(self, rows, epoch=None):
            asked.append(rows)
            return super().take(rows)

    def ones(labels, epoch, generator):
        return torch.nonzero(labels == 1).flatten().repeat(2)

    watched = dataclasses.replace(data, inputs=Watched(data.inputs.features))
    answers = {"shape": Answer(sampler=ones)}
    own = settings(epochs=1)
    Trainer(heads, heads, lambda given, c: heads(given[0], c), watched, (TASK,), answers, own).fit()
    trained = torch.cat(asked[:-1])
    assert len(trained) == 32
    assert set(trained.tolist()) == set(range(1, 32, 2))


def test_a_last_row_never_stands_alone_in_a_batch():
    data, heads = toy(rows=41)
    data = dataclasses.replace(data, train=torch.arange(33))
    own = trainer(data, heads, settings(batch_size=8))
    assert [len(part) for part in own._batches(data.train)] == [8, 8, 8, 9]
    assert own.steps_per_epoch == 4


def test_covariates_are_held_less_than_the_many_features_beside_them():
    heads = TaskHeads([TASK], 100, covariates=2)
    with torch.no_grad():
        heads.heads[0].weight.fill_(1.0)
    # 2 classes x 100 features, and 2 x 2 covariates at 2 / 100 of the strength.
    assert float(heads.penalty(1.0).detach()) == pytest.approx(0.5 * (200 + 4 * 0.02))


def test_every_parameter_is_in_the_optimiser_and_heads_have_their_own_rate():
    model = zoo.load("timm/test_efficientnet", num_classes=2, weights="none", freeze="head")
    optimiser = build_optimiser(
        model, model.heads, Rates(head=0.1, backbone=0.01, weight_decay=0.05, head_l2=0.0, warmup=0.0)
    )
    held = sum(len(group["params"]) for group in optimiser.param_groups)
    assert held == len(list(model.parameters()))
    own = {id(p) for p in model.heads.parameters()}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == (0.1 if id(parameter) in own else 0.01)
            assert group["weight_decay"] == (0.05 if parameter.ndim > 1 and id(parameter) not in own else 0.0)


@pytest.fixture
def pictures(shapes, tmp_path):
    """64 decoded pictures for a small network with 16 more to validate on."""
    view = strip(build_view("timm/test_efficientnet", "none"))
    model = assemble(view, TASKS)
    paths, labels = shapes(80)
    images = ingest(paths, model.view.input, tmp_path / "images")
    targets = {"shape": Target(value=torch.tensor(labels), mask=torch.ones(80, dtype=torch.bool))}
    return model, images, targets


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_training_on_the_cache_is_bit_for_bit_training_without_it(pictures, tmp_path, fold, channels_last):
    model, images, targets = pictures
    prefix = Prefix(model.view, model.kind, Recipe(fold=fold, channels_last=channels_last), CPU)
    rows = np.arange(80)
    # Batches of 16 in both, because one row of a batch may round otherwise in a batch of another size.
    found = keep(prefix, images, rows, digest=weights_digest(model.backbone), cache=tmp_path, batch=16)
    weights = {}
    for name, inputs in {
        "cached": CachedFeatures(found.load(), torch.arange(80), CPU),
        "live": LiveFeatures(prefix, images),
    }.items():
        heads = TaskHeads([TASK], prefix.shape[-1])
        heads.standardise.fit(found.load()[:64])
        data = Data(inputs=inputs, covariates=None, targets=targets, train=torch.arange(64), val=torch.arange(64, 80))
        own = settings(batch_size=16, epochs=3)
        fit = trainer(data, heads, own).fit()
        weights[name] = (heads.state_dict(), [row["train_loss"] for row in fit.history])
    assert weights["cached"][1] == weights["live"][1]
    for name, value in weights["cached"][0].items():
        assert torch.equal(value, weights["live"][0][name]), name


def test_a_network_trains_through_pixels_and_its_frozen_part_stands_still(pictures):
    model, images, targets = pictures
    frozen = zoo.freeze(model, "last(1)")
    data = Data(
        inputs=Pixels(images, CPU, channels_last=True),
        covariates=None,
        targets=targets,
        train=torch.arange(64),
        val=torch.arange(64, 80),
    )
    before = copy.deepcopy(model.state_dict())
    own = settings(batch_size=16, epochs=2)
    Trainer(model, model.heads, lambda given, c: model.logits(given[0], c), data, TASKS, ANSWERS, own).fit()
    frozen.verify()
    assert all(not torch.equal(before[name], model.state_dict()[name]) for name in frozen.trainable)
