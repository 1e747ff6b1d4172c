"""A network of patches: a stem, two residual blocks that mix channels, a norm, and positions that can be resized."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.specs import BackboneView, FeatureKind, InputSpec, partition

WIDTH = 12


class PatchNet(nn.Module):
    """Tokens of patches; images of 32 pixels unless resized."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(1, WIDTH, 32 // patch, 32 // patch))
        nn.init.normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.fc: nn.Module = nn.Linear(WIDTH, 5)

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, tokens, WIDTH)."""
        found = (self.patch(images) + self.positions).flatten(2).transpose(1, 2)
        for block in self.blocks:
            found = found + block(found)
        normed: Tensor = self.norm(found)
        return normed

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits."""
        logits: Tensor = self.fc(self.tokens(images).mean(dim=1))
        return logits


def view_of(network: PatchNet, name: str, tag: str | None) -> BackboneView:
    """The uniform view."""
    return BackboneView(
        name=name,
        module=network,
        features=(FeatureKind(name="mean", width=WIDTH), FeatureKind(name="tokens", width=WIDTH)),
        input=InputSpec(size=(32, 32), resize=32, mean=(0.5,) * 3, std=(0.5,) * 3, crop="squash", fixed=True),
        extract=_extract,
        reset_classifier=_reset,
        resize=_resize,
        input_layers=("patch",),
        weights=tag or "none",
        licence="CC0-1.0" if tag else "",
        **partition(
            network,
            [
                ("stem", "stem", ["patch", "positions"]),
                ("block1", "stage", ["blocks.0"]),
                ("block2", "stage", ["blocks.1"]),
                ("neck", "neck", ["norm"]),
            ],
            classifier=["fc"],
        ),
    )


def _extract(module: nn.Module, images: Tensor, kind: str) -> Tensor:
    assert isinstance(module, PatchNet)
    tokens = module.tokens(images)
    return tokens if kind == "tokens" else tokens.mean(dim=1)


def _reset(module: nn.Module, outputs: int) -> None:
    assert isinstance(module, PatchNet)
    device = module.positions.device
    module.fc = nn.Linear(WIDTH, outputs, device=device) if outputs else nn.Identity()


def _resize(module: nn.Module, size: tuple[int, int]) -> str:
    assert isinstance(module, PatchNet)
    patch, old = module.patch.stride[0], module.positions
    if size[0] % patch or size[1] % patch:
        raise ValueError(f"{size[0]} x {size[1]} pixels are no whole number of patches of {patch}")
    new = F.interpolate(old, size=(size[0] // patch, size[1] // patch), mode="bicubic", antialias=True)
    module.positions = nn.Parameter(new.detach(), requires_grad=old.requires_grad)
    return f"positions interpolated to {new.shape[2]} x {new.shape[3]}"
