"""Several targets with holes: each teaches by the labels that it has, however rows come together."""

import pytest
import torch
import torch.nn.functional as F

from zoo.model.network import TaskHeads
from zoo.specs import Phase, Target, Task, Timeline
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.losses import total_loss
from zoo.training.optimiser import Rates
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer

TASKS = (Task(name="defect", classes=("ok", "crack")), Task(name="type", classes=("mono", "poly", "thin")))
ANSWERS = {task.name: Answer() for task in TASKS}


class Fixed(Inputs):
    def __init__(self, features):
        self.features, self.asked = features, []

    def take(self, rows, epoch=None):
        if epoch is not None:
            self.asked.append(rows)
        return (self.features[rows],)


def make_data(rows=48, seed=0):
    """Half of the rows lack the label of one target or of the other; what stands there is no class."""
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 5, generator=draws)
    targets = {}
    for place, task in enumerate(TASKS):
        value = torch.randint(0, task.outputs, (rows,), generator=draws)
        mask = torch.arange(rows) % 4 != place
        targets[task.name] = Target(value=torch.where(mask, value, -100), mask=mask)
    cut = 3 * rows // 4
    parts = {"train": torch.arange(cut), "val": torch.arange(cut, rows)}
    return Data(inputs=Fixed(features), covariates=None, targets=targets, **parts)


def trained(answers=ANSWERS, **fields):
    torch.manual_seed(0)
    data, heads = make_data(), TaskHeads(TASKS, 5)
    defaults = {
        "timeline": Timeline(phases=(Phase(name="head", start=0, stop=3, trainable=frozenset()),)),
        "rates": Rates(head=0.05, backbone=1e-3, weight_decay=0.05, head_l2=0.0, warmup=0.1),
        "batch_size": 12,
        "metric": None,
        "seed": 0,
        "autocast": None,
        "device": torch.device("cpu"),
    }
    own = Settings(**{**defaults, **fields})
    fit = Trainer(heads, heads, lambda given, _: heads(given[0]), data, TASKS, answers, own).fit()
    return heads, fit, data


def test_the_loss_is_the_sum_of_each_targets_mean_over_its_own_labels_and_holes_have_no_gradient():
    data = make_data(8)
    logits = {task.name: torch.randn(8, task.outputs, requires_grad=True) for task in TASKS}
    total_loss(logits, data.targets, TASKS, ANSWERS).backward()
    for task in TASKS:
        known, own = data.targets[task.name].mask, logits[task.name]
        expected = torch.autograd.grad(F.cross_entropy(own[known], data.targets[task.name].value[known]), own)[0]
        torch.testing.assert_close(own.grad, expected)
        assert float(own.grad[~known].abs().sum()) == 0.0


def test_a_target_without_any_label_in_a_batch_adds_nothing():
    data = make_data(8)
    blank = Target(value=torch.full((8,), -100), mask=torch.zeros(8, dtype=torch.bool))
    logits = {task.name: torch.randn(8, task.outputs, requires_grad=True) for task in TASKS}
    loss = total_loss(logits, {**data.targets, "type": blank}, TASKS, ANSWERS)
    loss.backward()
    alone = total_loss(logits, data.targets, TASKS[:1], ANSWERS)
    assert float(loss.detach()) == pytest.approx(float(alone.detach()))
    assert float(logits["type"].grad.abs().sum()) == 0.0


def test_accumulated_batches_count_the_labels_of_their_whole_step_for_each_target():
    heads, whole, _ = trained(batch_size=12)
    parts, many, _ = trained(batch_size=3, accumulate=4)
    for name, tensor in heads.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert [row["train_loss"] for row in many.history] == pytest.approx([row["train_loss"] for row in whole.history])


def test_the_mean_of_all_targets_chooses_the_epoch():
    _, fit, _ = trained()
    means = [(row["defect/log_loss"] + row["type/log_loss"]) / 2 for row in fit.history]
    assert [row["mean"] for row in fit.history] == pytest.approx(means)
    assert fit.best_value == pytest.approx(min(means))


def test_rows_that_a_sampler_cannot_draw_still_teach_the_other_target():
    def firsts(labels, epoch, generator):
        return torch.nonzero(labels == 1)[:, 0].repeat(2)

    answers = {**ANSWERS, "defect": Answer(sampler=firsts)}
    _, _, data = trained(answers, timeline=Timeline(phases=(Phase(name="h", start=0, stop=1, trainable=frozenset()),)))
    seen, target = torch.cat(data.inputs.asked), data.targets["defect"]
    blank = data.train[~target.mask[data.train]]
    assert sorted(seen[~target.mask[seen]].tolist()) == blank.tolist()
    assert set(target.value[seen[target.mask[seen]]].tolist()) == {1}
