"""timm's way to measure training (`benchmark.py` of timm, `TrainBenchmarkRunner`), beside ours in the same run.

A step is a forward pass under bf16 autocast, random targets made on the device, cross-entropy, backward and a step of
SGD, with one synchronisation at its end; ten warm up and forty are timed, of one resident random batch. Everything
trains, BatchNorm statistics too. TF32 and cuDNN's search for algorithms are on. There are no data, no schedule, no
copies. Contiguous and channels_last are both measured and the faster one counts. Where a batch does not fit, timm makes
it smaller without a word; here that is a failure, so that batches stay the same on both sides.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from zoo.model.view import build_view
from zoo.probe import synchronise

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def measure(parameters, seed):
    """The faster layout's images a second."""
    device = torch.device(parameters["device"])
    before = (torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision())
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    try:
        found = {name: _layout(parameters, device, layout) for name, layout in LAYOUTS.items()}
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error).splitlines()[0]) from None
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.set_float32_matmul_precision(before[1])
    best = max(found, key=lambda name: found[name]["images_per_second"])
    return {**found[best], "layout": best, "other": {name: own for name, own in found.items() if name != best}}


def _layout(parameters, device, layout):
    view = build_view(parameters["backbone"], "none")
    model = view.module.to(device, memory_format=layout).train()
    batch, size = parameters["batch_size"], view.input.size
    images = torch.randn(batch, view.input.channels, *size, device=device).contiguous(memory_format=layout)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    seconds = []
    began = time.perf_counter()
    for number in range(parameters["warmup"] + parameters["steps"]):
        if len(seconds) >= 3 and time.perf_counter() - began > parameters["seconds"]:
            break
        synchronise(device)
        started = time.perf_counter()
        _step(model, images, optimiser, device)
        synchronise(device)
        if number >= parameters["warmup"]:
            seconds.append(time.perf_counter() - started)
    speeds = batch / np.array(seconds)
    return {
        "images_per_second": round(float(np.median(speeds)), 3),
        "images_per_second_p10": round(float(np.percentile(speeds, 10)), 3),
        "images_per_second_p90": round(float(np.percentile(speeds, 90)), 3),
        "timed_steps": len(seconds),
    }


def _step(model, images, optimiser, device):
    optimiser.zero_grad()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = model(images)
        logits = found[0] if isinstance(found, tuple) else found  # networks with auxiliary classifiers
        targets = torch.randint(0, logits.shape[1], (len(images),), device=device)
        loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    optimiser.step()
