"""Answers to class imbalance: class weights while training, logit adjustment afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.hooks import hookimpl
from zoo.specs import StrategyRecord
from zoo_imbalance.class_weights import ClassWeights, class_weights_plan
from zoo_imbalance.logit_adjust import LogitAdjust, logit_adjust_plan


@hookimpl
def zoo_imbalance_strategies() -> Iterable[StrategyRecord]:
    """The strategies of this plugin."""
    yield StrategyRecord(
        name="class-weights",
        build=class_weights_plan,
        parameters=ClassWeights,
        summary="weigh each row's loss by its class: inverse frequency, effective number (Cui 2019), or your own",
    )
    yield StrategyRecord(
        name="logit-adjust",
        build=logit_adjust_plan,
        parameters=LogitAdjust,
        summary="subtract the log prior from the logits after training (Menon 2021); training stays as it is",
    )
