"""The boundary that a freeze policy leaves in a backbone: its features, a cut inside it, or the image itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo.features.calls import CutError
from zoo.features.cut import Cut, plan_cut
from zoo.features.prefix import normalise
from zoo.features.suffix import Suffix, check_cut
from zoo.model.freeze import named_tensors
from zoo.specs import BackboneView, FreezePolicy


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Where a backbone is cut in two.

    Attributes:
        view: the backbone.
        kind: of the features behind the suffix.
        cut: None where the whole backbone lies before the boundary, or nothing of it.
        whole: whether all of it lies before: what crosses are its features.
        why: a sentence.
        behind: names of the tensors that the prefix does not depend on.
    """

    view: BackboneView
    kind: str
    cut: Cut | None = None
    whole: bool = False
    why: str = ""
    behind: frozenset[str] = field(default_factory=frozenset)

    @property
    def there(self) -> bool:
        """Whether anything lies before it, so that something can be computed once."""
        return self.whole or self.cut is not None

    def run(self, module: nn.Module, images: Tensor) -> Tensor:
        """The backbone's forward pass up to its features."""
        return self.view.extract(module, images, self.kind)

    def suffix(self) -> Suffix:
        """The backbone after the cut, to be entered as a context.

        Raises:
            ValueError: there is no cut.
        """
        if self.cut is None:
            raise ValueError("a boundary without a cut has no suffix")
        return Suffix(self.cut, self.view.module, self.run, (self.view.input.channels, *self.view.input.size))


def find_boundary(view: BackboneView, kind: str, policy: FreezePolicy, pixels: Tensor) -> Boundary:
    """The boundary before the first stage in which something trains, checked against the whole network.

    Args:
        view: the backbone, frozen by the policy, on the device on which it will compute.
        kind: of features.
        policy: what trains.
        pixels: three images, uint8 (3, C, H, W).
    """
    stages = policy.trainable_stages(view)
    if not any(stage.parameters for stage in stages):
        return Boundary(view=view, kind=kind, whole=True, why="the whole backbone is frozen")
    first = view.stages.index(stages[0])
    parameters = behind_parameters(view, policy)
    if not any(stage.parameters for stage in view.stages[:first]):
        return Boundary(view=view, kind=kind, why=f"policy {policy.text} trains the backbone from its first layer")
    module = view.module
    device = next(module.parameters()).device
    images = normalise(pixels.to(device), view.input)
    layout = torch.channels_last if _channels_last(module) else torch.contiguous_format
    images = images.to(memory_format=layout)
    found = Boundary(view=view, kind=kind)
    try:
        cut = plan_cut(module, found.run, parameters, images)
        cut = check_cut(cut, module, found.run, images[:2])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a stranger's network may do anything when its modules do not compute
        reason = str(error) if isinstance(error, CutError) else f"{type(error).__name__}: {error}"
        why = f"{view.name} cannot be cut before {view.stages[first].name}: {reason}"
        return Boundary(view=view, kind=kind, why=why)
    return Boundary(
        view=view,
        kind=kind,
        cut=cut,
        why=f"nothing trains before {view.stages[first].name}",
        behind=_behind(module, view, first) | parameters,
    )


def behind_parameters(view: BackboneView, policy: FreezePolicy) -> frozenset[str]:
    """Names of the parameters of the first stage in which something trains and of all stages after it."""
    first = view.stages.index(policy.trainable_stages(view)[0])
    return frozenset(name for stage in view.stages[first:] for name in stage.parameters)


def _channels_last(module: nn.Module) -> bool:
    return any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and p.shape[-1] > 1
        for p in module.parameters()
    )


def _behind(module: nn.Module, view: BackboneView, first: int) -> frozenset[str]:
    """Names of the tensors below the modules of the stages from `first` on: parameters and buffers."""
    roots = tuple(f"{path}." for stage in view.stages[first:] for path in stage.modules)
    return frozenset(name for name in named_tensors(module) if name.startswith(roots)) if roots else frozenset()
