"""The default head against a tuned logistic regression, on the same cached features and the same rows.

For each split `zoo train` is run with its defaults; then scikit-learn's logistic regression is fitted on the same
training rows, features standardised by them, its strength C chosen from a grid by the log loss of the validation rows.

    python benchmarks/head_against_logistic_regression.py [--splits 5] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

import zoo
from zoo.data.ingest import ingest
from zoo.data.table import read_table
from zoo.disk import cache_folder
from zoo.run.artifact import load_artifact
from zoo.run.pipeline import Pipeline

BACKBONE = "lite/efficientnet_lite0"
GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)


def features_of(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) of every row of ELPV as the run computed them, and the split of each."""
    artifact = load_artifact(run)
    pipeline = Pipeline(artifact, torch.device("cpu"), cache_folder())
    images = ingest(read_table("elpv").paths, artifact.model.view.input, cache_folder() / "images")
    splits = pl.read_csv(run / "splits.csv")["split"].to_numpy()
    return pipeline.features(images, np.arange(len(splits))).features.float().numpy(), splits


def tuned(features: np.ndarray, labels: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities of the test rows by the C that is best on the validation rows."""
    train, val, test = (splits == name for name in ("train", "val", "test"))
    mean, std = features[train].mean(0), features[train].std(0) + 1e-6
    scaled = (features - mean) / std
    models = {c: LogisticRegression(C=c, max_iter=500).fit(scaled[train], labels[train]) for c in GRID}
    best = min(GRID, key=lambda c: log_loss(labels[val], models[c].predict_proba(scaled[val])))
    return models[best].predict_proba(scaled[test]), best


def scores(labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    predicted = classes[probabilities.argmax(1)]
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predicted)),
        "log_loss": float(log_loss(labels, probabilities, labels=classes)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = read_table("elpv")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for target in ("defective", "defect"):
            labels = np.array(table.frame[target].to_list())
            classes = np.unique(labels)
            for seed in range(arguments.splits):
                run = Path(folder) / f"{target}-{seed}"
                zoo.train("elpv", backbone=BACKBONE, out=run, target=(target,), seed=seed, quiet=True)
                features, splits = features_of(run)
                test = pl.read_csv(run / "predictions.csv", infer_schema=False).filter(pl.col("split") == "test")
                own = np.stack([test[f"{target}.p({name})"].cast(pl.Float64).to_numpy() for name in classes], 1)
                fitted, c = tuned(features, labels, splits)
                ours = scores(test[target].to_numpy(), own, classes)
                rows.append({"target": target, "seed": seed, "C": c, "zoo": ours,
                             "logistic_regression": scores(labels[splits == "test"], fitted, classes)})  # fmt: skip
            for metric in ("accuracy", "balanced_accuracy", "log_loss"):
                shown = []
                for side in ("zoo", "logistic_regression"):
                    values = [row[side][metric] for row in rows if row["target"] == target]
                    spread = statistics.stdev(values) if len(values) > 1 else 0.0
                    shown.append(f"{side} {statistics.mean(values):.3f} ± {spread:.3f}")
                print(f"{target}, {metric}, {arguments.splits} splits: {', '.join(shown)}", flush=True)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"head_against_logistic_regression-{datetime.date.today().isoformat()}.json"
        path.write_text(json.dumps({"torch": torch.__version__, "backbone": BACKBONE, "rows": rows}, indent=2) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
