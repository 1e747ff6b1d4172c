"""Whether what trains moves and nothing else does: watched in the first step of each interval, and at its end."""

from __future__ import annotations

from zoo.errors import IntegrityError
from zoo.features.choose import Decision
from zoo.jobs.job import Job
from zoo.model.freeze import Frozen, digest_tensor
from zoo.model.network import FineTuneModel
from zoo.model.reach import reached_parameters
from zoo.training.first_step import FirstStep, named


class Watch:
    """Watches one interval of a run; to be made when its first step is next, outside of any suffix.

    Args:
        job: whose interval it is.
        frozen: what it froze.
    """

    def __init__(self, job: Job, frozen: Frozen) -> None:
        self._model, self._policy = job.model, job.policy.text
        reached = reached_parameters(job.model)
        self._reached = frozenset(reached)
        self.first = FirstStep(reached=frozenset(map(id, reached.values())), verify=frozen.verify)
        self._before = self._digests()

    def first_in(self, model: FineTuneModel) -> FirstStep:
        """What the first step is held against; `model` is the run's, or a twin whose parameters are its own."""
        own = model.named_parameters()
        self.first.reached = frozenset(id(parameter) for name, parameter in own if name in self._reached)
        return self.first

    def _digests(self) -> dict[str, str]:
        own = self._model.named_parameters()
        return {name: digest_tensor(parameter) for name, parameter in own if parameter.requires_grad}

    def end(self) -> tuple[Decision, ...]:
        """What stood still although it trains, and why; nothing where all of it moved.

        Raises:
            IntegrityError: none of it moved, although it got gradients.
        """
        still = [name for name, digest in self._digests().items() if self._before[name] == digest]
        if len(still) == len(self._before) and self.first.pushed:
            raise IntegrityError(f"nothing moved of what policy {self._policy} trains, although it got gradients")
        apart = [name for name in still if name not in self._reached]
        idle = [name for name in still if name in self._reached]
        count = f"of {len(self._before)} trainable tensors"
        found = []
        if apart:
            why = f"the heads' features ({self._model.kind}) do not depend on them: {named(apart)}"
            found.append(Decision(what="trainable, but not used", choice=f"{len(apart)} {count}", why=why))
        if idle:
            why = f"their gradient was zero, or too small to change them: {named(idle)}"
            found.append(Decision(what="trainable, but not moved", choice=f"{len(idle)} {count}", why=why))
        return tuple(found)
