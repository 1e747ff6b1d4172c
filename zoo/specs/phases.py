"""When what trains: the timeline of a run, owned by the core."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A stretch of epochs in which the same parameters train.

    Attributes:
        name: for reports.
        start, stop: epochs from the start of the run, `stop` excluded.
        trainable: parameter names of the backbone that train; the heads always do.
        rate: factor on the run's learning rate.
        restart: whether the schedule of the learning rate begins anew, with its warm-up.
    """

    name: str
    start: int
    stop: int
    trainable: frozenset[str]
    rate: float = 1.0
    restart: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"phase {self.name!r} runs from epoch {self.start} to {self.stop}")
        if self.rate <= 0:
            raise ValueError(f"phase {self.name!r}: rate must be positive, not {self.rate}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The phases of a run in order, without gap or overlap, from epoch 0."""

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        at = 0
        for phase in self.phases:
            if phase.start != at:
                raise ValueError(f"phase {phase.name!r} starts at epoch {phase.start}, the one before ends at {at}")
            at = phase.stop
        if not self.phases:
            raise ValueError("a timeline has at least one phase")

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return self.phases[-1].stop

    def span(self, number: int) -> tuple[int, int]:
        """First epoch, and the one after the last, of the schedule of learning rates that phase `number` is part of."""
        begins = [0, *(phase.start for phase in self.phases if phase.restart), self.epochs]
        start = self.phases[number].start
        first = max(epoch for epoch in begins[:-1] if epoch <= start)
        return first, min(epoch for epoch in begins if epoch > start)

    def at(self, epoch: int) -> Phase:
        """The phase that holds `epoch`."""
        for phase in self.phases:
            if phase.start <= epoch < phase.stop:
                return phase
        raise ValueError(f"epoch {epoch} lies outside a run of {self.epochs}")
