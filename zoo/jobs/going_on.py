"""The finished run that `--from` names, read: what options may not say otherwise, and what is not carried over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zoo.config import TrainConfig
from zoo.errors import RunError, ZooError
from zoo.features.choose import Decision
from zoo.jobs.inference import with_file_bands
from zoo.jobs.parent import Parent
from zoo.model.adapt import adapt_input
from zoo.model.load import in_full, one_head
from zoo.model.view import find_entry, split_name
from zoo.run.artifact import Artifact, load_artifact
from zoo.run.covariates import Covariates
from zoo.run.files import read_json
from zoo.run.filling import Filling
from zoo.run.imputing import parse_imputing
from zoo.run.uses import read_splits
from zoo.specs import InputSpec


def read_parent(config: TrainConfig) -> Parent | None:
    """The run that `--from` names, ready to go on; None where the options name none.

    Raises:
        RunError: no finished run, or one that is to be overwritten.
        ZooError: an option that asks for something else than the run has.
    """
    if config.start is None:
        return None
    folder = Path(config.start).expanduser()
    if folder.resolve() == config.out.resolve():
        raise RunError(f"{folder} cannot be replaced by a run that goes on from it; choose another --out")
    artifact = load_artifact(folder)
    _refuse_other(config, folder, artifact)
    model, before = artifact.model, artifact.model.view.input
    view = adapt_input(model.view, size=config.size)
    if config.crop:
        view = replace(view, input=replace(view.input, crop=config.crop))
    view = replace(view, input=with_file_bands(view.input, config.channels, config.layout))
    model.view = replace(view, weights=f"run {folder.resolve().name}")
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    covariates = artifact.covariates
    return Parent(
        folder=folder,
        digest=digest,
        model=model,
        covariates=None if covariates is None else Covariates.load(covariates, artifact.imputers),
        filling=Filling.load(artifact.imputers),
        splits=read_splits(folder),
        tag=artifact.tag,
        data=read_json(folder / "run.json")["data"],
        said=tuple(_said(folder, before, view.input, artifact)),
    )


def _said(folder: Path, before: InputSpec, now: InputSpec, artifact: Artifact) -> Iterator[Decision]:
    """What is not taken over as it was."""
    if (now.size, now.crop) != (before.size, before.crop):
        choice = f"{now.size[0]} x {now.size[1]} pixels, {now.crop}"
        why = f"{folder} took {before.size[0]} x {before.size[1]} pixels, {before.crop}: its predictions are others now"
        yield Decision(what="other images", choice=choice, why=why)
    if artifact.logit_bias:
        why = "it stood for the classes of that run's rows; this run's own --imbalance acts"
        choice = f"that of {', '.join(artifact.logit_bias)} is not carried over"
        yield Decision(what=f"logit bias of {folder}", choice=choice, why=why)


def _refuse_other(config: TrainConfig, folder: Path, artifact: Artifact) -> None:
    """Refuse options that name something else than what the run has."""
    model = artifact.model
    if config.backbone is not None:
        tag = split_name(config.backbone)[2]
        if find_entry(config.backbone).name != model.view.name or tag not in (None, artifact.tag):
            raise ZooError(
                f"--backbone {config.backbone}: {folder} is a run of {model.view.name} ({artifact.tag}), and its "
                "weights are taken; leave out --backbone, or --from"
            )
    if config.weights is not None:
        raise ZooError(f"--weights {config.weights}: --from takes the weights of {folder}; leave out one of them")
    if config.features not in (None, model.kind):
        raise ZooError(f"--features {config.features}: the head of {folder} reads {model.kind}; leave it out")
    if config.head is not None and str(in_full(one_head(config.head))) != str(in_full(model.heads.call)):
        raise ZooError(
            f"--head {config.head}: {folder} has the head {model.heads.call}; leave it out, or put a new head on its "
            f"backbone with --backbone {model.view.name} --weights {folder}"
        )
    own = tuple(artifact.covariates["names"]) if artifact.covariates else ()
    if config.covariate and sorted(config.covariate) != sorted(own):
        raise ZooError(
            f"--covariate {', '.join(config.covariate)}: the head of {folder} reads {', '.join(own) or 'none'}; "
            "leave it out"
        )
    _refuse_imputing(config, folder, artifact)
    if config.nodata not in (None, model.view.input.nodata):
        raise ZooError(f"--nodata {config.nodata}: missing pixels are known as {folder} knows them; leave it out")
    if config.fitter == "ridge":
        raise ZooError(
            f"--fitter ridge solves for a head anew, whatever that of {folder} is; use another, or put a new head on "
            f"its backbone with --backbone {model.view.name} --weights {folder}"
        )


def _refuse_imputing(config: TrainConfig, folder: Path, artifact: Artifact) -> None:
    """Refuse other imputers than the run's; which rows train, and what training leaves out, are its own affair."""
    asked = parse_imputing(config.impute)
    if asked.dropout and artifact.covariates and not artifact.covariates["indicators"]:
        raise ZooError(
            f"--impute {config.impute[0]}: the head of {folder} has nothing that says that covariates are missing, "
            "which dropout needs; leave it out"
        )
    if asked.calls or asked.multiple or (asked.indicator and not asked.dropout):
        raise ZooError(f"--impute {config.impute[0]}: holes are filled as {folder} learned to; leave it out")
