"""The settings of a process that no plugin may change, and a shelter that puts them back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from zoo.testing.check import require

# The legacy functions are meant here: the state that others may rely on is theirs.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "torch's precision of matrix products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "the random numbers of Python": (random.getstate, random.setstate),
    "the random numbers of numpy": (np.random.get_state, np.random.set_state),
}


def settings() -> dict[str, Any]:
    """The present value of each setting."""
    return {name: read() for name, (read, _) in SETTINGS.items()}


def changed_since(before: dict[str, Any]) -> list[str]:
    """Names of the settings that are not what they were."""
    return [name for name, value in settings().items() if not _same(value, before[name])]


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, tuple):  # states of random numbers, in which arrays stand
        return all(np.array_equal(left, right) for left, right in zip(one, two, strict=True))
    return bool(one == two)


@contextmanager
def sheltered() -> Iterator[dict[str, Any]]:
    """Gives the settings as they are within, and puts them and torch's random numbers back at the end.

    Within, torch has one thread: what is computed is tiny, and on a busy machine threads wait for one another.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = settings()
    with torch.random.fork_rng(devices=[]):
        try:
            yield before
        finally:
            for name in changed_since(before):
                SETTINGS[name][1](before[name])
            torch.set_num_threads(threads)


def check_draws(answer: Callable[[], object]) -> None:
    """All randomness of `answer` comes from the generator that it makes: the global ones are neither read nor moved.

    Raises:
        CheckFailedError: it changes a setting of the process, or gives another fingerprint under other global seeds.
    """
    answers = []
    for seed in (8191, 131071):  # odd ones: whoever sets the state to a usual seed is to be seen
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        with sheltered() as before:
            answers.append(answer())
            changed = changed_since(before)
        require(not changed, f"it changes {', '.join(changed)}")
    require(answers[0] == answers[1], "the same generator gives something else the second time")
