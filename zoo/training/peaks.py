"""Peaks of this machine, measured on the spot: matrix products by dtype, and a copy."""

from __future__ import annotations

from functools import partial

import torch

from zoo.probe import computes_bf16, race
from zoo.training.work import Peaks

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices that are multiplied."""

COPIED = {"cpu": 2**28, "cuda": 2**30}
"""Bytes that are copied: more than any cache holds."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def measure_peaks(device: torch.device, side: int | None = None, nbytes: int | None = None) -> Peaks:
    """The best of a few rounds of each; takes about a second.

    On a GPU float32 is multiplied in TF32, the fastest way in which a float32 network may compute there.

    Args:
        device: what is measured.
        side: of the matrices.
        nbytes: that are copied.
    """
    side, nbytes = side or SIDE[device.type], nbytes or COPIED[device.type]
    names = [name for name in DTYPES if name != "fp16" or device.type == "cuda"]
    # What is emulated is hundreds of times as slow, at any size.
    sides = {name: side if name != "bf16" or computes_bf16(device.type) else max(side // 8, 1) for name in names}
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        calls = []
        for name in names:
            matrix = torch.ones((sides[name], sides[name]), dtype=DTYPES[name], device=device)
            calls.append(partial(torch.mm, matrix, matrix))
        # Each by itself, because a race gives up on what is slower than the others.
        seconds = [race([call], device, rounds=5)[0] for call in calls]
    finally:
        torch.set_float32_matmul_precision(before)
    source = torch.ones(nbytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = race([partial(target.copy_, source)], device, rounds=5)[0]
    return Peaks(
        flops={name: 2 * sides[name] ** 3 / own for name, own in zip(names, seconds, strict=True)},
        bandwidth=2 * nbytes / copied,
    )
