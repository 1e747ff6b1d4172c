"""Two nodes train one run: network namespaces of this machine, joined by a virtual cable, with torchrun on each.

    sudo python benchmarks/two_nodes.py [--shard fsdp] [--freeze "last(1)"] [--out FILE.json]

Linux, as root, with `ip` of iproute2. Each node has a network of its own, a working folder and a cache of its own; they
share nothing but the images, which are drawn here, and the cable. Both find one another at the first node's address on
the cable (torchrun's c10d rendezvous) and train over gloo. The same run by one process, on no network, is what their
losses are compared with: they may differ by 1e-3 of themselves, or the exit code is 1. Namespaces, cable and processes
are gone afterwards, whatever happened.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

TOLERANCE = 1e-3
NETWORK = "10.203.77"
PORT = 29477
SECONDS = 600
"""After which a run that does not end is given up."""

RUN = ["--backbone", "timm/test_resnet", "--weights", "none", "--random-frozen", "--size", "64", "--batch-size", "8"]
RUN += [
    "--epochs",
    "3",
    "--device",
    "cpu",
    "--precision",
    "fp32",
    "--deterministic",
    "--batchnorm",
    "frozen",
    "--quiet",
]


def ip(*words):
    """Call `ip`, or say what it said."""
    found = subprocess.run(["ip", *words], capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(
            f"ip {' '.join(words)}: {found.stderr.strip()}; this needs root, or CAP_NET_ADMIN and SYS_ADMIN"
        )


def check_rights():
    """Say what is missing before anything is made."""
    if sys.platform != "linux":
        raise SystemExit(f"network namespaces are Linux's, and this is {sys.platform}")
    if shutil.which("ip") is None:
        raise SystemExit("ip is not installed: it comes with iproute2, as in apt-get install iproute2")
    if os.geteuid() != 0:
        raise SystemExit("making network namespaces takes root: sudo python benchmarks/two_nodes.py")


@contextmanager
def two_namespaces():
    """Two namespaces and the devices of the cable between them, as (namespace, device, address); removed behind."""
    own = os.getpid()
    nodes = [(f"zoo-{own}-{number}", f"zoo{own}n{number}"[-15:], f"{NETWORK}.{number}") for number in (1, 2)]
    with ExitStack() as stack:
        for name, _, _ in nodes:
            ip("netns", "add", name)
            stack.callback(remove, name)
        (_, first, _), (_, second, _) = nodes
        ip("link", "add", first, "type", "veth", "peer", "name", second)
        # Where moving it into a namespace fails; else it is gone with the namespace.
        stack.callback(subprocess.run, ["ip", "link", "del", first], check=False, stderr=subprocess.DEVNULL)
        for name, device, address in nodes:
            ip("link", "set", device, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield nodes


def remove(name):
    """A namespace, with what still runs in it: workers outlive a torchrun that was killed."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    for pid in map(int, found.stdout.split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], check=False)


def draw(folder):
    """Fifty-one noisy images of two classes, so that nothing divides evenly."""
    draws = np.random.default_rng(0)
    for row in range(51):
        path = folder / ("dark" if row % 3 else "bright") / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 160, (64, 64, 3)) + (0 if row % 3 else 60)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def environment(folder, **more):
    """Of a node: a cache of its own, one thread."""
    return {**os.environ, "ZOO_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", **more}


def alone(data, folder, options):
    """The run by one process."""
    folder.mkdir()
    words = [sys.executable, "-m", "zoo", "train", str(data), "--out", "run", *RUN, *options]
    subprocess.run(words, check=True, cwd=folder, env=environment(folder), stdout=sys.stderr, timeout=SECONDS)
    return folder / "run"


def together(data, root, nodes, options):
    """The run by two nodes, each of which is a process of torchrun; the folder of the one that wrote it."""
    endpoint = f"{nodes[0][2]}:{PORT}"
    with ExitStack() as stack:
        started = []
        for number, (name, device, address) in enumerate(nodes, 1):
            folder = root / f"node{number}"
            folder.mkdir()
            words = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"]
            words += ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
            words += ["--rdzv-id", "zoo", "--rdzv-conf", f"is_host={int(number == 1)}", "--local-addr", address]
            words += ["-m", "zoo", "train", str(data), "--out", "run", *RUN, *options]
            own = environment(folder, GLOO_SOCKET_IFNAME=device)
            process = subprocess.Popen(words, cwd=folder, env=own, stdout=sys.stderr, start_new_session=True)
            stack.callback(end, process)
            started.append(process)
        deadline = time.monotonic() + SECONDS
        codes = [None]
        while None in codes and not any(codes) and time.monotonic() < deadline:
            time.sleep(0.1)
            codes = [process.poll() for process in started]
    if any(codes) or None in codes:
        raise SystemExit(f"the nodes ended with {codes}; None is one that was still running")
    written = [root / f"node{number}" / "run" for number in (1, 2)]
    return next(folder for folder in written if (folder / "run.json").exists())


def end(process):
    """A node and all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def losses(run):
    """Of each epoch, training and validation."""
    with (run / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [[float(row[name]) for name in row if name == "train_loss" or name.endswith("log_loss")] for row in rows]


def rows_scored(run):
    """How many rows each split's figures rest on."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {split: scores["rows"] for by_split in metrics.values() for split, scores in by_split.items()}


def compared(one, two):
    """The figures."""
    pairs = [pair for epochs in zip(losses(one), losses(two), strict=True) for pair in zip(*epochs, strict=True)]
    return {
        "largest_relative_difference_of_a_loss": max(abs(a - b) / abs(a) for a, b in pairs),
        "losses_compared": len(pairs),
        "rows_scored_by_one_process": rows_scored(one),
        "rows_scored_by_two_nodes": rows_scored(two),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", choices=["fsdp"], help="as of zoo train")
    parser.add_argument("--freeze", default="none", help="as of zoo train")
    parser.add_argument("--out", type=Path, help="write the result to this file too")
    options = parser.parse_args()
    check_rights()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))  # so that what was made is removed
    train = ["--freeze", options.freeze]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = draw(root / "data")
        one = alone(data, root / "one", train)
        with two_namespaces() as nodes:
            shard = ["--shard", options.shard] if options.shard else []
            two = together(data, root, nodes, [*train, *shard])
        figures = compared(one, two)
    holds = figures["largest_relative_difference_of_a_loss"] <= TOLERANCE
    holds &= figures["rows_scored_by_one_process"] == figures["rows_scored_by_two_nodes"]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "freeze": options.freeze,
        "by": options.shard or "ddp",
        **figures,
        "tolerance": TOLERANCE,
        "holds": holds,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("backbone-zoo", "torch", "torchvision", "timm")},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not holds:
        raise SystemExit("two nodes do not train as one process does")


if __name__ == "__main__":
    main()
