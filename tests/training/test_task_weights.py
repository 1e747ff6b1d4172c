"""How much each target counts: as given, or learned as Kendall, Gal and Cipolla have it."""

import math

import pytest
import torch

from zoo.errors import OptionError, ZooError
from zoo.model.network import TaskHeads
from zoo.specs import Phase, Target, Task, Timeline
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import WEIGHING, Rates, build_optimiser
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer
from zoo.training.task_weights import LIMIT, check_weights, describe, learned_weights, parse_weights

TASKS = (Task(name="sure", classes=("a", "b")), Task(name="noise", kind="regression"))


class Fixed(Inputs):
    def __init__(self, features):
        self.features = features

    def take(self, rows, epoch=None):
        return (self.features[rows],)


def made(learned=True, known=True, **fields):
    """A target that features tell, and one that is noise of variance 4; `known` says whether the second has labels."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(400, 4, generator=draws)
    targets = {
        "sure": Target(value=(features[:, 0] > 0).long(), mask=torch.ones(400, dtype=torch.bool)),
        "noise": Target(value=2 * torch.randn(400, 1, generator=draws), mask=torch.full((400,), known)),
    }
    data = Data(
        inputs=Fixed(features), covariates=None, targets=targets, train=torch.arange(320), val=torch.arange(320, 400)
    )
    heads = TaskHeads(TASKS, 4)
    heads.weigh_tasks(learned)
    defaults = {
        "timeline": Timeline(phases=(Phase(name="head", start=0, stop=30, trainable=frozenset()),)),
        "rates": Rates(head=0.02, backbone=1e-3, weight_decay=0.05, head_l2=0.01, warmup=0.0),
        "batch_size": 32,
        "metric": "sure:log_loss",
        "seed": 0,
        "autocast": None,
        "device": torch.device("cpu"),
    }
    answers = {task.name: Answer() for task in TASKS}
    own = Settings(**{**defaults, **fields})
    return Trainer(heads, heads, lambda given, _: heads(given[0]), data, TASKS, answers, own)


def test_learned_weights_settle_where_the_losses_say():
    trainer = made()
    fit = trainer.fit()
    # d/ds (exp(-s) L + s / 2) = 0 at exp(-s) = 1 / (2 L), and L is half the variance 4.
    assert learned_weights(trainer.heads)["noise"] == pytest.approx(1 / 4, rel=0.2)
    assert learned_weights(trainer.heads)["sure"] > 2
    assert fit.history[-1]["weight(noise)"] == pytest.approx(learned_weights(trainer.heads)["noise"], rel=0.1)
    assert fit.history[0]["val_loss"] > 0


def test_a_target_without_labels_leaves_its_weight_where_it_was():
    trainer = made(known=False)
    trainer.fit()
    assert learned_weights(trainer.heads)["noise"] == 1.0


def test_log_variances_stay_within_their_limit():
    trainer = made(rates=Rates(head=1.0, backbone=1e-3, weight_decay=0.0, head_l2=0.0, warmup=0.0))
    trainer.fit()
    assert float(trainer.heads.log_variances.detach().abs().max()) <= LIMIT


def test_accumulated_batches_learn_the_weights_of_one_large_batch():
    large, small = made(batch_size=64), made(batch_size=16, accumulate=4)
    large.fit()
    small.fit()
    torch.testing.assert_close(small.heads.log_variances, large.heads.log_variances, rtol=1e-3, atol=1e-4)


def test_given_weights_multiply_the_losses():
    rows = torch.arange(16)
    trainer = made(learned=False, task_weights={"noise": 3.0})
    batch = trainer._batch(rows, trainer.data.inputs.take(rows), None)
    plain = made(learned=False)
    both = float(plain._loss(batch, None).detach())
    noise = 0.5 * float(trainer.data.targets["noise"].value[rows].square().mean())
    weighed = float(trainer._loss(batch, None).detach())
    assert weighed - both == pytest.approx(2 * noise, rel=1e-4)
    assert trainer.validate()["val_loss"] > plain.validate()["val_loss"]


def test_learned_weights_are_one_group_of_the_optimiser_with_a_rate_that_moves_them():
    heads = TaskHeads(TASKS, 4)
    heads.weigh_tasks(True)
    groups = build_optimiser(
        heads, heads, Rates(head=1e-3, backbone=1e-4, weight_decay=0.1, head_l2=0, warmup=0)
    ).param_groups
    (own,) = [group for group in groups if any(each is heads.log_variances for each in group["params"])]
    assert own["scale"] * 1e-3 == pytest.approx(WEIGHING)
    assert own["weight_decay"] == 0.0
    assert sum(len(group["params"]) for group in groups) == len(list(heads.parameters()))
    heads.weigh_tasks(False)
    assert "log_variances" not in heads.state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["defect"], "expected TARGET=NUMBER, as in defect=2"),
        (["defect=much"], "expected TARGET=NUMBER"),
        (["defect=-1"], "a weight is a positive number, not -1"),
        (["defect=inf"], "a weight is a positive number, not inf"),
        (["defect=0"], "a weight is a positive number, not 0"),
        (["a=1", "a=2"], "target 'a' is given two weights; name one"),
    ],
)
def test_weights_that_are_none_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        parse_weights(options)


def test_weights_are_of_the_targets_that_there_are():
    assert parse_weights(["a=b=2.5"]) == {"a=b": 2.5}
    assert describe({"noise": math.pi}, TASKS) == "sure 1, noise 3.14"
    with pytest.raises(
        ZooError, match="--task-weight typ=2: no target 'typ'; the targets are type, x; did you mean type"
    ):
        check_weights({"typ": 2.0}, ["type", "x"], learned=False)
    with pytest.raises(
        ZooError, match="--task-weights learned divides attention among several targets, and this run has"
    ):
        check_weights({}, ["type"], learned=True)
