"""Small tables of features whose heads can be fitted in every way."""

import dataclasses

import pytest
import torch

from zoo.model.network import TaskHeads
from zoo.specs import Phase, Target, Task, Timeline, parse_options
from zoo.training.inputs import Inputs
from zoo.training.optimiser import Rates
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer


class Fixed(Inputs):
    """Inputs that are there already; counts how often rows were asked for."""

    def __init__(self, features):
        self.features = features
        self.asked = 0

    def take(self, rows, epoch=None):
        self.asked += 1
        return (self.features[rows],)


@dataclasses.dataclass
class Toy:
    """What `fit_on_features` takes."""

    heads: TaskHeads
    data: Data
    tasks: tuple[Task, ...]
    answers: dict[str, Answer]
    settings: Settings

    @property
    def job(self):
        return self.heads, self.data, self.tasks, self.answers, self.settings

    def joined(self, rows):
        """Standardised features and covariates, as a linear head sees them."""
        features = self.heads.standardise(self.data.inputs.features[rows])
        return features if self.data.covariates is None else torch.cat([features, self.data.covariates[rows]], 1)


def make_settings(l2=0.01, epochs=3, lr=0.01, **fields):
    phase = Phase(name="head", start=0, stop=epochs, trainable=frozenset())
    defaults = {
        "timeline": Timeline(phases=(phase,)),
        "rates": Rates(head=lr, backbone=1e-3, weight_decay=0.05, head_l2=l2, warmup=0.1),
        "batch_size": 16,
        "metric": "log_loss",
        "seed": 0,
        "autocast": False,
        "device": torch.device("cpu"),
    }
    return Settings(**{**defaults, **fields})


def make_target(features, classes, generator, *, holes, weights):
    labels = (features[:, 0, :classes] if features.ndim == 3 else features[:, :classes]).argmax(1)
    # Some labels are wrong, so that nothing is separable.
    wrong = torch.rand(len(labels), generator=generator) < 0.2
    labels = torch.where(wrong, torch.randint(0, classes, labels.shape, generator=generator), labels)
    mask = torch.ones(len(labels), dtype=torch.bool)
    if holes:
        mask = torch.rand(len(labels), generator=generator) > 0.2
        labels = torch.where(mask, labels, -100)
    weight = torch.rand(len(labels), generator=generator) + 0.5 if weights else None
    return Target(value=labels, mask=mask, weight=weight)


@pytest.fixture
def toy():
    """Makes a toy: tasks of 3 and of 2 classes as asked for, 120 rows, of which the last 40 validate."""

    def make(
        head="linear",
        tasks=1,
        covariates=0,
        holes=False,
        weights=False,
        classes=None,
        tokens=0,
        width=8,
        rows=120,
        **own,
    ):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        features = 2 * torch.randn(rows, *([tokens] if tokens else []), width, generator=generator) + 1
        names = (Task(name="kind", classes=("a", "b", "c")), Task(name="other.one", classes=("x", "y")))[:tasks]
        heads = TaskHeads(names, width, covariates=covariates, head=parse_options(head)[0])
        heads.standardise.fit(features[:80])
        data = Data(
            inputs=Fixed(features),
            covariates=torch.randn(rows, covariates, generator=generator) if covariates else None,
            targets={
                task.name: make_target(features, task.outputs, generator, holes=holes, weights=weights)
                for task in names
            },
            train=torch.arange(80)[torch.randperm(80, generator=generator)],
            val=torch.arange(80, rows),
        )
        answers = {task.name: Answer(element_weights=classes if task.outputs == 3 else None) for task in names}
        return Toy(heads, data, names, answers, make_settings(**own))

    return make
