"""Probabilities for another class prior than the model's: one that is known, or one found among the rows given.

Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities". Images of
a class are taken to look alike here and there; only how many there are of each class differs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.run.artifact import Artifact
from zoo.specs import Task, parse_options

TOLERANCE, ITERATIONS = 1e-6, 1000


def adjusted(probabilities: Tensor, log_prior: Tensor, new: Tensor) -> Tensor:
    """Probabilities float64 (N, K) under the prior `new` (K,), of those under softmax(log_prior)."""
    found = probabilities * new / log_prior.double().softmax(dim=0)
    return found / found.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def estimated(probabilities: Tensor, log_prior: Tensor) -> Tensor:
    """The prior (K,) of the rows, by expectation maximisation; needs rows, and probabilities that are calibrated."""
    prior = log_prior.double().softmax(dim=0)
    for _ in range(ITERATIONS):
        found = adjusted(probabilities, log_prior, prior).mean(dim=0)
        moved = float((found - prior).abs().max())
        prior = found
        if moved < TOLERANCE:
            break
    return prior


def with_prior(
    probabilities: dict[str, Tensor], artifact: Artifact, option: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Predictions by task, those of classes for the prior that `option` names, and a sentence about each task.

    Args:
        probabilities: by task, of a pipeline.
        artifact: of the run; says which prior its probabilities stand for.
        option: `em`, or the share of every class of the only target, as `{ok: 0.9, crack: 0.1}`.

    Raises:
        ZooError: the run has no classes or is too old to say, or shares that do not name its classes.
    """
    if not artifact.log_prior:
        if not any(task.kind == "classification" for task in artifact.tasks):
            raise ZooError("--prior corrects probabilities of classes, and no target of this run has classes")
        raise ZooError("this run was made by an earlier version, which did not save its class prior; train it again")
    known = None if option.strip() == "em" else _shares(option, artifact.tasks)
    found, said = {}, []
    for task in artifact.tasks:
        if task.kind != "classification":
            found[task.name] = probabilities[task.name]
            said.append(f"{task.name} is {task.kind}, which has no class prior: predicted as it is")
            continue
        own = torch.tensor(artifact.log_prior[task.name])
        new = estimated(probabilities[task.name], own) if known is None else known
        found[task.name] = adjusted(probabilities[task.name], own, new)
        shares = ", ".join(f"{name} {share:.3f}" for name, share in zip(task.classes, new.tolist(), strict=True))
        how = f"estimated on these {len(probabilities[task.name])} rows together" if known is None else "as given"
        said.append(f"class prior of {task.name}, {how}: {shares}")
    return found, tuple(said)


def _shares(option: str, tasks: tuple[Task, ...]) -> Tensor:
    (call,) = parse_options(f"prior(shares={option})")
    shares = call.arguments[0].value
    classes = tasks[0].classes
    if len(tasks) > 1:
        raise ZooError(f"--prior {option} gives the shares of one target; the run has {len(tasks)}, so say --prior em")
    if not isinstance(shares, dict) or set(shares) != set(classes) or min(shares.values()) <= 0:
        raise ZooError(
            f"--prior is em, or a positive share of each class, as {{{', '.join(f'{name}: 1' for name in classes)}}}"
        )
    values = torch.tensor([float(shares[name]) for name in classes], dtype=torch.float64)
    return values / values.sum()
