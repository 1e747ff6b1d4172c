"""Started by torchrun in the tests of several processes: trains what a file of JSON says, run after run."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import zoo
from zoo.jobs import resume


def kill_once(out: Path) -> None:
    """The second process of the first attempt is killed as soon as a state is saved."""

    def watch() -> None:
        while not (out / "checkpoint.safetensors").exists():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    runs = json.loads(Path(sys.argv[1]).read_text())
    for options in runs:
        if options.pop("killed", False):
            resume.SHARE = 1e9  # save as often as is asked
            kill_once(Path(options["out"]))
        zoo.train(**options)
