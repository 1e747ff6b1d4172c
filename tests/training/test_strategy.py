import math

import pytest
import torch

from zoo.errors import OptionError, ZooError
from zoo.registry import plugins
from zoo.registry.lookup import STRATEGIES
from zoo.specs import ClassStatistics, Plan, StrategyRecord, Tail, Target, Task
from zoo.training.losses import task_loss, total_loss
from zoo.training.strategy import Answer, answer, program, programs

TASK = Task(name="defect", classes=("a", "b", "c", "d"))
ELPV = ClassStatistics(task=TASK, counts=(1508, 295, 106, 715))


def with_plan(monkeypatch, *plans):
    """Offer plans as strategies of a plugin, by their names."""
    records = tuple(StrategyRecord(name=plan.strategy, build=lambda s, p, plan=plan: plan) for plan in plans)
    extra = plugins.Plugin(
        name="extra", distribution="extra", version="1", records={"zoo_imbalance_strategies": records}
    )
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*plugins.load_plugins(), extra))


def logs(values):
    return tuple(math.log(value) for value in values)


def test_no_strategy_changes_nothing():
    for text in ("", "none"):
        assert answer(text, ELPV) == Answer()


def test_inverse_weights_correct_the_whole_imbalance_in_the_ledger():
    found = answer("class-weights", ELPV)
    assert found.corrected == pytest.approx(1.0)
    assert found.element_weights == pytest.approx([0.435, 2.224, 6.189, 0.917], abs=5e-4)
    assert found.logit_bias is None


def test_effective_number_corrects_as_much_as_measured_on_elpv():
    for beta, share in ((0.9, 0.0), (0.99, 0.15), (0.999, 0.78), (0.9999, 0.97)):
        found = answer(f"class-weights(method=effective-number, beta={beta})", ELPV)
        assert found.corrected == pytest.approx(share, abs=0.01)


def test_logit_adjustment_corrects_the_prior_that_training_left():
    alone = answer("logit-adjust", ELPV).logit_bias
    prior = [math.log(count / 2624) for count in ELPV.counts]
    differences = [bias + value for bias, value in zip(alone, prior, strict=True)]
    assert max(differences) - min(differences) < 1e-9  # -log prior, up to a constant
    half = answer("logit-adjust(tau=0.5)", ELPV).logit_bias
    assert half == pytest.approx([value / 2 for value in alone])


def test_after_full_correction_logit_adjustment_has_nothing_left_to_do():
    found = answer("class-weights+logit-adjust", ELPV)
    assert found.logit_bias == pytest.approx([0.0] * 4, abs=1e-9)


def test_counts_instead_of_inverse_counts_are_refused(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="counts", shift=logs(ELPV.counts)))
    with pytest.raises(ZooError, match=r"counts \(-1.00\) favours the frequent classes \(r = -1.00\); were counts"):
        answer("counts", ELPV)


def test_the_same_correction_twice_is_refused_with_the_figures(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="sampled", shift=logs(1 / count for count in ELPV.counts)))
    message = r"corrected 2.00 times over: sampled \(\+1.00\) and class-weights \(\+1.00\)"
    with pytest.raises(ZooError, match=message):
        answer("sampled+class-weights", ELPV)


def test_weights_on_the_loss_are_in_the_ledger_though_a_plan_declares_no_shift(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="rooted", element_weights=tuple(count**-0.5 for count in ELPV.counts)))
    assert answer("rooted", ELPV).corrected == pytest.approx(0.5)
    with pytest.raises(ZooError, match=r"corrected 1.50 times over"):
        answer("rooted+class-weights", ELPV)


def test_two_claims_on_one_slot_are_refused_by_name(monkeypatch):
    def criterion(logits, target):
        return logits[:, 0]

    with_plan(monkeypatch, *(Plan(strategy=name, criterion=criterion) for name in ("first", "second")))
    with pytest.raises(OptionError, match="first and second both bring a criterion"):
        answer("first+second", ELPV)


def test_two_corrections_of_the_logits_are_refused():
    with pytest.raises(ZooError, match="logit-adjust and logit-adjust each correct the logits"):
        answer("logit-adjust+logit-adjust", ELPV)


INVERSE = logs(1 / count for count in ELPV.counts)


def test_the_ledger_is_kept_for_each_interval(monkeypatch):
    late = Plan(strategy="late", shift=INVERSE, gate=(0.8, 1.0), criterion=print)
    with_plan(monkeypatch, late, Plan(strategy="early", shift=INVERSE, gate=(0.0, 0.5)))
    own = program("early+late+logit-adjust", ELPV)
    assert own.breaks(10) == (5, 8)
    assert [own.at(epoch, 10).corrected for epoch in (0, 5, 8)] == pytest.approx([1.0, 0.0, 1.0])
    assert own.at(5, 10).criterion is None
    assert own.at(8, 10).logit_bias == pytest.approx([0.0] * 4, abs=1e-9)
    with pytest.raises(ZooError, match=r"2.00 times over in epochs 9 to 10: class-weights \(\+1.00\) and late"):
        answer("class-weights+late", ELPV, epochs=10)


def test_in_the_tail_nothing_acts_but_what_appended_it(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="again", shift=INVERSE, tail=Tail(epochs=2)))
    own = program("class-weights+again", ELPV)
    assert own.at(0, 5).element_weights is not None
    assert own.at(5, 5).element_weights is None
    assert own.at(5, 5).corrected == pytest.approx(1.0)


def test_two_tails_are_refused(monkeypatch):
    with_plan(monkeypatch, *(Plan(strategy=name, tail=Tail(epochs=1)) for name in ("first", "second")))
    with pytest.raises(OptionError, match="first and second both append to the run"):
        program("first+second", ELPV)


def test_a_gate_that_holds_no_epoch_is_refused(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="late", gate=(0.8, 1.0)))
    with pytest.raises(OptionError, match="late acts from 80% to 100% of the run, and a run of 2 epochs has none"):
        answer("late", ELPV, epochs=2)


def test_soft_labels_before_a_loss_of_hard_ones_are_refused(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="mixing", mixer=print), Plan(strategy="hard", hard_labels=True))
    with pytest.raises(OptionError, match="mixing gives soft labels, and the loss of hard takes hard ones"):
        answer("mixing+hard", ELPV)


def test_what_is_left_of_the_prior_stands_beside_the_bias():
    found = answer("logit-adjust(tau=0.5)", ELPV)
    prior = torch.tensor(ELPV.log_prior) - torch.tensor(ELPV.log_prior).mean()
    assert found.log_prior == pytest.approx((0.5 * prior).tolist())


def test_a_strategy_is_refused_for_a_kind_of_task_that_it_does_not_take():
    multilabel = ClassStatistics(task=Task(name="tags", kind="multilabel", classes=("x", "y")), counts=(3, 4))
    with pytest.raises(OptionError, match="ldam takes classification targets; tags is multilabel"):
        answer("ldam", multilabel)


def test_a_shift_of_the_wrong_length_names_the_strategy(monkeypatch):
    with_plan(monkeypatch, Plan(strategy="short", shift=(0.0, 1.0)))
    with pytest.raises(ZooError, match="short declares a shift of 2 classes; there are 4"):
        answer("short", ELPV)


def test_an_unknown_strategy_is_pointed_at_with_close_names():
    with pytest.raises(OptionError, match=r"unknown imbalance strategy 'class-weight'.*did you mean class-weights"):
        answer("class-weight", ELPV)
    assert "class-weights" in STRATEGIES.names()


def test_options_are_bound_to_targets_by_name():
    kind = ClassStatistics(task=Task(name="type", classes=("mono", "poly")), counts=(1074, 1550))
    found = programs(["type=class-weights"], [ELPV, kind])
    assert found["defect"].at(0, 10) == Answer()
    assert found["type"].at(0, 10).strategies == ("class-weights",)
    assert programs(["class-weights(beta=0.9, method=effective-number)"], [ELPV, kind])["type"].plans == ()
    with pytest.raises(OptionError, match="no target 'kind'; the targets are defect, type"):
        programs(["kind=class-weights"], [ELPV, kind])
    with pytest.raises(OptionError, match="two options for target 'defect'"):
        programs(["class-weights", "defect=logit-adjust"], [ELPV, kind])


def hard(labels, mask=None, weight=None):
    value = torch.tensor(labels)
    known = torch.ones(len(labels), dtype=torch.bool) if mask is None else torch.tensor(mask)
    return Target(value=value, mask=known, weight=weight)


def test_a_batch_of_one_class_keeps_its_weight():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    plain = task_loss(logits, hard([2] * 5), Answer())
    weighted = task_loss(logits, hard([2] * 5), Answer(element_weights=(1.0, 1.0, 6.0, 1.0)))
    assert weighted == pytest.approx(6.0 * float(plain))
    # What torch's own mean does: it divides by the weights, which cancel.
    torchs = torch.nn.functional.cross_entropy(logits, torch.full((5,), 2), weight=torch.tensor([1.0, 1.0, 6.0, 1.0]))
    assert float(torchs) == pytest.approx(float(plain))


def test_labels_that_are_missing_are_masked_before_the_loss():
    """Masked after it, the gradient of a NaN is a NaN, whatever the mask says."""
    value, mask = torch.tensor([[1.0, torch.nan], [torch.nan, 0.0]]), torch.tensor([[True, False], [False, True]])
    logits = torch.zeros(2, 2, requires_grad=True)
    task_loss(logits, Target(value=value, mask=mask), Answer(), kind="multilabel").backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).tolist() == mask.tolist()
    again = torch.zeros(2, 2, requires_grad=True)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(again, value, reduction="none")
    torch.where(mask, losses, 0.0).sum().backward()
    assert torch.isnan(again.grad).any()


def test_rows_without_a_label_neither_count_nor_give_a_gradient():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = hard([0, 1, -1, 7], mask=[True, True, False, False])
    weighted = Answer(element_weights=(1.0, 2.0, 3.0, 4.0))
    loss = task_loss(logits, target, weighted)
    loss.backward()
    assert torch.equal(logits.grad[2:], torch.zeros(2, 4))
    known = task_loss(logits.detach()[:2], hard([0, 1]), weighted)
    assert float(loss.detach()) == pytest.approx(float(known))


def test_a_batch_without_any_label_has_loss_zero_and_finite_gradients():
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = task_loss(logits, hard([0, 0], mask=[False, False]), Answer())
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(logits.grad, torch.zeros(2, 4))


def test_soft_targets_and_row_weights_enter_the_loss():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    soft = torch.nn.functional.one_hot(torch.tensor([0, 1, 2]), 4).float()
    mask = torch.ones(3, dtype=torch.bool)
    same = task_loss(logits, Target(value=soft, mask=mask), Answer(element_weights=(1.0, 2.0, 3.0, 4.0)))
    assert same == pytest.approx(
        float(task_loss(logits, hard([0, 1, 2]), Answer(element_weights=(1.0, 2.0, 3.0, 4.0))))
    )
    doubled = task_loss(logits, hard([0, 1, 2], weight=torch.full((3,), 2.0)), Answer())
    assert doubled == pytest.approx(2 * float(task_loss(logits, hard([0, 1, 2]), Answer())))


def test_losses_of_several_tasks_add_up():
    other = Task(name="type", classes=("mono", "poly"))
    logits = {"defect": torch.zeros(2, 4), "type": torch.zeros(2, 2)}
    targets = {"defect": hard([0, 1]), "type": hard([0, 1])}
    total = total_loss(logits, targets, (TASK, other), {"defect": Answer(), "type": Answer()})
    assert float(total) == pytest.approx(math.log(4) + math.log(2))
