"""Answers to class imbalance: in the loss, in the draws, among features, in stages, by ensembles, and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from zoo.hooks import hookimpl
from zoo.specs import ClassStatistics, Plan, StrategyRecord
from zoo_imbalance.afterwards import (
    PriorCorrect,
    TauNorm,
    Threshold,
    prior_correct_plan,
    tau_norm_plan,
    threshold_plan,
)
from zoo_imbalance.augmenting import MinorityAugment, minority_augment_plan
from zoo_imbalance.class_weights import ClassWeights, DeferredWeights, class_weights_plan, deferred_weights_plan
from zoo_imbalance.ensembles import (
    Bagging,
    EasyEnsemble,
    RusBoost,
    bagging_plan,
    balanced_bagging_plan,
    easy_ensemble_plan,
    rusboost_plan,
)
from zoo_imbalance.features import Oversample, oversample_plan
from zoo_imbalance.logit_adjust import LogitAdjust, logit_adjust_plan
from zoo_imbalance.losses import BalancedSoftmax, Focal, Ldam, balanced_softmax_plan, focal_plan, ldam_plan
from zoo_imbalance.mixing import BalancedMixup, Remix, balanced_mixup_plan, remix_plan
from zoo_imbalance.retraining import Mislas, Retrain, crt_plan, lws_plan, mislas_plan
from zoo_imbalance.samplers import (
    BalancedSampler,
    DeferredSampler,
    Undersample,
    balanced_sampler_plan,
    deferred_sampler_plan,
    undersample_plan,
)
from zoo_imbalance.synthetic import Synthetic, synthetic_plan

Build = Callable[[ClassStatistics, Any], Plan]

OFFERED: dict[str, tuple[Build, type, str]] = {
    "class-weights": (
        class_weights_plan,
        ClassWeights,
        "weigh each row's loss by its class: inverse frequency, a power of it, effective number (Cui 2019), your own",
    ),
    "drw": (deferred_weights_plan, DeferredWeights, "effective-number weights in the last part of the run (Cao 2019)"),
    "focal": (focal_plan, Focal, "rows that are sure already count less (Lin 2017)"),
    "ldam": (ldam_plan, Ldam, "larger margins for rarer classes, on a cosine head (Cao 2019)"),
    "balanced-softmax": (
        partial(balanced_softmax_plan, "balanced-softmax"),
        BalancedSoftmax,
        "add the log prior to the logits in training alone (Ren 2020)",
    ),
    "logit-adjust-loss": (
        partial(balanced_softmax_plan, "logit-adjust-loss"),
        BalancedSoftmax,
        "another name of balanced-softmax (Menon 2021)",
    ),
    "logit-adjust": (
        logit_adjust_plan,
        LogitAdjust,
        "subtract the log prior from the logits after training (Menon 2021); training stays as it is",
    ),
    "balanced-sampler": (balanced_sampler_plan, BalancedSampler, "draw classes alike, or by a power of their count"),
    "drs": (deferred_sampler_plan, DeferredSampler, "draw classes alike in the last part of the run (Cao 2019)"),
    "undersample": (undersample_plan, Undersample, "as many rows of each class as the rarest has, drawn each epoch"),
    "smote": (
        partial(oversample_plan, "smote"),
        Oversample,
        "rows between neighbours of a rare class, on frozen features (Chawla 2002)",
    ),
    "adasyn": (
        partial(oversample_plan, "adasyn"),
        Oversample,
        "as smote, more of them where other classes are near (He 2008)",
    ),
    "synthetic": (synthetic_plan, Synthetic, "rows that a generator of features draws, such as gaussian, vae or gan"),
    "remix": (remix_plan, Remix, "mixup whose labels lean towards the rarer class (Chou 2020)"),
    "balanced-mixup": (balanced_mixup_plan, BalancedMixup, "mixup with class-balanced partners (Galdran 2021)"),
    "minority-augment": (
        minority_augment_plan,
        MinorityAugment,
        "stronger augmentation of rare classes' images; alone it teaches that what changed is rare, so say --augment",
    ),
    "crt": (crt_plan, Retrain, "then a new head from class-balanced draws, the backbone frozen (Kang 2020)"),
    "lws": (lws_plan, Retrain, "then a factor for each class alone, from class-balanced draws (Kang 2020)"),
    "mislas": (mislas_plan, Mislas, "mixup, then balanced draws, labels smoothed by class, and factors (Zhong 2021)"),
    "tau-norm": (tau_norm_plan, TauNorm, "class weights of equal length after training (Kang 2020)"),
    "threshold": (threshold_plan, Threshold, "a threshold for each class, tuned on validation rows"),
    "prior-correct": (prior_correct_plan, PriorCorrect, "probabilities for a known class prior (Saerens 2002)"),
    "bagging": (bagging_plan, Bagging, "logistic regressions on bootstrap samples of features, averaged"),
    "balanced-bagging": (balanced_bagging_plan, Bagging, "as bagging, each sample balanced by undersampling"),
    "easy-ensemble": (easy_ensemble_plan, EasyEnsemble, "AdaBoost on balanced samples of features (Liu 2009)"),
    "rusboost": (rusboost_plan, RusBoost, "AdaBoost that undersamples in each round (Seiffert 2010)"),
}
"""By name: what builds the plan, its parameters, and a line about it."""

ALIASES = {"logit-adjust-loss": "balanced-softmax"}
"""Other names of a strategy."""

SEVERAL_LABELS = {"focal", "class-weights", "logit-adjust", "threshold"}
"""Strategies that take rows with several labels too."""

RANKS = {
    "class-weights",
    "drw",
    "balanced-sampler",
    "drs",
    "undersample",
    "smote",
    "adasyn",
    "synthetic",
    "minority-augment",
}
"""Strategies that take ranks too: those that act on rows by their class, whatever the loss is."""


@hookimpl
def zoo_imbalance_strategies() -> Iterable[StrategyRecord]:
    """The strategies of this plugin."""
    for name, (build, parameters, summary) in OFFERED.items():
        tasks = {"classification"}
        tasks |= {"multilabel"} if name in SEVERAL_LABELS else set()
        tasks |= {"ordinal"} if name in RANKS else set()
        yield StrategyRecord(
            name=name,
            build=build,
            parameters=parameters,
            summary=summary,
            tasks=frozenset(tasks),  # type: ignore[arg-type]
            alias_of=ALIASES.get(name, ""),
        )
