"""What features are kept under beside the image: the weights, and the code that computes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from torch import nn

from zoo.model.freeze import digest_tensor, named_tensors
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version


def weights_digest(module: nn.Module, without: Collection[str] = ()) -> str:
    """Hash of every parameter and buffer with its name, those too that are not saved.

    Args:
        module: the network.
        without: names of tensors that do not count, because what is computed does not depend on them.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(named_tensors(module).items()):
        if name not in without:
            total.update(f"{name}:{digest_tensor(tensor)};".encode())
    return total.hexdigest()


def code_of(backbone: str) -> dict[str, list[str]]:
    """By plugin that offers the backbone's source: its version, its code, and its library with the library's version.

    Empty for a network that no plugin offers: then its name and its weights are all that is known.
    """
    distribution, _, source = backbone.rpartition("/")[0].rpartition(":")
    return {
        f"{plugin.distribution}:{plugin.name}": [
            plugin.version,
            package_digest(plugin.module.partition(".")[0], without=record.table),
            *library_version(record, plugin.distribution),
        ]
        for plugin, record in SOURCES.items()
        if record.name == source and distribution in ("", plugin.distribution)
    }
