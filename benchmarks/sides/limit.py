"""The physical limit of head-only training: every file decoded once, and one pass of the folded prefix over it.

The decoder, the prefix, its dtype and its layout are those of the run that it is held against; the batch is the one
that is fastest in the long run. Building and folding the network and hashing the files are timed apart: a fine-tuning
needs them, the limit does not. On a CPU our prefix also has convolutions compute their activations, which a folded
network does not; the pass as it is with that is timed beside the other, batch by batch in turn.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import torch
import torchvision  # noqa: F401 - so that it counts as imports

import zoo.features.prefix
from sides.common import now, read_rows
from zoo.data.decode import decode, quiet
from zoo.features.prefix import Prefix, Recipe
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.probe import reuse_memory
from zoo.registry.catalogue import catalogue

BATCH = 64


def run(given):
    """Seconds of decoding and of the pass, and apart from them those of building and hashing."""
    paths = [Path(image) for rows in read_rows(given.table).values() for image, _ in rows]
    catalogue()  # the index of what is installed: made once for an installation, not once for a run
    device = torch.device(given.device)
    reuse_memory()  # as the run does: a limit without it would be twice as slow, and no limit
    started = now(device)
    view = strip(build_view(given.scenario.backbone, given.scenario.weights))
    with mock.patch.object(zoo.features.prefix, "fuses", return_value=False):
        prefix = Prefix(view, view.features[0].name, Recipe(**given.recipe), device)
    built = now(device)
    for path in paths:
        hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    hashed = now(device)
    pixels = decoded(paths, view.input)
    read = now(device)
    fused = Prefix(view, view.features[0].name, Recipe(**given.recipe), device)
    spent = {"forward": 0.0, "fused_forward": 0.0}
    for way in (prefix, fused):
        way(pixels[:BATCH])  # what the first batch sets up is not part of a limit
    for at in range(0, len(pixels), BATCH):
        for name, way in (("forward", prefix), ("fused_forward", fused)):
            began = now(device)
            way(pixels[at : at + BATCH]).cpu()
            spent[name] += now(device) - began
    return {
        "seconds": (read - hashed) + spent["forward"],
        "parts_seconds": {
            "build": built - started,
            "hash": hashed - built,
            "decode": read - hashed,
            **spent,
        },
        "recipe": given.recipe,
        "batch": BATCH,
    }


def decoded(paths, spec):
    """uint8 (N, 3, H, W) in memory, decoded by a thread a core as the run does."""
    pixels = torch.empty((len(paths), spec.channels, *spec.size), dtype=torch.uint8)

    def one(row):
        pixels[row] = torch.from_numpy(decode(paths[row].read_bytes(), spec)).permute(2, 0, 1)

    with quiet, ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(len(paths))))
    return pixels
