"""`--imbalance auto`: the strategy that does best in cross-validation on the training rows, if one beats none at all.

The one is taken whose gain over plain training is surest: the lower end of its interval is the highest.

Each candidate is trained on all folds but one as the run would train its head, chooses its epoch and its thresholds on
the run's validation rows as the run would, and is scored on the fold that had no part. Validation rows alone would
decide by chance: of the rarest class they often hold a dozen.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from zoo.config import TrainConfig
from zoo.errors import OptionError, ZooError
from zoo.features.choose import Decision
from zoo.jobs.job import Job
from zoo.jobs.options import AUTO
from zoo.jobs.strategies import option_for, with_strategies
from zoo.jobs.trials import Trials
from zoo.metrics.choice import LOWER_IS_BETTER
from zoo.metrics.paired import Paired, paired
from zoo.report.scores import words
from zoo.specs import Task
from zoo.training.strategy import bound_target

PLAIN = "none"

CANDIDATES = (
    "class-weights(method=sqrt)",
    "class-weights",
    "balanced-softmax",
    "balanced-sampler",
    "smote",
    "logit-adjust(tau=0.5)",
    "logit-adjust(tau=0.75)",
    "logit-adjust",
)
"""What is tried beside training without any strategy; and thresholds, where they can be tuned for the metric."""

TUNED = frozenset({"balanced_accuracy", "macro_f1", "accuracy", "mcc"})
"""Metrics that thresholds can be tuned for."""

INSTEAD = "balanced_accuracy"
"""Chooses where --metric names the log loss or the calibration error, by which plain training is the best there is."""


def asks(config: TrainConfig) -> bool:
    """Whether a choice is left to us."""
    return any(_leaves(option) for option in config.imbalance)


def named(config: TrainConfig) -> tuple[str, ...]:
    """The options that name a strategy."""
    return tuple(option for option in config.imbalance if not _leaves(option))


def _leaves(option: str) -> bool:
    return bound_target(option)[1].strip() == AUTO


def settled(job: Job, before: Sequence[Mapping[str, Any]] = ()) -> Job:
    """The job with a strategy for each target that leaves the choice to us.

    Args:
        job: with the strategies that the options name.
        before: what was chosen before the run was interrupted; nothing is tried again then.

    Raises:
        DataError: a class has too few training rows, or groups are too large, to be cross-validated.
        OptionError: a target that there is not, one that is named twice, or one that is not of one class a row.
    """
    chosen = list(before)
    for option in job.config.imbalance if not before else ():
        if _leaves(option):
            target = bound_target(option)[0] or job.data.tasks[0].name
            others = (*named(job.config), *_options(job, chosen))
            # Refused before anything is computed where it cannot be, as for a target that there is not.
            with_strategies(job, (*others, option_for(job, target, PLAIN)))
            _refuse_other_kinds(next(task for task in job.data.tasks if task.name == target))
            chosen.append(job.group.once(partial(_choice, job, target, others)))
    found = with_strategies(job, (*named(job.config), *_options(job, chosen)))
    return replace(found, chosen=tuple(chosen), found=(*job.found, *map(_decision, chosen)))


def _refuse_other_kinds(task: Task) -> None:
    if task.kind != "classification":
        raise OptionError(
            f"--imbalance auto tries strategies for targets of one class a row, and {task.name} is {task.kind}; name a "
            f"strategy, or leave it out",
        )


def _options(job: Job, chosen: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(option_for(job, each["target"], each["strategy"]) for each in chosen)


def _decision(choice: Mapping[str, Any]) -> Decision:
    return Decision(what=f"imbalance of {choice['target']}, chosen", choice=choice["strategy"], why=choice["why"])


def _choice(job: Job, target: str, others: Sequence[str]) -> dict[str, Any]:
    """What is chosen for a target, with all that was tried; JSON values."""
    asked = job.data.chooser.metrics[target]
    metric = INSTEAD if asked in LOWER_IS_BETTER else asked
    trials = Trials(job, target, others)
    texts = [PLAIN, *CANDIDATES, *([f"threshold(metric={metric})"] if metric in TUNED else [])]
    scored: dict[str, list[float]] = {}
    left_out: dict[str, str] = {}
    with job.reporter.bar("trying strategies", "fits") as progress:
        for number, text in enumerate(texts):
            try:
                with_strategies(job, (*others, option_for(job, target, text)))  # with all that the run does beside
                scored[text] = _scores(trials, text, metric, progress, (number, len(texts)))
            except ZooError as error:
                if text == PLAIN:
                    raise
                left_out[text] = str(error).splitlines()[0]
    found = _judged(job, trials, (metric, asked), scored)
    why = f"{found['why']}; left out: {', '.join(left_out)}" if left_out else found["why"]
    return found | {"target": target, "left_out": left_out, "why": why}


def _scores(
    trials: Trials,
    text: str,
    metric: str,
    progress: Callable[[int, int], None] | None,
    place: tuple[int, int],
) -> list[float]:
    found = []
    for fold in trials.folds:
        found.append(trials.score(text, fold, metric))
        if progress:
            progress(place[0] * len(trials.folds) + len(found), place[1] * len(trials.folds))
    return found


def _judged(job: Job, trials: Trials, metrics: tuple[str, str], scored: Mapping[str, list[float]]) -> dict[str, Any]:
    """By the first of two metrics; the other one chooses the best epoch."""
    metric, asked = metrics
    means = {text: statistics.fmean(values) for text, values in scored.items()}
    order = sorted(scored, key=lambda text: -means[text])

    def margin(one: str, other: str) -> Paired:
        return paired([a - b for a, b in zip(scored[one], scored[other], strict=True)], trials.overlap)

    gains = {text: margin(text, PLAIN) for text in scored if text != PLAIN}
    better = [text for text in gains if gains[text].clear and gains[text].mean > 0]
    take = max(better, key=lambda text: gains[text].mean - (gains[text].reach or 0.0), default=PLAIN)
    second = next(text for text in order if text != take) if len(order) > 1 else None
    tried = {
        text: {
            "mean": means[text],
            "spread": statistics.stdev(scored[text]),
            "gain": {**asdict(gains[text]), "clear": gains[text].clear} if text in gains else None,
        }
        for text in order
    }
    how = f"{words(metric)}, cross-validated over {len(trials.folds)} folds of the training rows"
    if metric != asked:
        how += f" (not by {words(asked)}, by which plain training is best)"
    if job.config.freeze != "head" or job.config.augment.strip() != "none":
        how += ", with the head alone on features of the backbone as it is and images as they are"
    why = [f"{how}: {_text(tried[take])}"]
    if take == PLAIN:
        why.append("no candidate beats plain training by more than noise")
    else:
        why.append(f"{_gain(gains[take])} against plain training, of all gains the surest")
    if second is not None:
        why.append(f"next is {second} with {_text(tried[second])}, margin {_gain(margin(take, second))}")
    return {"strategy": take, "metric": metric, "folds": len(trials.folds), "tried": tried, "why": "; ".join(why)}


def _text(tried: Mapping[str, Any]) -> str:
    return f"{tried['mean']:.3f} ± {tried['spread']:.3f}"


def _gain(difference: Paired) -> str:
    spread = f" ± {difference.spread:.3f}" if difference.spread is not None else ""
    return f"{difference.mean:+.3f}{spread}{'' if difference.clear else ', which may be noise'}"
