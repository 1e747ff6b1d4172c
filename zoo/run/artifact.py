"""The run folder: model.safetensors, run.json, metrics.json, history.csv, predictions.csv, splits.csv, report.html.

`run.json` is written last: a folder that has it is whole. Everything that inference needs stands in the metadata of
`model.safetensors`, so that this one file is the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoo.errors import RunError, ZooError
from zoo.features.prefix import Recipe
from zoo.model.adapt import adapt_input, read_input
from zoo.model.channels import PLAIN, plain_convolutions, stated_plain, with_plain
from zoo.model.load import assemble, in_full, one_head, strip
from zoo.model.network import FineTuneModel
from zoo.model.states import with_versions
from zoo.model.view import build_view
from zoo.run.files import read_json, write_whole
from zoo.run.provenance import imputer_kind, missing, name_here, plugins_of
from zoo.run.saved_imputers import SavedImputer
from zoo.specs import Task

FORMAT = 1
"""Version of the artifact; a newer one is refused, an older one is read."""

Names = Mapping[tuple[str, str], str]
"""By kind and name, the name by which a thing that a run needs is found here."""

FILES = ("model.safetensors", "metrics.json", "history.csv", "predictions.csv", "splits.csv", "report.html", "run.json")

MADE = ("synthetic.safetensors", "synthetic.png")
"""Images that a strategy made, and a sheet of some for people; they are there before training."""

OPTIONS, CHECKPOINT = "resume.json", "checkpoint.safetensors"
"""What an interrupted run goes on from."""

RANGE_TEST = ("lr.json", "lr.png")
"""What `zoo train --find-lr` leaves; the run that follows may go into the same folder."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A fine-tuned model with everything that prediction needs.

    Attributes:
        model: backbone and heads, in float32 on the CPU.
        tag: tag of the weights that fine-tuning started from.
        recipe: how the backbone computed features when the run was evaluated.
        logit_bias: by task, added to the logits.
        log_prior: by task, centred: the class prior that the logits stand for then; runs of early versions state none.
        covariates: JSON of the covariate encoder, or None.
        imputers: that were fitted, of covariates, pixels and channels.
        versions: of the libraries that made it.
    """

    model: FineTuneModel
    tag: str
    recipe: Recipe = field(default_factory=Recipe)
    logit_bias: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    log_prior: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    covariates: Mapping[str, Any] | None = None
    imputers: tuple[SavedImputer, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks in the order of the heads."""
        return self.model.heads.tasks


def claim(folder: Path, *, overwrite: bool) -> None:
    """Make the run folder, or refuse to touch one that holds a run.

    Raises:
        RunError: something is there and `overwrite` was not asked for, or the folder cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; a run is a folder")
    before = {*RANGE_TEST, *MADE}  # a run that was stopped while it made images has left no more than these
    if folder.exists() and any(path.name not in before for path in folder.iterdir()) and not overwrite:
        if (folder / OPTIONS).exists():
            what = f"holds a run that was interrupted: go on with zoo train --resume {folder}"
        elif (folder / "run.json").exists():
            what = "holds a run"
        else:
            _refuse_foreign(folder)  # what is not ours is not overwritten either
            what = "is not empty"
        raise RunError(f"{folder} {what}; choose another --out, or say --overwrite")
    if folder.exists():
        _refuse_foreign(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror or error}") from None


def _refuse_foreign(folder: Path) -> None:
    """Nothing that a run did not write is overwritten: a user's own splits.csv is not ours."""
    held = {path.name for path in folder.iterdir()} - {*RANGE_TEST, *MADE}
    foreign = sorted(held - {*FILES, OPTIONS, CHECKPOINT})
    if "run.json" in held:
        if "format" not in read_json(folder / "run.json"):
            raise RunError(f"{folder}/run.json was not written by backbone-zoo; choose another --out")
    elif held and (not {"model.safetensors", OPTIONS} & held or foreign):
        raise RunError(f"{folder} holds no run but {', '.join(sorted(held)[:3])}; choose another --out")


def clear(folder: Path, *, made: bool = False) -> None:
    """Remove the files of an earlier run, `run.json` first, so that what is left never reads as whole.

    Images that were made are left where they are this run's own.
    """
    for name in (*reversed(FILES), *(() if made else MADE)):
        (folder / name).unlink(missing_ok=True)


def serialise(artifact: Artifact) -> bytes:
    """The content of `model.safetensors`."""
    model = artifact.model
    tensors: dict[str, Tensor] = {
        f"backbone.{name}": tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.backbone.state_dict().items()
    }
    tensors |= {f"heads.{k}": v.detach().cpu().contiguous().clone() for k, v in model.heads.state_dict().items()}
    for index, own in enumerate(artifact.imputers):
        tensors |= {f"imputers.{index}.{name}": torch.from_numpy(np.array(each)) for name, each in own.arrays.items()}
    spec = model.view.input
    header = {
        "format": FORMAT,
        "backbone": model.view.name,
        "weights": artifact.tag,
        "licence": model.view.licence,
        "tasks": [task.to_json() for task in artifact.tasks],
        "preprocessing": {name: getattr(spec, name) for name in spec.__slots__},
        "feature": model.kind,
        "head": str(in_full(model.heads.call)),
        PLAIN: plain_convolutions(model.view),
        "covariate_columns": model.heads.covariates,
        "recipe": asdict(artifact.recipe),
        "logit_bias": artifact.logit_bias,
        "log_prior": artifact.log_prior,
        "covariates": artifact.covariates,
        "imputers": [{"fills": own.fills, "name": own.name, "values": own.values} for own in artifact.imputers],
        "versions": artifact.versions,
        "plugins": plugins_of(model, [(own.fills, own.name) for own in artifact.imputers]),
    }
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in header.items()}
    content: bytes = save(tensors, metadata={**metadata, "format": str(FORMAT)})
    return content


def _header(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.exists():
        raise RunError(f"{path.parent} is no run: it has no {path.name}")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} cannot be read ({error}); it is damaged or no safetensors file") from None


def _checked_format(path: Path, header: Mapping[str, str]) -> None:
    try:
        version = int(header["format"])
    except (KeyError, ValueError):
        raise RunError(f"{path} was not written by backbone-zoo: it states no format version") from None
    if version > FORMAT:
        raise RunError(f"{path} has format {version}, this backbone-zoo reads up to {FORMAT}; upgrade it")


def load_artifact(folder: Path) -> Artifact:
    """Read a finished run.

    Args:
        folder: the run folder.

    Raises:
        RunError: no run, an unfinished or damaged one, one of a newer format, or one whose plugins are not installed.
    """
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}")
    read_json(folder / "run.json")  # its presence says that the folder is whole
    path = folder / "model.safetensors"
    header, tensors = _header(path)
    _checked_format(path, header)
    stated = json.loads(header.get("plugins", "[]"))  # runs of the first releases state none
    if lost := missing(stated):
        raise RunError(f"{folder} cannot be used here: {lost}")
    names = {(kind, name): name_here(kind, name, home) for kind, name, home, _ in stated}
    try:
        model = _rebuild(header, tensors, names)
    except ZooError as error:
        raise RunError(f"{folder} cannot be used here: {error}") from None
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise RunError(f"{path} does not hold what its metadata promise: {error}") from None
    return Artifact(
        model=model,
        tag=header["weights"],
        recipe=Recipe(**json.loads(header["recipe"])),
        logit_bias={name: tuple(bias) for name, bias in json.loads(header["logit_bias"]).items()},
        log_prior={name: tuple(own) for name, own in json.loads(header.get("log_prior", "{}")).items()},
        covariates=json.loads(header["covariates"]),
        imputers=_imputers(header, tensors, names),
        versions=json.loads(header["versions"]),
    )


def _rebuild(header: Mapping[str, str], tensors: Mapping[str, Tensor], names: Names) -> FineTuneModel:
    spec = read_input(header["preprocessing"])
    # The random network is made for its own default weights; the run's images may be larger, or have more channels.
    backbone = names.get(("backbone", header["backbone"]), header["backbone"])
    view = with_plain(build_view(backbone, "none"), stated_plain(header))
    view = strip(adapt_input(view, size=spec.size, channels=spec.channels))
    view = replace(view, input=spec, weights=header["weights"], licence=header["licence"])
    tasks = [Task.from_json(task) for task in json.loads(header["tasks"])]
    head = one_head(header["head"])  # of runs of the first releases as it was typed
    head = replace(head, name=names.get(("head", head.name), head.name))
    columns = json.loads(header["covariate_columns"])
    model = assemble(view, tasks, kind=header["feature"], covariates=columns, head=head)
    owned = {name: tensor for name, tensor in tensors.items() if not name.startswith("imputers.")}
    model.load_state_dict(with_versions(model, owned), strict=True)
    return model.eval()


def _imputers(header: Mapping[str, str], tensors: Mapping[str, Tensor], names: Names) -> tuple[SavedImputer, ...]:
    found = []
    for index, stated in enumerate(json.loads(header["imputers"])):
        start = f"imputers.{index}."
        arrays = {name[len(start) :]: value.numpy() for name, value in tensors.items() if name.startswith(start)}
        fills = stated.get("fills", "covariates")  # runs of the first releases filled no others
        name = names.get((imputer_kind(fills), stated["name"]), stated["name"])
        found.append(SavedImputer(fills=fills, name=name, values=stated["values"], arrays=arrays))
    return tuple(found)


def write_model(folder: Path, artifact: Artifact) -> None:
    """Write `model.safetensors`."""
    write_whole(folder / "model.safetensors", serialise(artifact))
