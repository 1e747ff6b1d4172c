"""Head-only fine-tuning: the tutorial's loop against `zoo train`, on the same rows, in turn, in fresh processes.

The tutorial's loop is what people copy: freeze every parameter, put a new layer where the classifier was, call
`train()`, send every image through the whole network in every epoch in float32, Adam on the new layer, and keep the
epoch that is best on validation rows. Its BatchNorm statistics move, as the tutorial's do; no BatchNorm parameter
trains.

    python benchmarks/tutorial_loop.py [--rounds 3] [--epochs 10] [--out benchmarks/results]

Both sides run in a process of their own with an empty cache. The time compared is from the table of files to
predictions for the held-out rows: decoding is in it, process start and imports are shown apart.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BACKBONE = "lite/efficientnet_lite0"


def tutorial(run: Path, epochs: int, seed: int, device: str) -> dict[str, float]:
    """The tutorial's loop over the rows of a finished run's splits.csv."""
    started = time.perf_counter()
    import numpy as np
    import polars as pl
    import torch
    from PIL import Image
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from zoo.data.table import read_table
    from zoo.model.view import build_view

    imported = time.perf_counter()
    torch.manual_seed(seed)
    table = read_table("elpv", targets=("defective",))
    splits = pl.read_csv(run / "splits.csv")["split"].to_list()
    labels = table.frame["defective"].to_list()
    classes = sorted(set(labels))
    view = build_view(BACKBONE)
    spec = view.input
    transform = transforms.Compose(
        [
            transforms.Resize(spec.resize, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(spec.size),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )

    class Cells(Dataset):
        def __init__(self, split: str) -> None:
            self.rows = [row for row, own in enumerate(splits) if own == split]

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, at: int):
            row = self.rows[at]
            with Image.open(table.paths[row]) as image:
                return transform(image.convert("RGB")), classes.index(labels[row])

    workers = min(2, os.cpu_count() or 1) if device == "cuda" else 0
    loaders = {
        split: DataLoader(Cells(split), batch_size=64, shuffle=split == "train", num_workers=workers)
        for split in ("train", "val", "test")
    }
    model = view.module
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.classifier = nn.Linear(model.classifier.in_features, len(classes))
    model.to(device)
    optimiser = torch.optim.Adam(model.classifier.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def accuracy(split: str) -> float:
        model.eval()
        right = 0
        with torch.no_grad():
            for images, truth in loaders[split]:
                right += int((model(images.to(device)).argmax(1).cpu() == truth).sum())
        return right / len(loaders[split].dataset)

    best, kept = -1.0, None
    for _ in range(epochs):
        model.train()
        for images, truth in loaders["train"]:
            optimiser.zero_grad()
            loss = criterion(model(images.to(device)), truth.to(device))
            loss.backward()
            optimiser.step()
        found = accuracy("val")
        if found > best:
            best, kept = found, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    test = accuracy("test")
    done = time.perf_counter()
    return {"seconds": done - imported, "import_seconds": imported - started, "accuracy": float(np.float64(test))}


def ours(run: Path, epochs: int, seed: int, device: str) -> dict[str, float]:
    """`zoo train` with its defaults, by the same metric."""
    started = time.perf_counter()
    import torchvision  # noqa: F401 - what the job would import, so that it is shown apart for both

    import zoo.jobs.train
    import zoo.metrics.classification

    imported = time.perf_counter()
    result = zoo.jobs.train.train(
        "elpv",
        backbone=BACKBONE,
        out=run,
        target=("defective",),
        epochs=epochs,
        seed=seed,
        device=device,
        metric="accuracy",
        overwrite=True,
        quiet=True,
    )
    done = time.perf_counter()
    return {
        "seconds": done - imported,
        "import_seconds": imported - started,
        "accuracy": result.metrics["defective"]["test"]["accuracy"],
        "precision": result.run["backbone"]
        and next(d["choice"] for d in result.run["decisions"] if d["what"] == "prefix"),
        **{f"{name}_seconds": value for name, value in result.run["seconds"].items()},
    }


def in_process(side: str, run: Path, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    """One side in a fresh process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, __file__, "--side", side, "--run", str(run), "--epochs", str(arguments.epochs)]
        words += ["--seed", str(seed), "--device", arguments.device]
        began = time.perf_counter()
        done = subprocess.run(
            words, env={**os.environ, "ZOO_CACHE": cache}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        return {**found, "process_seconds": time.perf_counter() - began}


def machine() -> dict[str, str]:
    import torch
    import torchvision

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = f"{len(models)} x {models[0].partition(':')[2].strip()}" if models else name
    return {
        "cpu": name,
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "date": datetime.date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="folder for a dated result file")
    parser.add_argument("--side", choices=("ours", "tutorial"), help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.side:
        side = {"ours": ours, "tutorial": tutorial}[arguments.side]
        print(json.dumps(side(arguments.run, arguments.epochs, arguments.seed, arguments.device)))
        return
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            seed = arguments.seed + number
            run = Path(folder) / f"run{number}"
            found = {side: in_process(side, run, arguments, seed) for side in ("ours", "tutorial")}
            ratio = found["tutorial"]["seconds"] / found["ours"]["seconds"]
            rounds.append({"seed": seed, **found, "ratio": ratio})
            print(f"round {number + 1} of {arguments.rounds}, seed {seed}")
            for side, own in found.items():
                print(
                    f"  {side:<8}  {own['seconds']:8.1f} s (imports {own['import_seconds']:.1f} s more), "
                    f"accuracy {own['accuracy']:.4f} on held-out rows"
                )
            print(f"  ratio     {ratio:8.1f}", flush=True)
    median = statistics.median(one["ratio"] for one in rounds)
    means = {side: statistics.mean(one[side]["accuracy"] for one in rounds) for side in ("ours", "tutorial")}
    spread = [round(one["ratio"], 1) for one in rounds]
    print(
        f"{BACKBONE} on ELPV (2 classes), head only, {arguments.epochs} epochs, {arguments.device}: median ratio "
        f"{median:.1f} of {spread}; mean accuracy {means['ours']:.4f} against the tutorial's {means['tutorial']:.4f}"
    )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        about = machine()
        path = arguments.out / f"tutorial_loop-{arguments.device}-{about['date']}.json"
        result = {"machine": about, "epochs": arguments.epochs, "device": arguments.device, "rounds": rounds}
        path.write_text(json.dumps({**result, "median_ratio": median, "mean_accuracy": means}, indent=2) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
