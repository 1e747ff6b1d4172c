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
    """The boundary before what trains, checked against the whole network.

    Args:
        view: the backbone, frozen by the policy, on the device on which it will compute.
        kind: of features.
        policy: what trains.
        pixels: three images, uint8 (3, C, H, W).
    """
    selected = policy.select(view)
    if not selected.parameters:
        return Boundary(view=view, kind=kind, whole=True, why="the whole backbone is frozen")
    if all(name in selected.behind for stage in view.stages for name in stage.parameters):
        first = "adapts" if policy.lora else "trains"
        why = f"policy {policy.text} {first} the backbone from its first layer"
        return Boundary(view=view, kind=kind, why=why)
    module = view.module
    device = next(module.parameters()).device
    images = normalise(pixels.to(device), view.input)
    layout = torch.channels_last if _channels_last(module) else torch.contiguous_format
    images = images.to(memory_format=layout)
    found = Boundary(view=view, kind=kind)
    try:
        cut = plan_cut(module, found.run, selected.behind, images)
        cut = check_cut(cut, module, found.run, images[:2])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a stranger's network may do anything when its modules do not compute
        reason = str(error) if isinstance(error, CutError) else f"{type(error).__name__}: {error}"
        why = f"{view.name} cannot be cut before {selected.before}: {reason}"
        return Boundary(view=view, kind=kind, why=why)
    return Boundary(
        view=view,
        kind=kind,
        cut=cut,
        why=f"nothing trains before {selected.before}",
        behind=_behind(module, selected.behind),
    )


def _channels_last(module: nn.Module) -> bool:
    return any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and p.shape[-1] > 1
        for p in module.parameters()
    )


def _behind(module: nn.Module, parameters: frozenset[str]) -> frozenset[str]:
    """Names of parameters behind the boundary, and of all tensors of modules all of whose parameters lie there."""
    found = set(parameters)
    for path, part in module.named_modules():
        own = [name for name, _ in part.named_parameters(path)]
        if path and own and parameters.issuperset(own):
            found.update(f"{path}.{name}" for name in named_tensors(part))
    return frozenset(found)
