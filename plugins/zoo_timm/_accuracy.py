"""ImageNet accuracies as timm publishes them, in its repository and not in its package.

To take over newer figures: `python -m zoo_timm._accuracy results-imagenet.csv COMMIT` with the file of that commit.
"""

from __future__ import annotations

import csv
import json
import sys
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("accuracy.json")
SOURCE = "https://github.com/huggingface/pytorch-image-models/blob/{commit}/results/results-imagenet.csv"


@cache
def published() -> dict[str, float]:
    """Top-1 accuracy in percent on ImageNet-1K's validation images by `model.tag`, at the size that timm tested."""
    found: dict[str, float] = json.loads(FILE.read_text(encoding="utf-8"))["top1_percent"]
    return found


def convert(table: Path, commit: str) -> str:
    """The content of `accuracy.json` from timm's table of that commit; of several sizes of one model the best."""
    best: dict[str, float] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            best[row["model"]] = max(float(row["top1"]), best.get(row["model"], 0.0))
    lines = ",\n".join(f"{json.dumps(name)}: {value}" for name, value in sorted(best.items()))
    source = json.dumps(SOURCE.format(commit=commit))
    return f'{{"source": {source}, "licence": "Apache-2.0", "top1_percent": {{\n{lines}\n}}}}\n'


if __name__ == "__main__":
    FILE.write_text(convert(Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")
