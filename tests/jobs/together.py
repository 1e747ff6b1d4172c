"""Started by torchrun in the tests of several processes: trains what a file of JSON says, run after run.

Beside each run the first process leaves `seen.json`: of each interval the rows of its epochs in their order, which
parameters train and which of them moved, how many numbers a process holds of them and how many they are.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

import zoo
from zoo.jobs import outcome, resume
from zoo.training.loop import Trainer
from zoo.training.shards import own_rows, whole


def kill_once(out, attempt):
    """The second process of an attempt is killed as soon as a state is saved."""

    def watch():
        while not (out / "checkpoint.safetensors").exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == attempt:
        threading.Thread(target=watch, daemon=True).start()


def watch_trainers(seen):
    """Every interval that is trained from now on joins `seen`."""
    fit, order = Trainer.fit, Trainer._order
    epochs = []

    def ordering(self, epoch):
        rows = order(self, epoch)
        epochs.append((epoch, rows.tolist()))
        return rows

    def watching(self, progress=None):
        training = {name: own for name, own in self.model.named_parameters() if own.requires_grad}
        before = {name: whole(own.detach()).clone() for name, own in training.items()}
        epochs.clear()
        found = fit(self, progress)
        seen.append(
            {
                "rows": [rows for _, rows in sorted(dict(epochs).items())],
                "trained": sorted(training),
                "moved": sorted(n for n, own in training.items() if not torch.equal(whole(own.detach()), before[n])),
                "held": sum(own_rows(own.detach()).numel() for own in training.values()),
                "remembered": sum(
                    own_rows(own).numel()
                    for parameter in training.values()
                    for own in self.optimiser.state.get(parameter, {}).values()
                ),
                "numbers": sum(own.numel() for own in training.values()),
            }
        )
        return found

    Trainer.fit, Trainer._order = watching, ordering


def main():
    outcome.render_report = lambda *_: ""  # pictures take longer than so small a run
    seen = []
    watch_trainers(seen)
    translate = torch.compile
    torch.compile = lambda function: translate(function, backend="aot_eager")  # no kernels are built
    for options in json.loads(Path(sys.argv[1]).read_text()):
        out = Path(options["out"])
        if (out / "run.json").exists():
            continue  # by an earlier attempt
        if attempt := options.pop("killed", None):
            resume.SHARE = 1e9  # save as often as is asked
            kill_once(out, attempt)
        seen.clear()
        zoo.train(**options)
        if os.environ["RANK"] == "0":
            (out / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
