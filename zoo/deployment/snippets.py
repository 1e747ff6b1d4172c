"""The code of a model card: how to prepare an image and how to use the file, without backbone-zoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import InputSpec

_HEAD = """\
import numpy as np
from PIL import Image, ImageOps


def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
{resize}
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


images = np.stack([prepare(path) for path in ["image.jpg"]])"""

_CENTER = """\
    longer = int({resize} * max(image.size) / min(image.size))
    image = image.resize((longer, {resize}) if image.width > image.height else ({resize}, longer), {filter})
    left, top = round((image.width - {width}) / 2), round((image.height - {height}) / 2)
    image = image.crop((left, top, left + {width}, top + {height}))"""


_BANDS = """\
import numpy as np

# Bands {bands} of {dtype} files, in their own units, resized and cropped as above, without holes.
# images has the shape (B, *{shape}) and the dtype that "What goes in" states.
images = np.load("images.npy")"""


def prepare(spec: InputSpec) -> str:
    """From files to `images`, uint8 (B, 3, H, W), or what named bands are to be like."""
    if spec.bands:
        return _BANDS.format(bands=", ".join(spec.bands), dtype=spec.dtype, shape=(spec.channels, *spec.size))
    height, width = spec.size
    resampling = f"Image.Resampling.{spec.interpolation.upper()}"
    if spec.crop == "squash":
        resize = f"    image = image.resize(({width}, {height}), {resampling})"
    else:
        resize = _CENTER.format(resize=spec.resize, width=width, height=height, filter=resampling)
    return _HEAD.format(resize=resize)


def use(description: Mapping[str, Any], kind: str, file: str, *, beside: bool) -> str:
    """From `images` (and `covariates`) to `found`.

    Args:
        description: see `zoo.deployment.description.describe`.
        kind: of the file.
        file: its name.
        beside: of safetensors, whether heads stand beside the backbone.
    """
    covariates = "covariates" in description["input"]
    if kind == "onnx":
        return _onnx(file, covariates=covariates)
    if kind == "torch":
        second = ", torch.from_numpy(covariates)" if covariates else ""
        return (
            f"import torch\n\nserved = torch.export.load({file!r}).module()\n"
            f"found = served(torch.from_numpy(images){second})  # a dict: by output, (B, columns)"
        )
    return _tensors(description, file, beside=beside)


def _onnx(file: str, *, covariates: bool) -> str:
    feed = '{"images": images, "covariates": covariates}' if covariates else '{"images": images}'
    return (
        f"import onnxruntime\n\nsession = onnxruntime.InferenceSession({file!r})\n"
        "names = [output.name for output in session.get_outputs()]\n"
        f"found = dict(zip(names, session.run(names, {feed})))  # by output, (B, columns)"
    )


def _tensors(description: Mapping[str, Any], file: str, *, beside: bool) -> str:
    library, architecture = description["backbone"]["library"], description["backbone"]["architecture"]
    prepared = description["preprocessing"]
    outputs = 0 if beside else next(iter(description["output"].values()))["shape"][1]
    given = "".join(f", {name}={value!r}" for name, value in description["backbone"]["arguments"].items())
    if not library or (beside and library == "torchvision"):
        name = description["backbone"]["name"]
        return f"from safetensors.torch import load_file\n\ntensors = load_file({file!r})  # of {name}"
    function = "timm.create_model" if library == "timm" else "torchvision.models.get_model"
    held = "{name: own for name, own in tensors.items() if not name.startswith('zoo_')}" if beside else "tensors"
    package = library if library == "timm" else "torchvision.models"
    return f"""\
import {package}
import torch
from safetensors.torch import load_file

tensors = load_file({file!r})
network = {function}({architecture!r}, num_classes={outputs}{given}).eval()
state = network.state_dict()  # with the versions of its layers, which a file does not keep
state.update({held})
network.load_state_dict(state)
mean, std = torch.tensor({list(prepared["mean"])}), torch.tensor({list(prepared["std"])})
with torch.inference_mode():
    normalised = (torch.from_numpy(images) / 255 - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    found = network(normalised)  # {"pooled features (B, width)" if beside else "logits (B, columns)"}"""
