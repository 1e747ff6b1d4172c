"""Whether a frozen prefix is compiled: only where what it saves is more than what compiling costs on this machine.

torch.compile with its weights frozen into the code (`freezing`) helps networks of many small operations: on two cores
of an AMD EPYC, in bf16, ConvNeXt-Atto goes from 315 to 393 images a second and EfficientNet-B0 from 297 to 328;
ResNet-18 gains 2 %, and EfficientNet-Lite0, whose activations are fused already, loses. Compiling takes 4 to 21 s
(`benchmarks/prefix.py`).
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from zoo.data.images import Images
from zoo.features.choose import Decision
from zoo.features.prefix import Prefix
from zoo.probe import device_name, race, remembered

WORTH_TRYING = {"cpu": 120.0, "cuda": 60.0}
"""Seconds of extraction from which on compiling is tried where nobody has: some ten times what it costs."""

COSINE = 0.999
"""Rows of a compiled prefix may differ by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What compiling a prefix costs and brings on this machine.

    Attributes:
        compile: seconds that it takes.
        plain, compiled: seconds of an image.
        problem: why it cannot be used, or an empty string.
    """

    compile: float = 0.0
    plain: float = 0.0
    compiled: float = 0.0
    problem: str = ""

    def saves(self, passes: int) -> float:
        """Seconds that it saves over so many images through the prefix, compiling included; negative where it costs."""
        return float("-inf") if self.problem else passes * (self.plain - self.compiled) - self.compile


def try_compiling(
    prefix: Prefix, images: Images, *, passes: int, seconds: float, memory: Path
) -> tuple[Trial, bool] | None:
    """Compile a prefix and time both, or read what an earlier run found; None where that is not worth it.

    Args:
        prefix: as it computes otherwise.
        images: decoded ones, of which a batch is computed.
        passes: of an image through the prefix, that are to do.
        seconds: of one of them.
        memory: folder in which speeds measured on this machine are kept.

    Returns:
        What was found, and whether it was read.
    """
    path = memory / f"{_key(prefix)}.json"
    if passes * seconds < WORTH_TRYING[prefix.device.type] and not path.exists():
        return None
    found, read = remembered(path, lambda: asdict(_tried(prefix, images)))
    return Trial(**found), read


def said(trial: Trial, passes: int, *, used: bool, read: bool) -> Decision:
    """What was decided, and why."""
    if trial.problem:
        return Decision(what="compiling the prefix", choice="no", why=trial.problem)
    speeds = f"{1 / trial.compiled:.0f} images a second against {1 / trial.plain:.0f}"
    saved = trial.saves(passes) + (0.0 if read else trial.compile)
    cost = f"compiling takes {trial.compile:.1f} s" if read else f"compiling took {trial.compile:.1f} s to find out"
    why = f"{speeds}; {cost}; over {passes} images it saves {saved:.0f} s" + (" (an earlier run)" if read else "")
    return Decision(what="compiling the prefix", choice="yes" if used else "no", why=why)


def _tried(prefix: Prefix, images: Images) -> Trial:
    good = np.flatnonzero(images.ids >= 0)
    pixels = images.pixels(np.resize(good, prefix.batch))
    compiled = prefix.compiled()
    started = time.perf_counter()
    try:
        rows = compiled(pixels)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no compiler is there, or the network is beyond it
        first = (str(error).strip().splitlines() or [""])[0]
        return Trial(problem=f"it cannot be compiled here: {type(error).__name__}: {first}")
    took = time.perf_counter() - started
    plain = prefix(pixels)
    cosine = float(torch.nn.functional.cosine_similarity(rows.flatten(1).double(), plain.flatten(1).double()).min())
    if not cosine >= COSINE:
        return Trial(problem=f"compiled it gives other features: cosine {cosine:.4f}, below {COSINE}")
    times = race([partial(prefix, pixels), partial(compiled, pixels)], prefix.device, warm=True)
    before, after = (each / len(pixels) for each in times)
    return Trial(compile=max(took - times[1], 0.0), plain=before, compiled=after)


def _key(prefix: Prefix) -> str:
    cut = list(prefix.cut.names) if prefix.cut else []
    parts = ["compiled", prefix.name, prefix.kind, cut, prefix.spec.size, str(prefix.recipe), prefix.batch]
    text = json.dumps([*parts, device_name(prefix.device), torch.__version__])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
