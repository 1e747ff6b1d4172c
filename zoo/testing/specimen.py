"""A backbone under test: built without memory where that works, and used as the engine uses it."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor, nn

from zoo.model.freeze import Frozen, freeze_parts
from zoo.model.load import assemble, strip
from zoo.model.network import FineTuneModel
from zoo.specs import BackboneSource, BackboneView, Task, parse_policy

CLASSES = 10
BATCH = 2
TASK = Task(name="label", classes=tuple(str(index) for index in range(CLASSES)))


class Specimen:
    """One backbone of a source with random weights, each network made anew because checks change it.

    Building and running happen on the meta device, where tensors have shapes and no content: shapes, parameters and
    gradients can be checked there at no cost. A network that reads the content of tensors runs on the CPU.
    """

    def __init__(self, source: BackboneSource, model: str) -> None:
        self.source = source
        self.model = model

    @cached_property
    def whole(self) -> BackboneView:
        """The view of the network as it was built, in eval mode, for checks that change nothing.

        It is made in the first of three ways that works: on meta, moved there after it was built, or on the CPU.
        """
        meta = torch.device("meta")
        for start, end in ((meta, meta), (torch.device("cpu"), meta)):
            try:
                with start:
                    view = self.source.build(self.model, None)
                view.module.to(end).eval()
                with torch.no_grad():  # some networks keep what they computed, and with a graph it cannot be copied
                    view.extract(view.module, _images(view, end), view.features[0].name)
            except Exception:  # noqa: S112  whatever it is, the checks meet it again on the CPU and report it
                continue
            return view
        view = self.source.build(self.model, None)
        view.module.eval()
        return view

    @cached_property
    def device(self) -> torch.device:
        """`meta` where the network can run there, else `cpu`."""
        return next((parameter.device for parameter in self.whole.module.parameters()), torch.device("cpu"))

    def view(self) -> BackboneView:
        """The view of a copy of the network, which may be changed."""
        return copy.deepcopy(self.whole)

    def on_the_cpu(self) -> Specimen:
        """The same backbone with real tensors."""
        real = Specimen(self.source, self.model)
        real.whole = self.source.build(self.model, None)
        return real

    def images(self, view: BackboneView) -> Tensor:
        """A batch (2, C, H, W) of the view's input size."""
        return _images(view, self.device)

    def fine_tune_model(self) -> FineTuneModel:
        """The backbone as `zoo train` uses it: its classifier replaced by a linear head of ten classes."""
        view = strip(self.view())
        with self.device:
            return assemble(view, [TASK])

    def frozen(self, policy: str) -> tuple[FineTuneModel, Frozen]:
        """The same under a freeze policy, in training mode."""
        model = self.fine_tune_model()
        record = freeze_parts(model, model.view, parse_policy(policy), "backbone.", digest=self.device.type != "meta")
        model.train()
        return model, record

    def backward(self, model: FineTuneModel) -> None:
        """One forward and backward pass with cross-entropy."""
        logits = model(self.images(model.view))
        target = torch.zeros(BATCH, dtype=torch.int64, device=self.device)
        nn.functional.cross_entropy(logits, target).backward()  # type: ignore[no-untyped-call]


def _images(view: BackboneView, device: torch.device) -> Tensor:
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(0)
    return torch.randn((BATCH, view.input.channels, *view.input.size), generator=generator, device=device)
