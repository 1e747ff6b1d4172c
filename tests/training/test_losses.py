"""The loss of each kind of task: a mean over what is known, without a gradient where nothing is."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.metrics.predictions import predictions_of
from zoo.specs import Target, Task
from zoo.training.losses import rank_losses, row_losses, task_loss, total_loss
from zoo.training.strategy import Answer

GRADE = Task(name="grade", kind="ordinal", classes=("a", "b", "c", "d"))


def holed(value, mask):
    return Target(value=value, mask=torch.tensor(mask))


def test_masked_before_the_loss_the_gradient_is_finite_where_after_it_would_be_none():
    logits = torch.randn(4, 2, requires_grad=True)
    value = torch.tensor([[1.0, 0.0], [torch.nan, 1.0], [0.0, torch.nan], [torch.nan, torch.nan]])
    target = Target(value=value, mask=~value.isnan())
    task_loss(logits, target, Answer(), kind="multilabel").backward()
    assert bool(logits.grad.isfinite().all())
    assert logits.grad[~target.mask].tolist() == [0.0] * 4
    after = logits.detach().clone().requires_grad_()
    losses = F.binary_cross_entropy_with_logits(after, value, reduction="none")
    torch.where(target.mask, losses, 0.0).sum().backward()
    assert bool(after.grad.isnan().any())


def test_labels_are_averaged_over_those_known_and_add_up_over_the_set():
    logits = torch.randn(5, 3)
    value = (torch.rand(5, 3) < 0.5).float()
    mask = torch.rand(5, 3) < 0.7
    found = task_loss(logits, Target(value=value, mask=mask), Answer(), kind="multilabel")
    wanted = 3 * F.binary_cross_entropy_with_logits(logits[mask], value[mask])
    assert float(found) == pytest.approx(float(wanted))
    weighed = Answer(element_weights=(1.0, 5.0, 2.0))
    every = Target(value=value, mask=torch.ones_like(mask))
    oracle = F.binary_cross_entropy_with_logits(logits, value, pos_weight=torch.tensor([1.0, 5.0, 2.0]))
    assert float(task_loss(logits, every, weighed, kind="multilabel")) == pytest.approx(3 * float(oracle))


def test_numbers_have_half_the_squared_error_and_holes_nothing():
    logits = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    target = holed(torch.tensor([[0.0], [torch.nan], [5.0]]), [True, False, True])
    loss = task_loss(logits, target, Answer(), kind="regression")
    loss.backward()
    assert float(loss.detach()) == pytest.approx((0.5 + 2.0) / 2)
    assert logits.grad.flatten().tolist() == [0.5, 0.0, -1.0]


def reference_corn(logits, labels, classes):
    """`coral_pytorch.losses.corn_loss` of Raschka's coral-pytorch 1.4 (MIT), with its sum and its count apart."""
    total, examples = 0.0, 0
    for step in range(classes - 1):
        inside = labels > step - 1
        passed = (labels[inside] > step).float()
        own = logits[inside, step]
        total += -torch.sum(F.logsigmoid(own) * passed + (F.logsigmoid(own) - own) * (1 - passed))
        examples += int(inside.sum())
    return total, examples


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_ranks_have_the_loss_of_the_reference_which_is_a_log_probability(seed):
    draws = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(12, 3, generator=draws) * 3, torch.randint(0, 4, (12,), generator=draws)
    losses = rank_losses(logits, labels)
    assert float(losses.sum()) == pytest.approx(float(reference_corn(logits, labels, 4)[0]), rel=1e-5)
    shares = predictions_of(GRADE, logits)[torch.arange(12), labels]
    assert torch.allclose(losses.double(), -shares.log(), atol=1e-5)


def test_each_task_has_the_loss_of_its_kind_and_absent_labels_add_nothing():
    tasks = (GRADE, Task(name="age", kind="regression"), Task(name="k", classes=("x", "y")))
    logits = {task.name: torch.randn(4, task.outputs) for task in tasks}
    blank = torch.zeros(4, dtype=torch.bool)
    targets = {
        "grade": Target(value=torch.tensor([0, 1, 2, 3]), mask=~blank),
        "age": Target(value=torch.full((4, 1), torch.nan), mask=blank),
        "k": Target(value=torch.full((4,), -100), mask=blank),
    }
    answers = {task.name: Answer() for task in tasks}
    assert float(total_loss(logits, targets, tasks, answers)) == pytest.approx(
        float(rank_losses(logits["grade"], targets["grade"].value).mean())
    )


def test_smoothing_takes_half_of_each_label_to_the_other_side():
    target = Target(value=torch.tensor([[1.0, 0.0]]), mask=torch.ones(1, 2, dtype=torch.bool))
    logits = torch.tensor([[0.3, -0.2]])
    found = row_losses("multilabel", logits, target, smoothing=0.2)
    assert torch.allclose(
        found, F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.9, 0.1]]), reduction="none")
    )
