"""What all sides share: the rows, the network, the layers that train, the scores."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass

import numpy as np
import torch

from zoo.data.splits import make_splits
from zoo.data.table import read_table
from zoo.model.view import build_view
from zoo.specs import parse_policy

TARGET = "defective"
CLASSES = ("defective", "functional")


def write_table(path, rows, seed):
    """Write the table of files: ELPV, or `rows` of it, always the same ones, split by the seed in zoo's own way.

    Every file is read once, so that the first side does not pay for a cold disk.
    """
    table = read_table("elpv", targets=(TARGET,))
    if rows:
        order = np.lexsort((table.frame["type"].to_numpy(), table.frame[TARGET].to_numpy()))
        # Evenly spaced in the order of class and kind: each keeps its share.
        table = table.take(np.sort(order[np.linspace(0, len(order) - 1, rows).round().astype(np.int64)]))
    splits = make_splits(table, np.ones(len(table), dtype=bool), seed=seed)
    names = {int(row): name for name in ("train", "val", "test") for row in getattr(splits, name)}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", TARGET, "split"])
        for row, (image, label) in enumerate(zip(table.paths, table.frame[TARGET], strict=True)):
            image.read_bytes()
            writer.writerow([image, label, names[row]])
    return path


def read_rows(path):
    """Images and labels by split."""
    found = {"train": [], "val": [], "test": []}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["split"]].append((row["image"], row[TARGET]))
    return found


@dataclass(frozen=True, kw_only=True)
class Network:
    """The backbone's own module with a new classifier, and its parameters by what the scenario does with them.

    Attributes:
        frozen, stages, classifier: parameters of the frozen stages, of the trainable ones, and of the classifier.
    """

    module: torch.nn.Module
    input: object
    frozen: tuple[torch.nn.Parameter, ...]
    stages: tuple[torch.nn.Parameter, ...]
    classifier: tuple[torch.nn.Parameter, ...]

    @property
    def rates(self):
        """(parameters, learning rate) of what trains: the rates that `zoo train` takes through a network."""
        return [(part, rate) for part, rate in ((self.stages, 1e-4), (self.classifier, 1e-3)) if part]


def build(given):
    """The network, in training mode as every library gives it; not part of a peer's time."""
    torch.manual_seed(given.seed)
    view = build_view(given.scenario.backbone, given.scenario.weights)
    view.reset_classifier(view.module, len(CLASSES))
    trained = {
        name for stage in parse_policy(given.scenario.freeze).trainable_stages(view) for name in stage.parameters
    }
    standing = {name for stage in view.stages for name in stage.parameters} - trained
    parts = {"frozen": [], "stages": [], "classifier": []}
    for name, parameter in view.module.named_parameters():
        part = "frozen" if name in standing else "stages" if name in trained else "classifier"
        parts[part].append(parameter)
    return Network(module=view.module, input=view.input, **{name: tuple(part) for name, part in parts.items()})


class FrozenNorms:
    """Looks whether the BatchNorms of the frozen part stood still."""

    def __init__(self, network):
        frozen = {id(parameter) for parameter in network.frozen}
        self._norms = [
            part
            for part in network.module.modules()
            if isinstance(getattr(part, "running_mean", None), torch.Tensor) and id(part.weight) in frozen
        ]
        self._before = [self._state(part) for part in self._norms]

    @staticmethod
    def _state(norm):
        return {name: tensor.detach().cpu().clone() for name, tensor in norm.state_dict().items()}

    def moved(self):
        """Number of frozen BatchNorms, and whether their statistics moved and their weights trained."""
        changed = {
            name
            for norm, before in zip(self._norms, self._before, strict=True)
            for name, tensor in self._state(norm).items()
            if not torch.equal(tensor, before[name])
        }
        return {
            "layers": len(self._norms),
            "statistics_move": "running_mean" in changed or "running_var" in changed,
            "affine_trains": "weight" in changed or "bias" in changed,
        }


def scores(truth, predicted):
    """Accuracy and balanced accuracy of held-out rows, classes by name."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, predicted)),
    }


def now(device):
    """Seconds, once the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def settings():
    """What torch was set to when the side had finished."""
    found = {"threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found |= {
            "gpu": torch.cuda.get_device_name(0),
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "peak_gpu_mib": round(torch.cuda.max_memory_allocated() / 2**20),
        }
    return found
