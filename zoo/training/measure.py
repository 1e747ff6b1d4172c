"""How long one image takes, in training and in validation, for each way in which the trainable part may compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.features.prefix import DTYPES
from zoo.probe import synchronise

ROUNDS = 4
"""The first only warms up."""

Forward = Callable[[], dict[str, Tensor]]
"""One forward pass of a batch to logits by task."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the trainable part computes.

    Attributes:
        autocast: `bf16` or `fp16` of the autocast, or an empty string for none; parameters stay float32.
        channels_last: memory layout of convolutions.
    """

    autocast: str = ""
    channels_last: bool = False

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{f'{self.autocast} autocast' if self.autocast else 'fp32'}, {layout}"

    @property
    def layout(self) -> torch.memory_format:
        """As torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        """In which what crosses the boundary goes in."""
        return DTYPES[self.autocast or "fp32"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that is timed.

    Attributes:
        compute: the way.
        forward: gives the forward pass of a batch, once the model has the way's layout.
    """

    compute: Compute
    forward: Callable[[], Forward]


def time_steps(
    model: nn.Module, steps: Mapping[str, Step], others: Mapping[str, Callable[[], object]], device: torch.device
) -> dict[str, list[float] | str]:
    """Time steps and other calls in interleaved rounds, and keep the least of each.

    The least, because whatever else the machine does only ever adds time; all in one go, because only what was measured
    side by side can be compared.

    Args:
        model: what trains; nothing is stepped, BatchNorm's statistics are put back, and only its layout is changed.
        steps: by name; a forward and a backward pass in training mode, and a forward pass for validation.
        others: by name; called as they are.
        device: where they compute.

    Returns:
        By name, seconds of a step and of a forward pass, or of the call; or why it does not run.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {part: part.training for part in model.modules()}
    rounds: dict[str, list[list[float]]] = {name: [] for name in [*steps, *others]}
    failed: dict[str, str] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for name in [*rounds] * ROUNDS:
            if name in failed:
                continue
            try:
                rounds[name].append(
                    _step(model, steps[name], device) if name in steps else [_call(others[name], device)]
                )
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, TypeError) as error:
                failed[name] = str(error).splitlines()[0]
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    for part, mode in modes.items():
        part.training = mode
    if steps and failed.keys() >= steps.keys():
        raise ZooError(f"training runs in no way: {', '.join(f'{name} ({failed[name]})' for name in steps)}")
    return {**{name: [min(own) for own in zip(*held[1:], strict=True)] for name, held in rounds.items()}, **failed}


def _call(call: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - started


def _step(model: nn.Module, step: Step, device: torch.device) -> list[float]:
    model.to(memory_format=step.compute.layout)
    forward = step.forward()

    def run(*, training: bool) -> None:
        with torch.autocast(device.type, dtype=step.compute.dtype, enabled=bool(step.compute.autocast)):
            logits = forward()
        if training:
            loss = torch.stack([own.float().square().mean() for own in logits.values()]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)

    model.train()
    trained = _call(lambda: run(training=True), device)
    model.eval()
    with torch.no_grad():
        return [trained, _call(lambda: run(training=False), device)]
