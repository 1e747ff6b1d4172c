"""Each method against its formula, its reference implementation, or a library that has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE
from sklearn.ensemble import AdaBoostClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef
from sklearn.tree import DecisionTreeClassifier
from torchvision.ops import sigmoid_focal_loss

from zoo.builtin._modules import EnsembleHead, TreesHead
from zoo.errors import OptionError, ZooError
from zoo.registry.lookup import STRATEGIES
from zoo.specs import ClassStatistics, Plan, Target, Task, bind, parse_options
from zoo.training.ledger import verify_shift
from zoo.training.strategy import answer
from zoo_imbalance import _afterwards, _ensembles, _features, _losses, _mixing
from zoo_imbalance.losses import margins
from zoo_imbalance.retraining import smoothing

ELPV = ClassStatistics(task=Task(name="defect", classes=("0", "1/3", "2/3", "1")), counts=(1508, 295, 106, 715))
seeds = st.integers(0, 2**31)


def statistics_of(counts, kind="classification"):
    classes = tuple(f"c{index}" for index in range(len(counts)))
    return ClassStatistics(task=Task(name="t", kind=kind, classes=classes), counts=tuple(counts))


def plan_of(text, statistics=ELPV) -> Plan:
    (call,) = parse_options(text)
    record = STRATEGIES.of_call(call)
    return record.build(statistics, bind(call, record.parameters))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hard(labels):
    value = torch.as_tensor(labels)
    return Target(value=value, mask=torch.ones(len(value), dtype=torch.bool))


def some(seed, rows=12, classes=4, scale=3.0):
    random = generator(seed)
    logits = scale * torch.randn((rows, classes), generator=random, dtype=torch.float64)
    return logits, hard(torch.randint(classes, (rows,), generator=random))


# losses


@given(seeds, st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_focal_of_two_classes_is_torchvisions_of_their_difference(seed, gamma):
    logits, target = some(seed, classes=2)
    found = plan_of(f"focal(gamma={gamma})", statistics_of((3, 4))).criterion(logits, target)
    oracle = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], target.value.double(), alpha=-1, gamma=gamma)
    assert torch.allclose(found, oracle)


@given(seeds)
def test_focal_of_several_labels_is_torchvisions_over_those_known(seed):
    logits, _ = some(seed)
    random = generator(seed + 1)
    value, mask = (torch.rand(logits.shape, generator=random) < 0.5 for _ in range(2))
    target = Target(value=torch.where(mask, value.double(), torch.nan), mask=mask)
    found = plan_of("focal", statistics_of((3, 4, 5, 6), "multilabel")).criterion(logits, target)
    oracle = sigmoid_focal_loss(logits, value.double(), alpha=-1, gamma=2.0)
    assert torch.allclose(found[mask], oracle[mask])


def test_focal_takes_the_probability_of_the_unweighted_cross_entropy():
    logits, target = some(3)
    p = logits.softmax(dim=1)[torch.arange(len(target)), target.value]
    assert torch.allclose(plan_of("focal").criterion(logits, target), -((1 - p) ** 2) * p.log())


def test_ldams_margins_are_those_of_the_reference_implementation():
    raw = 1 / np.sqrt(np.sqrt(np.array(ELPV.counts)))
    assert margins(ELPV.counts, 0.5) == pytest.approx((raw * (0.5 / raw.max())).tolist())


@given(seeds)
def test_ldam_is_the_scaled_cross_entropy_with_margins(seed):
    logits, target = some(seed)
    cosines = torch.tanh(logits)
    moved = cosines - F.one_hot(target.value, 4) * torch.tensor(margins(ELPV.counts, 0.5))
    plan = plan_of("ldam")
    assert torch.allclose(
        plan.criterion(30 * cosines, target), F.cross_entropy(30 * moved, target.value, reduction="none"), rtol=1e-5
    )
    assert str(plan.head) == "cosine(scale=30.0, learn-scale=false)"


@given(seeds)
def test_balanced_softmax_is_that_of_counts_and_the_logit_adjusted_loss(seed):
    logits, target = some(seed)
    oracle = F.cross_entropy(logits + torch.tensor(ELPV.counts).log(), target.value, reduction="none")
    for name in ("balanced-softmax", "logit-adjust-loss"):
        assert torch.allclose(plan_of(name).criterion(logits, target), oracle, rtol=1e-5)


def test_balanced_softmax_leaves_logit_adjustment_nothing_to_do():
    assert answer("balanced-softmax+logit-adjust", ELPV).logit_bias == pytest.approx([0.0] * 4, abs=1e-9)
    with pytest.raises(ZooError, match=r"2.00 times over: balanced-softmax \(\+1.00\) and class-weights \(\+1.00\)"):
        answer("balanced-softmax+class-weights", ELPV)


@given(seeds)
def test_posthoc_adjustment_divides_probabilities_by_the_prior(seed):
    logits, _ = some(seed)
    prior = torch.tensor(ELPV.counts).double() / sum(ELPV.counts)
    adjusted = (logits + torch.tensor(answer("logit-adjust", ELPV).logit_bias).double()).softmax(dim=1)
    corrected = logits.softmax(dim=1) / prior
    assert torch.allclose(adjusted, corrected / corrected.sum(dim=1, keepdim=True), rtol=1e-6)


def test_label_aware_smoothing_is_the_cross_entropy_where_it_is_none():
    logits, target = some(0)
    plain = F.cross_entropy(logits, target.value, reduction="none")
    assert torch.allclose(_losses.label_aware((0.0,) * 4, logits, target), plain)
    logs = logits.log_softmax(dim=1)
    own = logs[torch.arange(12), target.value]
    expected = -(0.7 * own + 0.1 * (logs.sum(dim=1) - own))
    assert torch.allclose(_losses.label_aware((0.3,) * 4, logits, target), expected)


def test_label_aware_smoothing_goes_from_the_rarest_to_the_most_frequent():
    found = smoothing(ELPV.counts, 0.3, 0.05)
    assert (found[2], found[0]) == pytest.approx((0.05, 0.3))
    assert smoothing((5, 5, 5), 0.3, 0.05) == (0.05,) * 3  # the reference divides nought by nought


# weights and draws


def test_powers_lie_between_none_and_inverse_frequency():
    for gamma in (0.0, 0.25, 0.5, 1.0):
        assert answer(f"class-weights(method=power, gamma={gamma})", ELPV).corrected == pytest.approx(gamma)
    assert plan_of("class-weights(method=sqrt)") == plan_of("class-weights(method=power)")


def test_the_published_comparisons_inverted_weights_are_caught():
    text = 'class-weights(weights={"0": 1508, "1/3": 295, "2/3": 106, "1": 715})'
    with pytest.raises(ZooError, match=r"class-weights \(-1.00\) favours the frequent classes \(r = -1.00\)"):
        answer(text, ELPV)


def test_the_double_correction_that_was_measured_is_refused():
    with pytest.raises(ZooError, match=r"2.00 times over: balanced-sampler \(\+1.00\) and class-weights \(\+1.00\)"):
        answer("balanced-sampler+class-weights", ELPV)
    assert answer("balanced-sampler(q=0.5)+class-weights(method=sqrt)", ELPV).corrected == pytest.approx(1.0)
    assert answer("balanced-sampler+logit-adjust", ELPV).logit_bias == pytest.approx([0.0] * 4, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.sampled_from([0.0, 0.5]), seeds)
def test_samplers_keep_to_the_shift_that_they_declare(counts, q, seed):
    statistics = statistics_of(counts)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = torch.cat([labels, torch.full((3,), -1)])
    for text in (f"balanced-sampler(q={q})", "drs", "undersample", "undersample(ratio=0.3)"):
        plan = plan_of(text, statistics)
        drawn = labels[plan.sampler(labels, 0, generator(seed))]
        assert bool((drawn >= 0).all())
        verify_shift(text, plan.shift, labels, drawn, len(counts))


def test_undersampling_draws_other_rows_each_epoch_unless_told_not_to():
    labels = torch.tensor([0] * 50 + [1] * 5)
    for redraw, same in (("true", False), ("false", True)):
        sampler = plan_of(f"undersample(redraw={redraw})", statistics_of((50, 5))).sampler
        first, second = (sampler(labels, epoch, generator(epoch)).sort().values for epoch in (0, 1))
        assert len(first) == 10
        assert torch.equal(first, second) == same


def test_progressive_sampling_begins_with_rows_as_they_come():
    labels = torch.tensor([0] * 9000 + [1] * 1000)
    sampler = plan_of("balanced-sampler(progressive=4)", statistics_of((9000, 1000))).sampler
    shares = [float((labels[sampler(labels, epoch, generator(epoch))] == 1).double().mean()) for epoch in (0, 2, 4, 9)]
    assert shares == pytest.approx([0.1, 0.3, 0.5, 0.5], abs=0.03)
    plan = plan_of("balanced-sampler(progressive=9)", statistics_of((9000, 1000)))
    with pytest.raises(ZooError, match="a run of 3 epochs declares another shift of the class prior"):
        verify_shift("a run of 3 epochs", plan.shift, labels, labels[plan.sampler(labels, 2, generator())], 2)


def test_a_sampler_that_draws_otherwise_than_declared_is_refused():
    labels = torch.tensor([0] * 900 + [1] * 100)
    with pytest.raises(ZooError, match="mine declares no shift of the class prior: of 1000 rows of an epoch 100 would"):
        verify_shift("mine", None, labels, torch.tensor([0] * 500 + [1] * 500), 2)
    with pytest.raises(ZooError, match="mine declares another shift"):
        verify_shift("mine", (0.0, math.log(9)), labels, labels, 2)


# features

GOLDEN = np.array(
    [
        [0.11622591, -0.0317206], [0.77481731, 0.60935141], [1.25192108, -0.22367336], [0.53366841, -0.30312976],
        [1.52091956, -0.49283504], [-0.28162401, -2.10400981], [0.83680821, 1.72827342], [0.3084254, 0.33299982],
        [0.70472253, -0.73309052], [0.28893132, -0.38761769], [1.15514042, 0.0129463], [0.88407872, 0.35454207],
        [1.31301027, -0.92648734], [-1.11515198, -0.93689695], [-0.18410027, -0.45194484], [0.9281014, 0.53085498],
        [-0.14374509, 0.27370049], [-0.41635887, -0.38299653], [0.08711622, 0.93259929], [1.70580611, -0.11219234],
    ]
)  # fmt: skip
LABELS = np.array([0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0])


def test_smote_makes_the_rows_of_imbalanced_learns_own_test():
    made, labels = SMOTE(random_state=0).fit_resample(GOLDEN, LABELS)
    new = [[0.29307743, -0.14670439], [0.84976473, -0.15570176], [0.61319159, -0.11571668], [0.66052536, -0.28246517]]
    assert np.allclose(np.asarray(made)[20:24], new, rtol=1e-4)
    random = generator(5)
    seed = _features.seed_of(generator(5))
    found, target = _features.oversampled(
        "smote", 5, (12, 12), torch.from_numpy(GOLDEN), hard(torch.from_numpy(LABELS)), random
    )
    oracle, own = SMOTE(random_state=seed).fit_resample(GOLDEN, LABELS)
    assert torch.allclose(found, torch.from_numpy(np.asarray(oracle)).float(), atol=1e-6)
    assert target.value.tolist() == own.tolist() == [*LABELS.tolist(), 0, 0, 0, 0]
    assert len(labels) == 24


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from(["smote", "adasyn"]))
def test_oversampling_keeps_every_row_and_fills_the_rare_classes(seed, kind):
    random = generator(seed)
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 8)
    features = torch.randn((88, 5), generator=random)
    plan = plan_of(kind, statistics_of((60, 20, 8)))
    found, target = plan.resamplers[0](features, hard(labels), random)
    assert torch.equal(found[:88], features)
    verify_shift(kind, plan.shift, labels, target.value, 3)


def test_made_rows_have_whole_categories_and_their_classes_weight():
    labels = torch.tensor([0] * 40 + [1] * 10)
    hot = F.one_hot(torch.arange(50) % 3, 3).float()
    features = torch.cat([torch.randn((50, 4), generator=generator()), hot], dim=1)
    target = Target(value=labels, mask=torch.ones(50, dtype=torch.bool), weight=torch.tensor([1.0] * 40 + [3.0] * 10))
    found, own = _features.oversampled("smote", 5, (40, 40), features, target, generator(), [(4, 7)])
    assert torch.allclose(found[:50], features)
    assert set(found[:, 4:].sum(dim=1).tolist()) == {1.0}
    assert set(found[:, 4:].unique().tolist()) == {0.0, 1.0}
    assert own.weight[50:].tolist() == [3.0] * 30
    marked = torch.cat([features, (torch.arange(50) % 4 == 0).float()[:, None]], dim=1)
    found, _ = _features.oversampled("smote", 5, (40, 40), marked, target, generator(), [(4, 7), (7, 8)])
    assert torch.equal(found[:50, 7], marked[:, 7])
    assert set(found[:, 7].unique().tolist()) == {0.0, 1.0}  # what marks a hole is never half a mark
    with pytest.raises(ZooError, match="adasyn cannot make rows of covariates that are categories"):
        _features.oversampled("adasyn", 5, (40, 40), features, target, generator(), [(4, 7)])


def test_a_class_without_enough_neighbours_is_refused_by_name():
    with pytest.raises(OptionError, match="class c1 has 4 training rows, and k=5 neighbours need 6; say k=3"):
        answer("smote", statistics_of((50, 4)))
    with pytest.raises(OptionError, match="one row has no neighbour: join the class to another"):
        answer("smote", statistics_of((50, 1)))


def test_adasyn_says_when_no_foreign_row_is_near():
    features = torch.cat([torch.randn((40, 2), generator=generator()), 1e3 + torch.randn((10, 2))])
    with pytest.raises(ZooError, match="adasyn cannot make rows of these features: Not any neigbours"):
        _features.oversampled("adasyn", 5, (40, 40), features, hard([0] * 40 + [1] * 10), generator())


# mixing


@given(st.floats(0, 1), st.integers(1, 1000), st.integers(1, 1000))
def test_remix_gives_the_label_to_the_rarer_class_as_the_paper_says(share, own, other):
    found = float(_mixing.label_shares(torch.tensor([share]), torch.tensor([own]), torch.tensor([other]), 3.0, 0.5)[0])
    near = float(torch.tensor(share))
    if own / other >= 3 and near < 0.5:
        assert found == 0.0
    elif own / other <= 1 / 3 and 1 - near < 0.5:
        assert found == 1.0
    else:
        assert found == near


@pytest.mark.parametrize("text", ["remix", "balanced-mixup"])
def test_mixed_inputs_lie_between_rows_and_labels_between_classes(text):
    plan = plan_of(text)
    labels = torch.arange(40) % 4
    (found,), target = plan.mixer((labels[:, None].float(),), hard(labels), generator(1))
    assert torch.equal(target.value.sum(dim=1), torch.ones(40)) or torch.allclose(
        target.value.sum(dim=1), torch.ones(40)
    )
    assert 0 <= float(found.min()) <= float(found.max()) <= 3


def test_losses_of_hard_labels_refuse_mixers():
    with pytest.raises(OptionError, match="remix gives soft labels, and the loss of ldam takes hard ones"):
        answer("ldam+remix", ELPV)


# afterwards


@given(seeds, st.sampled_from(["balanced_accuracy", "macro_f1", "accuracy", "mcc"]))
def test_scores_are_those_of_scikit_learn(seed, metric):
    logits, target = some(seed, rows=40, scale=1.0)
    labels, predicted = target.value.numpy(), logits.argmax(dim=1).numpy()
    oracle = {
        "balanced_accuracy": lambda: balanced_accuracy_score(labels, predicted),
        "macro_f1": lambda: f1_score(labels, predicted, average="macro", labels=range(4), zero_division=0),
        "accuracy": lambda: (labels == predicted).mean(),
        "mcc": lambda: matthews_corrcoef(labels, predicted),
    }[metric]
    if metric == "balanced_accuracy" and len(set(labels)) < 4:
        return
    assert _afterwards.score(metric, logits, target.value) == pytest.approx(float(oracle()))


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(["balanced_accuracy", "macro_f1", "mcc"]))
def test_thresholds_never_lower_the_metric_that_they_are_tuned_for(seed, metric):
    logits, target = some(seed, rows=60, scale=1.0)
    bias = torch.tensor(plan_of(f"threshold(metric={metric})").tuned_bias(logits, target)).double()
    before, after = (_afterwards.score(metric, each, target.value) for each in (logits, logits + bias))
    assert after >= before - 1e-9


def test_thresholds_find_the_best_split_of_two_classes():
    scores = torch.tensor([-2.0, -1.0, -0.5, -0.4, 0.5, 2.0]).double()
    target = hard([0, 0, 0, 1, 1, 1])
    logits = torch.stack([torch.zeros(6).double(), scores - 5], dim=1)
    bias = torch.tensor(plan_of("threshold", statistics_of((3, 3))).tuned_bias(logits, target)).double()
    assert (logits + bias).argmax(dim=1).tolist() == target.value.tolist()


def test_tau_normalisation_divides_by_lengths_and_drops_the_bias():
    weight, bias = torch.tensor([[3.0, 4.0], [0.6, 0.8]]), torch.tensor([1.0, -1.0])
    edit = plan_of("tau-norm(tau=1)", statistics_of((9, 3))).head_edit
    found, none = edit(weight, bias, lambda w, b: w, hard([0, 1]))
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [0.6, 0.8]]))
    assert none.tolist() == [0.0, 0.0]


def test_tau_is_tuned_on_the_rows_given():
    rows = torch.tensor([[1.0, 0.9], [0.9, 1.0], [1.0, 0.8]])
    weight = torch.tensor([[10.0, 0.0], [0.0, 1.0]])
    edit = plan_of("tau-norm", statistics_of((9, 3))).head_edit
    found, none = edit(weight, torch.zeros(2), lambda w, b: rows @ w.T + b, hard([0, 1, 0]))
    assert (rows @ found.T + none).argmax(dim=1).tolist() == [0, 1, 0]


def test_a_known_prior_takes_the_place_of_the_training_rows():
    text = 'prior-correct(prior={"0": 0.5, "1/3": 0.2, "2/3": 0.1, "1": 0.2})'
    found = answer(text, ELPV)
    shares = torch.tensor(found.log_prior).softmax(dim=0)
    assert shares.tolist() == pytest.approx([0.5, 0.2, 0.1, 0.2])
    rest = torch.tensor(answer('prior-correct(prior={"2/3": 0.5})', ELPV).log_prior).softmax(dim=0)
    assert rest.tolist() == pytest.approx([0.5 * count / 2518 if count != 106 else 0.5 for count in ELPV.counts])
    with pytest.raises(OptionError, match="'a' is no class; classes of defect: 0, 1/3, 2/3, 1"):
        answer("prior-correct(prior={a: 0.5})", ELPV)
    with pytest.raises(OptionError, match=r"the shares given add up to 1\.1 and leave nothing to the other classes"):
        answer('prior-correct(prior={"0": 0.6, "1": 0.5})', ELPV)
    with pytest.raises(ZooError, match="logit-adjust and prior-correct each correct the logits"):
        answer(f"logit-adjust+{text}", ELPV)


# ensembles


def made(seed=0, counts=(60, 20, 12)):
    random = generator(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.randn((len(labels), 6), generator=random) + 2 * F.one_hot(labels, 6), hard(labels)


@pytest.mark.parametrize(("classes", "depth"), [(2, 1), (3, 1), (3, 3)])
def test_trees_give_the_probabilities_of_scikit_learns_adaboost(classes, depth):
    features, target = made(counts=(40, 20, 12)[:classes])
    rows, labels = features.numpy(), target.value.numpy()
    boosted = AdaBoostClassifier(DecisionTreeClassifier(max_depth=depth), n_estimators=12, random_state=0)
    boosted.fit(rows, labels)
    head = TreesHead(6, classes, members=1, rounds=12, depth=depth)
    head.load_state_dict(_ensembles._trees([boosted], classes, 12, depth))
    assert np.allclose(head(features).softmax(dim=1).detach(), boosted.predict_proba(rows), atol=1e-5)


def test_ensembles_average_the_probabilities_of_their_members():
    features, target = made()
    fitted = [_ensembles._regression(None, 6).fit(features.numpy()[i::2], target.value.numpy()[i::2]) for i in (0, 1)]
    head = EnsembleHead(6, 3, members=2)
    head.load_state_dict(_ensembles._linear(fitted, 3, 6))
    oracle = np.mean([each.predict_proba(features.numpy()) for each in fitted], axis=0)
    assert np.allclose(head(features).softmax(dim=1).detach(), oracle, atol=1e-5)


@pytest.mark.parametrize(
    "text", ["bagging", "balanced-bagging", "easy-ensemble(members=3, rounds=5)", "rusboost(rounds=8)"]
)
def test_ensembles_learn(text):
    features, target = made()
    plan = plan_of(text, statistics_of((60, 20, 12)))
    state = plan.head_fitter(features, target, torch.ones(len(target)), generator())
    values = {argument.name: argument.value for argument in plan.head.arguments}
    head = {"ensemble": EnsembleHead, "trees": TreesHead}[plan.head.name](6, 3, **values)
    head.load_state_dict(state)
    assert balanced_accuracy_score(target.value, head(features).argmax(dim=1)) > 0.7


@pytest.mark.parametrize("text", ["balanced-bagging", "easy-ensemble", "rusboost"])
def test_what_draws_its_own_rows_refuses_their_weights(text):
    features, target = made()
    plan = plan_of(text, statistics_of((60, 20, 12)))
    with pytest.raises(ZooError, match="draws its own rows and takes no weights"):
        plan.head_fitter(features, target, torch.linspace(1, 2, len(target)), generator())


def test_rare_classes_get_the_augmentation_and_others_none():
    plan = plan_of('minority-augment(preset="light(rotate=45)")')
    assert plan.class_transforms == {1: "light(rotate=45)", 2: "light(rotate=45)", 3: "light(rotate=45)"}
    plan = plan_of('minority-augment(preset="light(rotate=45)", others=light)')
    assert plan.class_transforms == {0: "light", **dict.fromkeys((1, 2, 3), "light(rotate=45)")}
    with pytest.raises(ValueError, match="others: unknown augmentation 'heavy'"):
        plan_of("minority-augment(others=heavy)")
    with pytest.raises(ValueError, match="preset: unknown augmentation 'heavy'"):
        plan_of("minority-augment(preset=heavy)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("focal(gamma=0.5)", "gamma must be 0 or lie in"),
        ("ldam(max-margin=0)", "max_margin must lie in"),
        ("ldam(scale=0)", "scale must be positive"),
        ("balanced-softmax(tau=2)", "tau must lie in"),
        ("drw(start=1)", "start is a part of the run"),
        ("drw(beta=1)", "beta must lie in"),
        ("drs(start=-1)", "start is a part of the run"),
        ("balanced-sampler(q=1)", "q must lie in"),
        ("balanced-sampler(progressive=0)", "progressive is a number of epochs"),
        ("undersample(ratio=0)", "ratio must lie in"),
        ("smote(k=0)", "k must be at least 1"),
        ("smote(ratio=2)", "ratio must lie in"),
        ("remix(alpha=0)", "alpha must be positive"),
        ("remix(kappa=1)", "kappa must be more than 1"),
        ("remix(tau=2)", "tau must lie in"),
        ("balanced-mixup(alpha=0)", "alpha must be positive"),
        ("minority-augment(share=1)", "share must lie in"),
        ("crt(epochs=0)", "epochs must be at least 1"),
        ("mislas(epochs=0)", "epochs must be at least 1"),
        ("mislas(alpha=-1)", "alpha must be at least 0"),
        ("mislas(head=0.1, tail=0.2)", "0 <= tail <= head < 1"),
        ("mislas(rate=0)", "rate must be positive"),
        ("tau-norm(tau=3)", "tau must lie in"),
        ("prior-correct(prior={a: 0})", "the share of 'a' must lie in"),
        ("bagging(members=0)", "members must be at least 1"),
        ("bagging(c=0)", "c must be positive"),
        ("easy-ensemble(rounds=0)", "rounds must be at least 1"),
        ("rusboost(rate=0)", "rate must lie in"),
        ("rusboost(depth=9)", "depth must be at most 8"),
        ("class-weights(gamma=0.5)", "gamma belongs to method=power"),
        ("class-weights(method=power, gamma=2)", "gamma must lie in"),
        ("crt(epoch=3)", "crt has no parameter 'epoch'; it takes epochs; did you mean epochs"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(text, message):
    with pytest.raises(OptionError, match=message):
        plan_of(text)


@pytest.mark.parametrize("name", [record.name for plugin, record in STRATEGIES.items() if plugin.name == "imbalance"])
def test_each_strategy_takes_the_tasks_that_it_declares_and_refuses_others_in_words(name):
    record = STRATEGIES.get(name)
    assert "classification" in record.tasks
    # The others weigh, draw or mix rows by their one class.
    assert ("multilabel" in record.tasks) == (name in {"focal", "class-weights", "logit-adjust", "threshold"})
    several = statistics_of((30, 40), "multilabel")
    if "multilabel" in record.tasks:
        found = answer(name, several)
        assert found.criterion or found.element_weights or found.logit_bias or found.tuned_bias
    else:
        with pytest.raises(OptionError, match=f"{name} takes classification (or ordinal )?targets; t is multilabel"):
            answer(name, several)
    ranks = ClassStatistics(task=Task(name="t", kind="ordinal", classes=("1", "2")), counts=(30, 40))
    assert answer("class-weights", ranks).element_weights == pytest.approx((70 / 60, 70 / 80))
    for name in ("focal", "logit-adjust", "balanced-softmax", "crt"):
        with pytest.raises(OptionError, match=f"{name} takes classification (or multilabel )?targets; t is ordinal"):
            answer(name, ranks)


def several(*counts, known):
    task = Task(name="t", kind="multilabel", classes=tuple(f"c{index}" for index in range(len(counts))))
    return ClassStatistics(task=task, counts=counts, known=known)


def test_weights_of_labels_are_the_ratio_of_rows_without_to_rows_with_and_count_as_the_whole_correction():
    statistics = several(20, 5, known=(100, 50))
    found = answer("class-weights", statistics)
    assert found.element_weights == pytest.approx((4.0, 9.0))
    assert found.corrected == pytest.approx(1.0)
    assert answer("class-weights(method=sqrt)", statistics).corrected == pytest.approx(0.5)
    near = answer("class-weights(method=effective-number, beta=0.999999)", statistics).element_weights
    assert near == pytest.approx((4.0, 9.0), rel=1e-3)
    assert answer("class-weights(method=effective-number, beta=0.0)", statistics).element_weights == (1.0, 1.0)
    with pytest.raises(ZooError, match="favours the frequent classes"):
        answer("class-weights(weights={c0: 0.25, c1: 0.1})", statistics)


def test_the_log_odds_of_labels_are_taken_off_once():
    statistics = several(20, 5, known=(100, 50))
    found = answer("logit-adjust", statistics).logit_bias
    assert found == pytest.approx((math.log(4.0), math.log(9.0)))
    assert answer("class-weights+logit-adjust", statistics).logit_bias == pytest.approx((0.0, 0.0), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_each_label_gets_the_threshold_of_the_best_f1_over_what_is_known(seed):
    random = generator(seed)
    logits = torch.randn(30, 3, generator=random)
    mask = torch.rand(30, 3, generator=random) < 0.8
    value = (torch.rand(30, 3, generator=random) < 0.3).float()
    tune = plan_of("threshold", several(9, 9, 9, known=(24, 24, 24))).tuned_bias
    moved = logits + torch.tensor(tune(logits, Target(value=value, mask=mask)))
    for label in range(3):
        own, there = logits[mask[:, label], label].double(), value[mask[:, label], label] > 0.5
        best = max(
            (f1_score(there, own > edge, zero_division=0.0) for edge in [*own.tolist(), float(own.min()) - 1]),
            default=0,
        )
        assert f1_score(there, moved[mask[:, label], label] > 0, zero_division=0.0) == pytest.approx(best)
