"""Write a finished run as one file that serves without backbone-zoo, checked against the run, with a model card."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.config import ExportConfig
from zoo.deployment.card import render_card
from zoo.deployment.checking import Check, Sample, check, take_sample
from zoo.deployment.description import describe
from zoo.deployment.graphs import Loaded, load_onnx, load_torch, require_onnx, trace, write_onnx, write_torch
from zoo.deployment.libraries import Origin, origin_of
from zoo.deployment.outputs import kind_of_output
from zoo.deployment.served import ServedModel, merge_adapters, served_dtype
from zoo.deployment.states import config_of, load_state, state_of, write_state
from zoo.errors import RunError, ZooError
from zoo.registry.near import suggest
from zoo.run.artifact import OPTIONS, Artifact, load_artifact
from zoo.run.files import read_json, to_json

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
CONFIG = "config.json"
"""Beside safetensors; timm reads a file of this name."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        files: the exported file first, its card last.
        check: how it compares with the run, or None where that was not asked for.
        notes: what should be known, for people.
    """

    files: tuple[Path, ...]
    check: Check | None
    notes: tuple[str, ...] = ()

    @property
    def checked(self) -> str:
        """The check in a sentence."""
        return str(self.check) if self.check else "not compared with the run (--no-check)"

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        found = self.check
        return {
            "files": [str(path) for path in self.files],
            "checked": found is not None,
            "max_difference": found.difference if found else None,
            "images": found.images if found else 0,
            "notes": [*self.notes, self.checked],
        }


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What the writers share."""

    kind: str
    batch: int | None
    artifact: Artifact
    served: ServedModel
    origin: Origin
    description: Mapping[str, Any]


def export(run: str | Path, *, format: str, **options: object) -> Export:  # noqa: A002  the word that users type
    """Export a run; the same as `zoo export`.

    Args:
        run: the run folder.
        format: `onnx`, `torch` or `safetensors`.
        options: fields of `zoo.config.ExportConfig`.

    Raises:
        ZooError: no finished run, an unknown format, a missing extra, a network that cannot be traced, a file that is
            in the way or differs from the run.
    """
    given = {name: Path(str(value)) if name == "out" and value else value for name, value in options.items()}
    return run_export(ExportConfig(run=Path(run), format=format, **given))  # type: ignore[arg-type]


def run_export(config: ExportConfig) -> Export:
    """Export, check, and only then put the files in their place."""
    kind, batch = _kind(config.format), _batch(config)
    if kind == "onnx":
        require_onnx(check=config.check)
    artifact, record = _finished(config.run)
    out = _place(config, kind)
    sample = take_sample(config.run, artifact, record) if config.check else None
    merge_adapters(artifact.model)
    job = _job(config, kind, batch, artifact, record)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
            return _write(config, job, out, Path(name), sample, record)
    except OSError as error:
        raise RunError(f"cannot write to {out.parent}: {error.strerror or error}") from None


def _kind(given: str) -> str:
    if given not in SUFFIXES:
        hint = suggest(given, SUFFIXES)
        raise ZooError(f"there is no format {given!r} to export to; there are {', '.join(SUFFIXES)}{hint}")
    return given


def _batch(config: ExportConfig) -> int | None:
    given = str(config.batch)
    if given != "dynamic" and config.format == "safetensors":
        raise ZooError("safetensors hold no batch; leave --batch out")
    if given == "dynamic":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise ZooError(f"--batch is dynamic or a number of images, not {given!r}{suggest(given, ['dynamic'])}")
    return int(given)


def _finished(folder: Path) -> tuple[Artifact, dict[str, Any]]:
    if (folder / OPTIONS).exists() and not (folder / "run.json").exists():
        raise RunError(f"{folder} is a run that was interrupted; finish it with zoo train --resume {folder}")
    try:
        return load_artifact(folder), read_json(folder / "run.json")
    except KeyError as error:
        raise RunError(
            f"{folder} was made by a release so early that its model does not state {error}; train it anew"
        ) from None


def _place(config: ExportConfig, kind: str) -> Path:
    """The file to write, its folder made; nothing of another export is in the way."""
    given = config.out or config.run.absolute().with_name(f"{config.run.absolute().name}-export")
    out = given / f"model{SUFFIXES[kind]}" if config.out is None or given.is_dir() else given
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {out.parent}: {error.strerror or error}") from None
    names = [out.name, f"{out.name}.md", *([CONFIG] if kind == "safetensors" else [])]
    there = [name for name in names if (out.parent / name).exists()]
    if there and not config.overwrite:
        raise RunError(f"{out.parent} holds {' and '.join(there)} already; choose another --out, or say --overwrite")
    return out


def _job(config: ExportConfig, kind: str, batch: int | None, artifact: Artifact, record: Mapping[str, Any]) -> _Job:
    softmax = config.softmax and kind != "safetensors"
    served = ServedModel(artifact, softmax=softmax)
    origin = origin_of(artifact.model.view)
    description = describe(
        artifact,
        origin,
        run=record,
        kind=kind,
        batch=batch,
        softmax=softmax,
        version=__version__,
    )
    return _Job(kind=kind, batch=batch, artifact=artifact, served=served, origin=origin, description=description)


def _write(
    config: ExportConfig, job: _Job, out: Path, work: Path, sample: Sample | None, record: Mapping[str, Any]
) -> Export:
    writer: Callable[[_Job, Path], tuple[Callable[[], Loaded], str]] = _tensors if job.kind == "safetensors" else _graph
    load, why = writer(job, work / out.name)
    held = None
    if sample is not None:
        held = check(load(), sample, job.batch, logits=not job.served.softmax)
    notes = (f"the heads stand beside the backbone's tensors, because {why}",) if why else ()
    found = Export(files=(), check=held, notes=notes)
    card = render_card(
        job.description,
        kind=job.kind,
        file=out.name,
        spec=job.artifact.model.view.input,
        run=record,
        metrics=_metrics(config.run),
        checked=found.checked,
        why=why,
    )
    written = sorted((path.name for path in work.iterdir()), key=lambda name: (name != out.name, name))
    (work / f"{out.name}.md").write_text(card, encoding="utf-8")
    names = [*written, f"{out.name}.md"]
    for name in names:
        (work / name).replace(out.parent / name)
    return Export(files=tuple(out.parent / name for name in names), check=held, notes=notes)


def _metrics(folder: Path) -> dict[str, Any]:
    """Runs that lost their figures are exported all the same; the card says that there are none."""
    return read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}


def _graph(job: _Job, path: Path) -> tuple[Callable[[], Loaded], str]:
    """Write a graph; how to load it."""
    spec = job.artifact.model.view.input
    columns = len(job.artifact.covariates["names"]) if job.artifact.covariates else 0
    program = trace(job.served, spec.channels, spec.size, columns, job.batch, served_dtype(job.artifact))
    if job.kind == "torch":
        write_torch(program, path, job.description)
        return lambda: load_torch(path), ""
    softmax = job.served.softmax
    names = {task.name: f"{task.name}.{kind_of_output(task, softmax=softmax)}" for task in job.artifact.tasks}
    write_onnx(program, path, names, job.description)
    return lambda: load_onnx(path, names), ""


def _tensors(job: _Job, path: Path) -> tuple[Callable[[], Loaded], str]:
    """Write tensors and their configuration; how to load them, and why heads stand beside, where they do."""
    state = state_of(job.served, job.artifact, job.origin)
    write_state(state, path, job.description)
    configuration = to_json(config_of(job.artifact, job.origin, state, job.description))
    path.with_name(CONFIG).write_text(configuration, encoding="utf-8")
    return lambda: load_state(path, job.served, job.artifact, job.origin, beside=bool(state.why)), state.why
