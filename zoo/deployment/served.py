"""The whole of a run as one module: uint8 images in, probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.data.covariates import CovariateEncoder, CovariateSchema
from zoo.deployment.outputs import served_output
from zoo.errors import ZooError
from zoo.run.artifact import Artifact
from zoo.run.saved_imputers import of_kind
from zoo.specs import CovariateColumns


class CovariateInput(nn.Module):
    """Complete covariates in their own units to the numbers that the heads take, as `CovariateEncoder.encode`.

    Computed in float64, because a column may be a year or a time stamp.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: CovariateEncoder) -> None:
        super().__init__()
        if encoder.indicators:
            raise ZooError(
                "this run marks which covariates were missing (+indicator), and an exported file takes complete ones; "
                "predict with `zoo predict`, or train without +indicator"
            )
        kinds = encoder.schema.kinds
        self.numeric = [place for place, kind in enumerate(kinds) if kind == "numeric"]
        places = [place for place, kind in enumerate(kinds) if kind == "categorical"]
        self.categorical = list(zip(places, map(len, encoder.schema.categories), strict=True))
        self.register_buffer("mean", torch.tensor(encoder.mean, dtype=torch.float64))
        self.register_buffer("std", torch.tensor(encoder.std, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        """Raw columns, float64 (B, columns), to float32 (B, C).

        A hole (NaN) and a code that is no category give NaN all the way to the output, so that nothing is made up.
        """
        parts = []
        if self.numeric:
            parts.append((raw[:, self.numeric] - self.mean) / self.std)
        for place, count in self.categorical:
            hot = (raw[:, place : place + 1] == torch.arange(count, dtype=raw.dtype)).to(raw.dtype)
            parts.append(hot / hot.sum(dim=1, keepdim=True))
        return torch.cat(parts, dim=1).float()


def raw_columns(schema: CovariateSchema, columns: CovariateColumns) -> Tensor:
    """What `CovariateInput` takes, float64 (N, columns) in the schema's order: numbers, and codes of categories."""
    numeric, categorical = torch.from_numpy(columns.numeric), torch.from_numpy(columns.categorical).double()
    numbers, codes = iter(numeric.unbind(1)), iter(categorical.unbind(1))
    return torch.stack([next(numbers if kind == "numeric" else codes) for kind in schema.kinds], dim=1)


def served_dtype(artifact: Artifact) -> torch.dtype:
    """Of the images that go in: float32 where their units are not those of 8 bits, or a channel may be filled in."""
    fractions = artifact.model.view.input.dtype != "uint8" or of_kind(artifact.imputers, "channels") is not None
    return torch.float32 if fractions else torch.uint8


class ServedModel(nn.Module):
    """Normalisation, backbone, heads, correction of the logits, probabilities: what `zoo predict` does after decoding.

    Args:
        artifact: the run; its model is used, not copied.
        softmax: whether probabilities come out, or corrected logits; numbers come out in their own units.

    Attributes:
        tasks: names in the order of the outputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, artifact: Artifact, *, softmax: bool = True) -> None:
        super().__init__()
        spec = artifact.model.view.input
        self.network = artifact.model
        self.softmax = softmax
        self.tasks = tuple(task.name for task in artifact.tasks)
        self.kinds = artifact.tasks
        self.register_buffer("mean", torch.tensor(spec.zero).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.spread).view(1, -1, 1, 1))
        self.encode = CovariateInput(CovariateEncoder.from_json(artifact.covariates)) if artifact.covariates else None
        for place, task in enumerate(artifact.tasks):
            bias = artifact.logit_bias.get(task.name) or (0.0,) * task.outputs
            self.register_buffer(f"bias{place}", torch.tensor(bias))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, covariates: Tensor | None = None) -> dict[str, Tensor]:
        """Probabilities or logits float32 (B, K), or numbers (B, 1), by task.

        Args:
            images: uint8 or float32 (B, channels, H, W), see `served_dtype`; decoded, resized, cropped, without holes.
            covariates: float64 (B, columns) where the run has some, see `raw_columns`.
        """
        encoded = None if self.encode is None or covariates is None else self.encode(covariates)
        logits = self.network.logits((images.float() - self.mean) / self.std, encoded)
        found = {name: logits[name] + self.get_buffer(f"bias{place}") for place, name in enumerate(self.tasks)}
        return {task.name: served_output(task, found[task.name], softmax=self.softmax) for task in self.kinds}


def merge_adapters(model: nn.Module) -> None:
    """Add what adapters learned to the weights they adapt, where the model has some and so offers `merge`."""
    merge = getattr(model, "merge", None)
    if callable(merge):
        merge()
