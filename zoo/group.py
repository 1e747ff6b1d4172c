"""The processes that train one model together, as torchrun starts them, or this process alone."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import ZooError

V = TypeVar("V")


class GroupError(ZooError):
    """Another process of the group has ended."""


@dataclass(frozen=True, slots=True)
class Group:
    """A process among those that train one model together; every method but `part` is called by all of them.

    Alone, each method does nothing, or gives back what it was given.

    Attributes:
        rank: number of this process among all.
        size: how many there are.
        local_rank: number of this process on its machine, and of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def part(self, rows: Tensor) -> Tensor:
        """This process's share of `rows` (N, …): neighbours, as even as can be, in the order of the ranks."""
        return rows if self.size == 1 else torch.tensor_split(rows, self.size)[self.rank]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            self.add(torch.zeros(1))

    def add(self, tensor: Tensor) -> None:
        """Replace `tensor` by the sum of everybody's."""
        if self.size > 1:
            with naming_peers():
                dist.all_reduce(tensor)

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Replace `tensors` by those of the first process."""
        if self.size > 1:
            with naming_peers():
                for tensor in tensors:
                    # What lies strided in memory is sent as it lies elsewhere.
                    sent = tensor.detach().contiguous()
                    dist.broadcast(sent, 0)
                    tensor.detach().copy_(sent)

    def join(self, part: Tensor) -> Tensor:
        """Everybody's `part` (n, …), one behind the other, (sum of n, …) on the CPU."""
        if self.size == 1:
            return part.cpu()
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(part)
        self.add(lengths)
        padded = torch.zeros((int(lengths.max()), *part.shape[1:]), dtype=part.dtype)
        padded[: len(part)] = part.cpu()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with naming_peers():
            dist.all_gather(found, padded)
        return torch.cat([own[:length] for own, length in zip(found, lengths.tolist(), strict=True)])

    def told(self, answer: bool) -> bool:
        """The first process's answer, the same for all."""
        if self.size == 1:
            return answer
        held = torch.tensor([answer])
        self.copy([held])
        return bool(held)

    def once(self, make: Callable[[], V]) -> V:
        """What `make`, called in the first process alone, gives: JSON values, the same for all."""
        if self.size == 1:
            return make()
        if self.first:
            value = make()
            content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
            self.copy([torch.tensor([len(content)])])
            self.copy([content])
            return value
        length = torch.zeros(1, dtype=torch.int64)
        self.copy([length])
        content = torch.empty(int(length), dtype=torch.uint8)
        self.copy([content])
        found: V = json.loads(content.numpy().tobytes())
        return found

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process of each machine does what is inside before its others, who then find it in the cache."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()


ALONE = Group()


def join_group(device: torch.device) -> tuple[Group, torch.device]:
    """The group that this process was started in: by torchrun, whose environment says so, else this process alone.

    Joined with gloo on a CPU, and with NCCL for what lies on a GPU, until the process ends.

    Returns:
        The group, and the process's own device: each process of a machine has a GPU of its own.
    """
    size, local = started_with(), int(os.environ.get("LOCAL_RANK", "0"))
    if size == 1:
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        # What processes of an earlier attempt, now dead, left there is no address of anybody.
        own = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=own, rank=rank, world_size=size)
        atexit.register(dist.destroy_process_group)
    return Group(rank=dist.get_rank(), size=size, local_rank=local), device


def started_with() -> int:
    """How many processes torchrun started with this one, itself counted; known before joining."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_rank() -> int:
    """Number of this process among those that torchrun started, 0 where it started none; known before joining."""
    return int(os.environ.get("RANK", "0")) if started_with() > 1 else 0


def restarted() -> bool:
    """Whether torchrun has started the processes anew, after one of them had ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


GONE = ("gloo", "NCCL", "Connection closed", "Connection reset")
"""What stands in the messages of the libraries when a peer has ended."""


@contextmanager
def naming_peers() -> Iterator[None]:
    """Inside, what the libraries say of a peer that is gone becomes one sentence.

    Raises:
        GroupError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not any(word in said for word in GONE):
            raise
        raise GroupError(f"another process of this run has ended: {said.splitlines()[0]}") from None
