"""A served model as a graph in a file: a program of torch.export (.pt2), or ONNX."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from zoo.deployment.served import ServedModel
from zoo.errors import ZooError

Loaded = Callable[[Tensor, Tensor | None], dict[str, Tensor]]
"""An exported file at work: images and covariates, as `ServedModel.forward` takes them, to outputs by task."""

METADATA = "backbone-zoo.json"
"""The extra file of a .pt2 that holds the description."""

LARGEST_INLINE = 1_900_000_000
"""Bytes of weights that an ONNX file holds itself; protobuf ends at 2 GiB, and the graph needs room too."""


def require_onnx(*, check: bool) -> None:
    """Refuse ONNX where its extra is not installed.

    Args:
        check: whether the file is to be run too.

    Raises:
        ZooError: names the command that installs what is missing.
    """
    needed = ["onnx", "onnxscript", *(["onnxruntime"] if check else [])]
    lost = [name for name in needed if importlib.util.find_spec(name) is None]
    if lost:
        raise ZooError(
            f'--format onnx needs {" and ".join(lost)}, not installed here: pip install "backbone-zoo[onnx]"'
        )


def trace(
    served: ServedModel, channels: int, size: tuple[int, int], columns: int, batch: int | None, dtype: torch.dtype
) -> ExportedProgram:
    """The program of a served model.

    Args:
        served: the model.
        channels: of the images.
        size: height and width of the images in pixels.
        columns: of raw covariates; 0 where there are none.
        batch: number of images, or None for any.
        dtype: of the images.

    Raises:
        ZooError: torch.export cannot follow the network; says why, and what else there is.
    """
    rows = batch or 2  # of one row torch.export takes the number for a constant
    images = torch.randint(0, 256, (rows, channels, *size), dtype=torch.uint8, generator=_seeded()).to(dtype)
    arguments = (images, torch.zeros(rows, columns, dtype=torch.float64)) if columns else (images,)
    shapes = None if batch else ({0: Dim("batch", min=1)},) * len(arguments)
    try:
        with torch.no_grad():
            return torch.export.export(served, arguments, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever a network does that cannot be traced
        hint = "" if batch else "--batch 1 may work where the number of images is in the way; "
        raise ZooError(
            f"{served.network.view.name} cannot be traced: {_first_line(error)}; {hint}--format safetensors always does"
        ) from error


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def write_torch(program: ExportedProgram, path: Path, description: Mapping[str, Any]) -> None:
    """Write a .pt2 that `torch.export.load` reads, with the description as the extra file `METADATA`."""
    torch.export.save(program, path, extra_files={METADATA: json.dumps(description, ensure_ascii=False)})


def load_torch(path: Path) -> Loaded:
    """The program of a .pt2."""
    program = torch.export.load(path).module()

    def run(images: Tensor, covariates: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            found: dict[str, Tensor] = program(images) if covariates is None else program(images, covariates)
        return found

    return run


def write_onnx(program: ExportedProgram, path: Path, names: Mapping[str, str], description: Mapping[str, Any]) -> None:
    """Write an ONNX file; weights beyond `LARGEST_INLINE` go to a file beside it, named after it with `.data`.

    Args:
        program: from `trace`.
        path: the file.
        names: of the outputs, by task.
        description: kept as JSON in the model's metadata under `backbone-zoo`.

    Raises:
        ZooError: the network has an operation that ONNX or its exporter lacks.
    """
    inputs, outputs = list(program.graph_signature.user_inputs), list(names.values())
    try:
        made = torch.onnx.export(program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False)
    except Exception as error:
        raise ZooError(f"ONNX cannot say what this network does: {_first_line(error)}; try --format torch") from error
    assert made is not None  # noqa: S101  only the old exporter gives None; for the type checker
    _name_batch(made.model)
    made.model.metadata_props["backbone-zoo"] = json.dumps(description, ensure_ascii=False)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    made.save(path, external_data=weights > LARGEST_INLINE)


def _name_batch(model: Any) -> None:
    """Call the free dimension `batch`; the exporter calls it by a symbol, such as s34."""
    import onnx_ir

    for value in (*model.graph.inputs, *model.graph.outputs):
        if not isinstance(value.shape[0], int):
            value.shape = onnx_ir.Shape(["batch", *value.shape.dims[1:]])


def load_onnx(path: Path, names: Mapping[str, str]) -> Loaded:
    """The file at work in ONNX Runtime, on the CPU; `names` are those of its outputs, by task."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor, covariates: Tensor | None) -> dict[str, Tensor]:
        feed = {"images": images.numpy()} | ({} if covariates is None else {"covariates": covariates.numpy()})
        found = session.run(list(names.values()), feed)
        return {task: torch.from_numpy(values) for task, values in zip(names, found, strict=True)}

    return run
