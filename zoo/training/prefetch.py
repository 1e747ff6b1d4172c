"""Inputs read ahead: while a step computes, a thread reads what the next steps need and sends it to the GPU."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from zoo.training.inputs import Inputs, Staged, Tensors

DEPTH = 2
"""Batches read ahead: one on its way and one that waits; more only hold memory where reading is the slower part."""

Sent = tuple[Tensors, torch.cuda.Event | None]


class Prefetched(Inputs):
    """`inputs`, of which `batches` reads ahead; what they give is the same.

    Only reading and copying run ahead. What computes (augmentation, normalisation, a frozen prefix) stays where the
    step is, because on a CPU it would take the step's cores, and on a GPU its order then needs no care.

    Args:
        inputs: taken in two steps.
        depth: batches that are read ahead.

    Attributes:
        waited_seconds: how long whoever iterates over `batches` has waited for a batch to be read, all calls together.
        taken_batches: how many batches that were.

    Raises:
        ValueError: a depth below 1.
    """

    def __init__(self, inputs: Staged, *, depth: int = DEPTH) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._inputs = inputs
        self._depth = depth
        self._stream: torch.cuda.Stream | None = None
        if inputs.device.type == "cuda":
            self._stream = torch.cuda.Stream(inputs.device)  # type: ignore[no-untyped-call]
        self.waited_seconds = 0.0
        self.taken_batches = 0

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """As the inputs themselves give it, nothing ahead."""
        return self._inputs.take(rows, epoch)

    def batches(self, parts: Sequence[Tensor], epoch: int | None = None) -> Generator[Tensors, None, None]:
        """What `take` gives for each part, in order, read `depth` parts ahead.

        What goes wrong in reading is raised at the part that it concerns. Closed early, it waits for the batch that is
        being read and drops the others.
        """
        waiting = iter(parts)
        pool = ThreadPoolExecutor(1, thread_name_prefix="zoo-prefetch")
        try:
            flying: deque[Future[Sent]] = deque(
                pool.submit(self._send, rows, epoch) for rows in itertools.islice(waiting, self._depth)
            )
            for rows in parts:
                arrived = self._receive(flying.popleft())
                flying.extend(pool.submit(self._send, later, epoch) for later in itertools.islice(waiting, 1))
                yield self._inputs.finish(arrived, rows, epoch)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _send(self, rows: Tensor, epoch: int | None) -> Sent:
        """In the thread: read, and start the copy to the GPU on a stream of its own."""
        # Around the reading too: page-locking asks for the thread's device, which is the first one in a new thread.
        with torch.cuda.stream(self._stream):
            gathered = self._inputs.gather(rows, epoch)
            if self._stream is None:
                return gathered, None
            moved = tuple(part.to(self._stream.device, non_blocking=True) for part in gathered)
            return moved, self._stream.record_event()

    def _receive(self, future: Future[Sent]) -> Tensors:
        """In the loop: wait until it is read, and let the GPU, not this thread, wait for the copy."""
        began = time.perf_counter()
        tensors, copied = future.result()
        self.waited_seconds += time.perf_counter() - began
        self.taken_batches += 1
        if copied is not None:
            current = torch.cuda.current_stream(tensors[0].device)
            current.wait_event(copied)
            for part in tensors:
                # Its memory belongs to the copying stream, which must not reuse it before the step has read it.
                part.record_stream(current)
        return tensors
