"""What an exported file says about itself: what goes in, how images become that, and what comes out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.data.covariates import CovariateEncoder
from zoo.deployment.libraries import Origin
from zoo.deployment.outputs import describe_output
from zoo.deployment.served import served_dtype
from zoo.run.artifact import Artifact
from zoo.run.covariates import Covariates
from zoo.run.filling import ORDER
from zoo.specs import InputSpec

FORMAT = 1
"""Version of the description; readers refuse a newer one."""


def describe(
    artifact: Artifact,
    origin: Origin,
    *,
    run: Mapping[str, Any],
    kind: str,
    batch: int | None,
    softmax: bool,
    version: str,
) -> dict[str, Any]:
    """The description as JSON values.

    Args:
        artifact: the run.
        origin: of its network.
        run: the content of `run.json`, of which a run of an early release may lack parts.
        kind: `torch`, `onnx` or `safetensors`; the last holds no normalisation, so its images are normalised outside.
        batch: number of images, or None for any.
        softmax: whether probabilities come out, or logits.
        version: of backbone-zoo.
    """
    view = artifact.model.view
    return {
        "format": FORMAT,
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "by": f"backbone-zoo {version}",
        "run": {"created": run.get("created"), "versions": dict(artifact.versions)},
        "backbone": {
            "name": view.name,
            "weights": artifact.tag,
            "licence": view.licence,
            "library": origin.library,
            "architecture": origin.architecture,
            "arguments": dict(origin.arguments),
        },
        "head": str(artifact.model.heads.call),
        "feature": artifact.model.kind,
        "input": _inputs(artifact, kind, batch),
        "preprocessing": {
            "steps": steps(view.input, inside=kind != "safetensors"),
            **{name: getattr(view.input, name) for name in ("size", "resize", "crop", "interpolation", "mean", "std")},
            "normalised_inside": kind != "safetensors",
        },
        "output": {task.name: describe_output(task, softmax=softmax, batch=batch) for task in artifact.tasks},
    }


def _inputs(artifact: Artifact, kind: str, batch: int | None) -> dict[str, Any]:
    spec = artifact.model.view.input
    dtype = "float32" if kind == "safetensors" else str(served_dtype(artifact)).removeprefix("torch.")
    names = list(spec.bands) or "RGB"
    found: dict[str, Any] = {
        "images": {"dtype": dtype, "shape": [batch or "batch", spec.channels, *spec.size], "channels": names}
    }
    filled = {each.fills: each.name for each in artifact.imputers if each.fills in ORDER}
    if filled:
        found["images"]["holes"] = {"filled_by": filled, "nodata": spec.nodata}
    if artifact.covariates is not None:
        columns = covariate_columns(artifact)
        found["covariates"] = {
            "dtype": "float64",
            "shape": [batch or "batch", len(columns)],
            "columns": columns,
            "imputer": Covariates.load(artifact.covariates, artifact.imputers).imputer,
        }
    return found


def covariate_columns(artifact: Artifact) -> list[dict[str, Any]]:
    """By column of the second input: name, kind, categories or mean and deviation, and what fills an unknown row."""
    if artifact.covariates is None:
        return []
    encoder = CovariateEncoder.from_json(artifact.covariates)
    schema = encoder.schema
    unknown = Covariates.load(artifact.covariates, artifact.imputers).unknown()
    numeric = zip(encoder.mean, encoder.std, unknown.numeric[0].tolist(), strict=True)
    categorical = zip(schema.categories, unknown.categorical[0].tolist(), strict=True)
    columns: list[dict[str, Any]] = []
    for name, kind in zip(schema.names, schema.kinds, strict=True):
        if kind == "numeric":
            mean, std, fill = next(numeric)
            columns.append({"name": name, "kind": kind, "mean": mean, "std": std, "unknown": fill})
        else:
            categories, code = next(categorical)
            columns.append({"name": name, "kind": kind, "categories": list(categories), "unknown": int(code)})
    return columns


def steps(spec: InputSpec, *, inside: bool) -> list[str]:
    """How a file becomes the input, in sentences.

    Args:
        spec: the run's input.
        inside: whether the exported file normalises itself.
    """
    height, width = spec.size
    if spec.crop == "squash":
        resize = [f"resize to {width} x {height} pixels (width x height), {spec.interpolation}, as Pillow does"]
    else:
        resize = [
            f"resize so that the shorter side has {spec.resize} pixels and the longer one int({spec.resize} * long / "
            f"short), {spec.interpolation}, as Pillow does",
            f"cut the central {width} x {height} pixels (width x height); left = round((w - {width}) / 2), top alike",
        ]
    unit = "values in [0, 1]" if spec.full == 255.0 else "values in the files' own units"
    normalise = f"{_listed(spec.mean)} subtracted from {unit} and divided by {_listed(spec.std)}, by channel"
    last = f"the file itself does the rest: {normalise}" if inside else f"float32: {normalise}"
    decode = "decode the first frame, turn it upright as EXIF says, convert to RGB (transparency dropped)"
    shape = "channels first: (3, height, width), values 0 to 255"
    if spec.bands:
        decode = f"read the bands {', '.join(spec.bands)} in this order, {spec.dtype}, and fill what is missing in them"
        shape = f"channels first: ({spec.channels}, height, width), in the files' own units"
    return [decode, *resize, shape, last]


def _listed(values: Sequence[float]) -> str:
    return f"({', '.join(f'{float(np.float32(value)):.6g}' for value in values)})"
