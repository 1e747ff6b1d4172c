"""Where in images pixels are missing, as pictures for `zoo inspect`."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data.hole_store import partial_holes
from zoo.data.images import Images
from zoo.data.picture import picture_of
from zoo.data.table import Table
from zoo.report.hole_pictures import hole_places
from zoo.report.inspect_page import SHOWN
from zoo.specs import InputSpec

MARK = (214, 39, 140)
"""The colour of missing pixels in thumbnails, red, green and blue of 8 bits: no photograph is so pink."""

MAPPED = 2000
"""Images with missing pixels whose masks are added up, from the first on."""


def places(images: Images) -> dict[str, bytes]:
    """By channel a picture of where in the image pixels are missing; one for all channels where they are alike."""
    held = images.missing_pixels
    rows = list(held)[:MAPPED]
    if not rows:
        return {}
    total = np.zeros((images.spec.channels, *images.spec.size))
    for row in rows:
        total += held[row]
    shares = total / len(rows)
    if (shares == shares[:1]).all():
        return {"all channels": hole_places(shares[0])}
    return {name: hole_places(own) for name, own in zip(images.spec.names, shares, strict=True) if own.any()}


def thumbnails(table: Table, images: Images) -> list[tuple[str, str, bytes]]:
    """Images with holes, those that lack most first: file, what is missing in words, a JPEG with the holes marked."""
    gone = images.missing_channels
    share = np.where(gone, 1.0, partial_holes(images.facts) * images.facts[..., 0] / np.prod(images.spec.size))
    order = np.argsort(-share.mean(axis=1), kind="stable")
    found = []
    for row in order[:SHOWN].tolist():
        lost = {name: own for name, own in zip(images.spec.names, share[row].tolist(), strict=True) if own}
        if not lost:
            break
        alike = len(lost) == len(share[row]) and len(set(lost.values())) == 1
        words = [f"{own:.0%} of {name}" for name, own in lost.items()]
        said = f"{next(iter(lost.values())):.0%} of its pixels" if alike else ", ".join(words)
        rows = np.array([row])
        picture = _marked(images.pixels(rows)[0], torch.from_numpy(images.missing(rows)[0]), images.spec)
        found.append((str(table.frame[table.roles.image][row]), said, picture))
    return found


def _marked(pixels: Tensor, missing: Tensor, spec: InputSpec) -> bytes:
    """A small JPEG of an image in which pixels that are missing in some channel stand out."""
    shown = picture_of(pixels, spec)
    shown[:, missing.any(dim=0)] = torch.tensor(MARK, dtype=torch.uint8)[:, None]
    image = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((160, 160))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=85)
    return held.getvalue()
