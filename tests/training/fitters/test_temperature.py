"""One factor makes logits of scores: the one with the smallest log loss, and never an infinite one."""

import pytest
import torch

from zoo.specs import Target
from zoo.training.fitters.temperature import BOUNDS, fitted_scale, soft_classes
from zoo.training.losses import task_loss
from zoo.training.strategy import Answer


def drawn(factor, rows=20_000):
    """Scores, and labels drawn with probabilities softmax(factor * scores)."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(rows, 3, generator=generator)
    labels = torch.multinomial((factor * scores).softmax(1), 1, generator=generator).flatten()
    return scores, Target(value=labels, mask=torch.ones(rows, dtype=torch.bool))


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_the_factor_that_labels_were_drawn_with_is_found_again(factor):
    assert fitted_scale(*drawn(factor), Answer()) == pytest.approx(factor, rel=0.05)


def test_no_other_factor_has_a_smaller_loss_under_class_weights():
    scores, target = drawn(4.0, rows=500)
    answer = Answer(element_weights=(5.0, 1.0, 0.2))
    found = fitted_scale(scores, target, answer)
    smooth = Target(value=(500 * soft_classes(target, 3) + 1) / 503, mask=target.mask)
    losses = [float(task_loss(scores * found * change, smooth, answer)) for change in (0.95, 1.0, 1.05)]
    assert losses[1] == min(losses)


def test_scores_that_separate_the_rows_get_a_finite_factor():
    labels = torch.arange(40) % 2
    target = Target(value=labels, mask=torch.ones(40, dtype=torch.bool))
    factor = fitted_scale(torch.nn.functional.one_hot(labels, 2).float(), target, Answer())
    assert BOUNDS[0] < factor < 10
    # 40 rows and a pseudo row of each class: a row's own class has 41 parts of 42.
    assert torch.sigmoid(torch.tensor(factor)) == pytest.approx(41 / 42, abs=1e-3)


def test_rows_without_a_label_and_soft_classes_count_as_they_should():
    scores, target = drawn(4.0, rows=300)
    holes = torch.arange(300) % 3 == 0
    holed = Target(value=torch.where(holes, -100, target.value), mask=~holes)
    known = torch.nonzero(~holes).flatten()
    assert fitted_scale(scores, holed, Answer()) == pytest.approx(
        fitted_scale(scores[known], target.take(known), Answer()), rel=1e-3
    )
    soft = Target(value=soft_classes(target, 3), mask=target.mask)
    assert fitted_scale(scores, soft, Answer()) == fitted_scale(scores, target, Answer())
