"""Reading ahead changes nothing but the waiting: same batches, same errors, nothing left behind."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import torch

from zoo.data.augment import Augmenter
from zoo.data.ingest import ingest
from zoo.data.light import Light
from zoo.specs import InputSpec
from zoo.training.inputs import Staged
from zoo.training.live import Pixels
from zoo.training.prefetch import Prefetched

CPU = torch.device("cpu")
PARTS = list(torch.split(torch.arange(20), 4))


class Watched(Staged):
    """Writes down what is read, in which thread, and what is finished."""

    device = CPU

    def __init__(self, *, slow=0.0, broken=None):
        self.slow, self.broken = slow, broken
        self.read, self.finished, self.threads = [], [], set()

    def gather(self, rows, epoch):
        time.sleep(self.slow)
        if int(rows[0]) == self.broken:
            raise OSError("the disk is gone")
        self.threads.add(threading.current_thread().name)
        self.read.append(int(rows[0]))
        return (rows * 2,)

    def finish(self, gathered, rows, epoch):
        assert threading.current_thread() is threading.main_thread()
        self.finished.append(int(rows[0]))
        return (gathered[0] + (epoch or 0),)


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("zoo-prefetch")]


def until(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_batches_are_those_without_reading_ahead_in_order(depth):
    inputs = Prefetched(Watched(), depth=depth)
    for epoch in (None, 3):
        given = [batch[0].tolist() for batch in inputs.batches(PARTS, epoch)]
        assert given == [(part * 2 + (epoch or 0)).tolist() for part in PARTS]
    assert torch.equal(inputs.take(PARTS[1], 5)[0], PARTS[1] * 2 + 5)
    assert inputs.taken_batches == 10
    assert workers() == []


def test_augmented_pixels_are_the_same_read_ahead_or_not(shapes, tmp_path):
    images = ingest(shapes(20)[0], InputSpec(size=(16, 16), resize=16), tmp_path / "images")
    pixels = Pixels(images, CPU, channels_last=True, augment=Augmenter((Light(),), seed=1))
    for batch, part in zip(Prefetched(pixels).batches(PARTS, 2), PARTS, strict=True):
        assert torch.equal(batch[0], pixels.take(part, 2)[0])


@pytest.mark.gpu
def test_a_gpu_sees_the_same_pixels_read_ahead_or_not(shapes, tmp_path):
    images = ingest(shapes(20)[0], InputSpec(size=(64, 64), resize=64), tmp_path / "images")
    pixels = Pixels(images, torch.device("cuda"), channels_last=True, augment=Augmenter((Light(),), seed=1))
    parts = PARTS * 20
    expected = [pixels.take(part, 2)[0].sum() for part in parts]
    # Work on the step's stream, so that a copy that is not waited for, or memory used again too soon, would show.
    busy = torch.randn(2048, 2048, device="cuda")
    for batch, total in zip(Prefetched(pixels).batches(parts, 2), expected, strict=True):
        busy = (busy @ busy).tanh()
        assert torch.equal(batch[0].sum(), total)


def test_so_many_are_read_ahead_and_no_more():
    inputs = Watched()
    with closing(Prefetched(inputs, depth=2).batches(PARTS)) as given:
        next(given)
        until(lambda: len(inputs.read) == 3)
        time.sleep(0.05)
        assert (inputs.read, inputs.finished) == ([0, 4, 8], [0])
    assert all(name.startswith("zoo-prefetch") for name in inputs.threads)


def test_an_error_in_reading_is_raised_at_its_batch_and_leaves_no_thread():
    inputs = Watched(broken=8)
    given = Prefetched(inputs).batches(PARTS)
    assert len([next(given), next(given)]) == 2
    with pytest.raises(OSError, match="the disk is gone"):
        next(given)
    assert workers() == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_stop_in_the_loop_leaves_no_thread_and_reads_no_further(stop):
    inputs = Watched(slow=0.01)

    def loop():
        with closing(Prefetched(inputs).batches(PARTS * 50)) as given:
            for _ in given:
                raise stop

    with pytest.raises(stop):
        loop()
    assert workers() == []
    assert len(inputs.read) <= 4


def test_only_the_waiting_is_counted():
    slow, idle = Prefetched(Watched(slow=0.03)), Prefetched(Watched())
    for _ in slow.batches(PARTS):
        pass
    for _ in idle.batches(PARTS):
        time.sleep(0.03)  # a step much longer than the reading
    assert slow.waited_seconds >= 5 * 0.03 * 0.9
    assert idle.waited_seconds < slow.waited_seconds


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        Prefetched(Watched(), depth=0)


def test_no_parts_give_no_batches():
    assert list(Prefetched(Watched()).batches([])) == []
