"""What a finished training says about itself: the content of `run.json`."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from zoo.jobs.data_record import data_json
from zoo.jobs.job import Fitted, Job
from zoo.jobs.pseudo import pseudo_json
from zoo.model.batchnorm import batch_norms
from zoo.model.freeze import Frozen
from zoo.probe import device_name
from zoo.run.artifact import FORMAT
from zoo.run.provenance import plugins_of
from zoo.specs import Task
from zoo.training.fitters.record import HeadFit
from zoo.training.strategy import Answer
from zoo.training.task_weights import parse_weights

LIBRARIES = ("backbone-zoo", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that a finished training has to put on disk."""

    job: Job
    fitted: Fitted
    verified: str
    clock: Mapping[str, float]
    started: float


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a distribution"
    return found


def run_json(outcome: Outcome, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Configuration, decisions, data, network and training of one run; `seconds` by part of the job."""
    job, fitted = outcome.job, outcome.fitted
    config = {name: str(value) if name == "out" else value for name, value in asdict(job.config).items()}
    total = time.perf_counter() - outcome.started
    data = data_json(job.config, job.data.before or job.data)
    head = fitted.fit if isinstance(fitted.fit, HeadFit) else None
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 3) for name, value in {**seconds, "total": total}.items()},
        "versions": versions(),
        "plugins": plugins_of(job.model, [(each["kind"], each["imputer"]) for each in _imputation(job)]),
        "machine": _machine(job.device),
        "command": config,
        "from": job.parent.record if job.parent else None,
        "backbone": _backbone_json(outcome),
        "data": {**data, "warnings": [*data["warnings"], *fitted.problems]},
        "plan": dict(fitted.plan),
        "freeze": {
            "policy": job.config.freeze,
            "intervals": _intervals(outcome),
            "trainable_stages": list(outcome.fitted.frozen.stages),
            "trainable_parameters": _count(fitted.frozen, fitted.frozen.trainable),
            "frozen_parameters": _count(fitted.frozen, fitted.frozen.frozen),
            "batchnorm": job.batchnorm if batch_norms(job.model.backbone) else None,
            "lora": asdict(fitted.lora) if fitted.lora else None,
            "verified": outcome.verified,
        },
        "decisions": [asdict(decision) for decision in fitted.decisions],
        "imbalance": _imbalance_json(job, fitted),
        "pseudo_labels": pseudo_json(fitted.pseudo),
        "chosen_strategies": list(job.chosen),
        "imputation": _imputation(job),
        "training": {
            "epochs": job.config.epochs,
            "best_epoch": fitted.fit.best_epoch,
            "metric": str(job.data.chooser),
            "best_value": fitted.fit.best_value,
            "optimiser": _fitter(job, fitted),
            "schedule": _schedule(job),
            "learning_rate": head.learning_rate if head else fitted.rates.head,
            "backbone_learning_rate": fitted.rates.backbone if outcome.fitted.frozen.stages else None,
            "weight_decay": fitted.rates.weight_decay,
            "head_l2": head.head_l2 if head else fitted.rates.head_l2,
            "tried": [asdict(each) for each in head.candidates] if head else [],
            "remarks": list(head.remarks) if head else [],
            "batch_size": job.batch_size * job.config.accumulate,
            "accumulate": job.config.accumulate,
            "layer_decay": job.config.layer_decay,
            "clip_norm": job.config.clip_norm,
            "ema": job.config.ema,
            "label_smoothing": job.config.label_smoothing,
            "mixup": job.config.mixup,
            "cutmix": job.config.cutmix,
            "patience": job.config.patience,
            "task_weights": {
                "how": job.config.task_weights,
                "weights": dict(fitted.task_weights)
                or {task.name: parse_weights(job.config.task_weight).get(task.name, 1.0) for task in job.data.tasks},
            },
            "epochs_run": len(fitted.fit.history),
            "rows_per_second": round(fitted.fit.rows_per_second, 1),
        },
    }


def _imputation(job: Job) -> list[dict[str, Any]]:
    """By kind of hole, what fills it, and how many values or images it filled."""
    data = job.data
    found: list[dict[str, Any]] = []
    if data.covariates:
        own = {"kind": "covariates", "imputer": data.covariates.imputer, "filled": dict(data.filled)}
        found.append({**own, "draws": data.covariates.draws} if data.covariates.draws else own)
    for kind, name in data.filling.names.items():
        found.append({"kind": kind, "imputer": name, "filled": {"images": data.images.filled_rows(kind)}})
    return found


def _intervals(outcome: Outcome) -> list[dict[str, Any]]:
    """What trained when: epochs counted from 1, both ends included."""
    return [
        {"epochs": [each.start + 1, each.stop], "policy": each.policy.text, "rate": each.rate, **trained}
        for each, trained in zip(outcome.job.intervals, outcome.fitted.trained, strict=True)
    ]


def _fitter(job: Job, fitted: Fitted) -> str:
    names = {"lbfgs": "L-BFGS", "ridge": "ridge, in closed form"}
    names["strategy"] = "+".join(answer.name for answer in job.answers.values() if answer.head_fitter)
    own = names.get(fitted.fit.fitter) if isinstance(fitted.fit, HeadFit) else None
    return own or job.config.optimiser


def _schedule(job: Job) -> str:
    if job.config.schedule.startswith("one-cycle"):
        return job.config.schedule
    return f"warm-up over {job.config.warmup:.0%} of the steps, then {job.config.schedule}"


def _count(frozen: Frozen, names: Sequence[str]) -> int:
    return sum(frozen.sizes[name] for name in names)


def _machine(device: torch.device) -> dict[str, Any]:
    return {"device": device.type, "name": device_name(device), "threads": torch.get_num_threads()}


def _backbone_json(outcome: Outcome) -> dict[str, Any]:
    model, trained = outcome.job.model, outcome.fitted.frozen.trained
    view = model.view
    sizes = {name: parameter.numel() for name, parameter in model.backbone.named_parameters()}
    return {
        "name": view.name,
        "tag": view.weights,
        "licence": view.licence,
        "parameters": sum(sizes.values()),
        "input": {name: getattr(view.input, name) for name in view.input.__slots__},
        "feature": {"name": model.kind, "width": model.heads.width},
        "head": str(model.heads.call),
        "notes": list(view.notes),
        "stages": [
            {
                "name": stage.name,
                "role": stage.role,
                "parameters": sum(sizes[name] for name in stage.parameters),
                "trainable": trained[stage.name],
            }
            for stage in view.stages
        ],
    }


def _imbalance_json(job: Job, fitted: Fitted) -> list[dict[str, Any]]:
    found = []
    for task in job.data.tasks:
        parts = [
            {"epochs": [each.start + 1, each.stop], **_answer_json(task, answered[task.name])}
            for each, answered in zip(job.intervals, job.answered, strict=True)
        ]
        last = job.answered[-1][task.name]
        if last.strategies:
            own = {"target": task.name, "strategy": last.name, **_answer_json(task, last)}
            own["tuned_bias"] = _by_class(task, fitted.afterwards.bias.get(task.name))
            found.append({**own, "intervals": parts} if len(parts) > 1 else own)
    return found


def _answer_json(task: Task, answer: Answer) -> dict[str, Any]:
    return {
        "corrected": answer.corrected,
        "element_weights": _by_class(task, answer.element_weights),
        "logit_bias": _by_class(task, answer.logit_bias),
    }


def _by_class(task: Task, values: Sequence[float] | None) -> dict[str, float] | None:
    return dict(zip(task.classes, values, strict=True)) if values else None
