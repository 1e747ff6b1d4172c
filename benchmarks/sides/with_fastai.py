"""fastai on the same files and rows, with the same network, through its own loaders, learner and schedules.

Head only: `freeze()` and `fit`; last stage: `freeze_to(-2)` and `fit_one_cycle`; everything: `fit_one_cycle`, or
`fine_tune` for `fastai-fine_tune`, whose first epoch is the frozen one. BatchNorm as fastai has it by default: it
trains in frozen parts too (`train_bn=True`). No augmentation, as on every side; the best epoch by accuracy is kept.
"""

from __future__ import annotations

import pandas as pd
import torch
from fastai.callback.tracker import SaveModelCallback
from fastai.vision.all import (
    CropPad,
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    accuracy,
    set_seed,
)
from PIL import Image

from sides.common import FrozenNorms, build, now, read_rows, scores


def run(given):
    """From the table of files to predictions of held-out rows; the network is built before the clock starts."""
    network = build(given)
    norms = FrozenNorms(network)
    set_seed(given.seed)
    device = torch.device(given.device)
    started = now(device)
    rows = read_rows(given.table)
    learner = Learner(
        loaders(given, network, rows, device),
        network.module,
        loss_func=CrossEntropyLossFlat(),
        splitter=lambda _: [list(part) for part in (network.frozen, network.stages, network.classifier) if part],
        metrics=accuracy,
        path=given.folder,
        model_dir="fastai",
        cbs=SaveModelCallback(monitor="accuracy"),
    )
    if given.side.endswith("-amp"):
        learner.to_bf16()
    with learner.no_bar(), learner.no_logging():
        how = fit(learner, given, network)
        moved = norms.moved()
        frame = pd.DataFrame(rows["test"], columns=["image", "label"])
        probabilities, _ = learner.get_preds(dl=learner.dls.test_dl(frame))
    vocabulary = list(learner.dls.vocab)
    predicted = [vocabulary[index] for index in probabilities.argmax(1).tolist()]
    done = now(device)
    return {
        "seconds": done - started,
        **scores([label for _, label in rows["test"]], predicted),
        "frozen_batchnorm": moved,
        "trains_with": how,
        "precision": "bf16 autocast" if given.side.endswith("-amp") else "fp32",
        "loader_workers": given.workers,
    }


def loaders(given, network, rows, device):
    """Resized and cropped as every side does, squeezed in nothing because the cells are square."""
    spec = network.input
    frame = pd.DataFrame(
        [(image, label, split == "val") for split in ("train", "val") for image, label in rows[split]],
        columns=["image", "label", "is_valid"],
    )
    resample = (getattr(Image.Resampling, spec.interpolation.upper()), Image.Resampling.NEAREST)
    return ImageDataLoaders.from_df(
        frame,
        path="/",
        fn_col="image",
        label_col="label",
        valid_col="is_valid",
        item_tfms=[Resize(spec.resize, method="squish", resamples=resample), CropPad(spec.size)],
        batch_tfms=Normalize.from_stats(spec.mean, spec.std),
        bs=given.batch_size,
        num_workers=given.workers,
        device=device,
    )


def fit(learner, given, network):
    """Train what the scenario trains; says how."""
    groups = [rate for part, rate in ((network.frozen, 1e-4), *network.rates) if part]
    if not network.stages:
        learner.freeze()
        learner.fit(given.epochs, lr=1e-3)
        return "freeze(), fit, Adam, learning rate 0.001"
    if network.frozen:
        learner.freeze_to(-2)
    elif given.side == "fastai-fine_tune":
        learner.fine_tune(given.epochs - 1, freeze_epochs=1)
        return "fine_tune with its own learning rates, the first epoch frozen"
    learner.fit_one_cycle(given.epochs, lr_max=groups)
    return f"{'freeze_to(-2), ' if network.frozen else ''}fit_one_cycle, Adam, learning rates {groups}"
