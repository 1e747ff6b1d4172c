"""The loop that people copy: freeze, a new classifier, a DataLoader, every image through the network in every epoch.

Float32, contiguous, Adam on what trains, `train()` on the whole network, so that the statistics of frozen BatchNorms
move; the epoch that is best on validation rows is kept. `tutorial-amp` is the same under bf16 autocast.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sides.common import CLASSES, FrozenNorms, build, now, read_rows, scores


class Cells(Dataset):
    """Images of one split, decoded when they are asked for."""

    def __init__(self, rows, spec):
        self.rows = rows
        self.transform = transforms.Compose(
            [
                transforms.Resize(
                    spec.resize, interpolation=getattr(transforms.InterpolationMode, spec.interpolation.upper())
                ),
                transforms.CenterCrop(spec.size),
                transforms.ToTensor(),
                transforms.Normalize(spec.mean, spec.std),
            ]
        )

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, at):
        path, label = self.rows[at]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), CLASSES.index(label)


class Loop:
    """The tutorial's loop over one network."""

    def __init__(self, network, loaders, device, amp):
        self.model, self.loaders, self.device = network.module.to(device), loaders, device
        for parameter in network.frozen:
            parameter.requires_grad = False
        self.optimiser = torch.optim.Adam([{"params": part, "lr": rate} for part, rate in network.rates])
        self.criterion = nn.CrossEntropyLoss()
        self.amp = amp

    def logits(self, images):
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            return self.model(images.to(self.device, non_blocking=True)).float()

    def epoch(self):
        self.model.train()
        for images, truth in self.loaders["train"]:
            self.optimiser.zero_grad()
            loss = self.criterion(self.logits(images), truth.to(self.device))
            loss.backward()
            self.optimiser.step()

    @torch.no_grad()
    def predicted(self, split):
        self.model.eval()
        return torch.cat([self.logits(images).argmax(1).cpu() for images, _ in self.loaders[split]]).tolist()


def run(given):
    """From the table of files to predictions of held-out rows; the network is built before the clock starts."""
    network = build(given)
    norms = FrozenNorms(network)
    device = torch.device(given.device)
    started = now(device)
    rows = read_rows(given.table)
    loaders = {
        split: DataLoader(
            Cells(rows[split], network.input),
            batch_size=given.batch_size,
            shuffle=split == "train",
            num_workers=given.workers,
            pin_memory=device.type == "cuda",
        )
        for split in rows
    }
    loop = Loop(network, loaders, device, given.side.endswith("-amp"))
    truth = {split: [CLASSES.index(label) for _, label in own] for split, own in rows.items()}
    best, kept, epochs = -1.0, None, []
    for _ in range(given.epochs):
        began = now(device)
        loop.epoch()
        found = scores(truth["val"], loop.predicted("val"))["accuracy"]
        if found > best:
            best, kept = found, {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
        epochs.append(now(device) - began)
    moved = norms.moved()
    loop.model.load_state_dict(kept)
    predicted = loop.predicted("test")
    done = now(device)
    return {
        "seconds": done - started,
        "epoch_seconds": epochs,
        **scores(truth["test"], predicted),
        "frozen_batchnorm": moved,
        "trains_with": f"Adam, learning rates {[rate for _, rate in network.rates]} (backbone before classifier)",
        "precision": "bf16 autocast" if loop.amp else "fp32",
        "loader_workers": given.workers,
    }
