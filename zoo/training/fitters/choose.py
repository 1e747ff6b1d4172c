"""One door to every way in which heads are fitted on cached features, and what each of them refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.model.network import TaskHeads
from zoo.specs import FreezeSchedule, Task
from zoo.training.fitters.brought import Brought
from zoo.training.fitters.lbfgs import FullBatch
from zoo.training.fitters.record import Fitter, HeadFit
from zoo.training.fitters.ridge import STRENGTHS, Ridge
from zoo.training.fitters.sweep import Grid, Sweep
from zoo.training.loop import Trainer
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer

LOOP_ONLY = {
    "accumulate": 1,
    "optimiser": "adamw",
    "schedule": "cosine",
    "clip_norm": None,
    "ema": None,
    "label_smoothing": 0.0,
    "patience": None,
    "task_weights": "fixed",
}
"""Options that the loop obeys and no other fitter, with what they are where nothing is said."""

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def fit_on_features(
    heads: TaskHeads,
    data: Data,
    tasks: tuple[Task, ...],
    answers: Mapping[str, Answer],
    settings: Settings,
    *,
    fitter: Fitter = "adamw",
    grid: Grid | None = None,
    head_l2: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HeadFit:
    """Fit the heads and leave what was best by validation in them; `Trainer.fit` for heads alone, and its kin.

    Args:
        heads: on `settings.device`, their standardisation learned already.
        data: its inputs are features (B, width) or (B, tokens, width).
        tasks: in the order of the heads.
        answers: of the strategies, by task.
        settings: as of the loop. `lbfgs` and `ridge` use the metric, the device and the rates' `head_l2`
            alone.
        fitter: `adamw` (the loop), `lbfgs` or `ridge`; a strategy's head fitter goes before the loop.
        grid: of a sweep, from `zoo.training.fitters.sweep.grid_around`, or None for none.
        head_l2: as the user gave it; with None `ridge` chooses a strength on validation rows.
        progress: called now and then with rows seen and rows to see.

    Raises:
        ZooError: as `check_fitter`, and where losses are not finite.
    """
    check_fitter(heads, answers, fitter, sweep=grid is not None)

    def suffix(given: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = heads(given[0], covariates)
        return logits

    job = (heads, heads, suffix, data, tasks, answers, settings)
    if any(answer.head_fitter for answer in answers.values()):
        return Brought(*job).fit(progress)
    if fitter == "lbfgs":
        return FullBatch(*job).fit(progress)
    if fitter == "ridge":
        return Ridge(*job, strengths=STRENGTHS if head_l2 is None else (head_l2,)).fit(progress)
    if grid is not None:
        return Sweep(*job, grid=grid).fit(progress)
    plain = Trainer(*job).fit(progress)
    return HeadFit(**vars(plain), learning_rate=settings.rates.head, head_l2=settings.rates.head_l2)


def check_options(config: TrainConfig, schedule: FreezeSchedule) -> None:
    """Refuse options about the fitting of heads that do not go together, before any data are read.

    Raises:
        ZooError: one clear message.
    """
    special = "--sweep" if config.sweep else f"--fitter {config.fitter}"
    if (config.sweep_lr or config.sweep_l2) and not config.sweep:
        raise ZooError("--sweep-lr and --sweep-l2 are the grid of a sweep; say --sweep too")
    Grid(learning_rates=config.sweep_lr, strengths=config.sweep_l2)
    if config.sweep and config.fitter != "adamw":
        raise ZooError(f"--sweep trains its candidates with adamw; leave out --sweep or --fitter {config.fitter}")
    changed = [name for name, usual in LOOP_ONLY.items() if getattr(config, name) != usual]
    if changed and special != "--fitter adamw":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise ZooError(f"{special} has a loop of its own, which knows nothing of {flags}; leave out one or the other")
    if not schedule.head_alone and special != "--fitter adamw":
        raise ZooError(
            f"{special} fits heads on features of a frozen backbone, and --freeze {schedule.text} trains part of it; "
            f"leave out {special}, or say --freeze head"
        )
    if config.task_weight and config.fitter == "ridge":
        raise ZooError("--fitter ridge solves for each target by itself, whatever its --task-weight is; leave out one")
    if config.augment.strip() != "none" and config.fitter != "adamw":
        raise ZooError(f"--fitter {config.fitter} fits images as they are; leave out --augment, or use --fitter adamw")
    if config.fitter == "lbfgs" and not config.cache:
        raise ZooError("--fitter lbfgs goes over all features some fifty times; leave out --no-cache")


def check_fitter(heads: TaskHeads, answers: Mapping[str, Answer], fitter: Fitter, *, sweep: bool = False) -> None:
    """Refuse heads and strategies that a fitter cannot serve; cheap enough to be asked before features are computed.

    Raises:
        ZooError: naming the head or the strategy, and what to use instead.
    """
    if sweep and fitter != "adamw":
        raise ZooError(f"--sweep trains its candidates with adamw; leave out --sweep or --fitter {fitter}")
    if fitter == "adamw":
        return
    if any(isinstance(part, DROPOUT) and part.p > 0 for part in heads.modules()):
        raise ZooError(
            f"--fitter {fitter} looks for one minimum, and the dropout of --head {heads.call} moves it with every "
            "look; leave out the dropout, or use --fitter adamw"
        )
    if fitter == "ridge" and not (heads.linear and heads.takes == "vector"):
        raise ZooError(
            f"--fitter ridge solves for one linear layer, and --head {heads.call} is more; "
            "use --head linear, --fitter lbfgs or --fitter adamw"
        )
    other = next((task for task in heads.tasks if task.kind in ("multilabel", "ordinal")), None)
    if fitter == "ridge" and other is not None:
        raise ZooError(
            f"--fitter ridge solves for numbers and classes, and {other.name} is {other.kind}; "
            "use --fitter lbfgs or --fitter adamw"
        )
    for name, answer in answers.items():
        slot = "sampler" if answer.sampler else "criterion" if answer.criterion and fitter == "ridge" else None
        if slot:
            why = "it sees every row as often as every other" if slot == "sampler" else "its loss is the squared error"
            raise ZooError(
                f"--fitter {fitter} has no use for the {slot} of {'+'.join(answer.strategies)} (target {name}): {why}; "
                "use --imbalance class-weights, or --fitter adamw"
            )
