"""What the command takes that exports a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.config.marks import Positional


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a finished run as a file that serves without backbone-zoo, and a model card beside it.

    onnx and torch take decoded, resized and cropped images without holes, as uint8 (B, 3, H, W) or, of named bands in
    raw units and where channels were filled, as float32 (B, bands, H, W). They hold normalisation, backbone, heads, the
    strategy's correction of the logits and softmax; covariates are a second input. safetensors holds the tensors under
    the names of the backbone's own library, with a JSON beside them. What was written is loaded again and compared with
    the run's own predictions.
    """

    run: Positional[Path]
    """The run folder."""
    format: str
    """onnx, torch (a .pt2 of torch.export), or safetensors."""
    out: Path | None = None
    """The file to write, or a folder for it; by default in the folder RUN-export."""
    batch: str = "dynamic"
    """Images that the file takes at once: dynamic for any number, or a number."""
    softmax: bool = True
    """Probabilities come out; --no-softmax gives logits, corrected as the strategy wants."""
    check: bool = True
    """Load what was written and compare it with the run on a few images."""
    overwrite: bool = False
    """Replace files that are in the way."""
    json: bool = False
    """Print the result as JSON."""
