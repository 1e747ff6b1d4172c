"""What rows of a grid depend on beside their options: the data, and the versions and code of what computes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

import torch

from zoo.config import TrainConfig
from zoo.data.splits import make_splits
from zoo.data.table import Table
from zoo.data.tasks import fix_tasks
from zoo.jobs.data import read
from zoo.registry.digest import package_digest
from zoo.registry.plugins import Plugin
from zoo.specs import Task


def known_data(config: TrainConfig) -> tuple[str, tuple[Task, ...]]:
    """Hash of the table and of its files' sizes and times, so that other data are other rows; and the tasks in it.

    Raises:
        DataError: the data cannot be read or split, or have one class only.
    """
    table = read(config)
    usable = torch.ones(len(table), dtype=torch.bool).numpy()
    splits = make_splits(table, usable, test=config.test_fraction, val=config.val_fraction, seed=config.seed)
    return _digest(table), fix_tasks(table, splits.train)


def _digest(table: Table) -> str:
    total = hashlib.blake2b(digest_size=16)
    total.update(table.frame.write_csv().encode())
    for path in table.paths:
        try:
            held = path.stat()
            total.update(f"{held.st_size}:{held.st_mtime_ns};".encode())
        except OSError:
            total.update(b"missing;")
    return total.hexdigest()


def code_context(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Versions and code of the core and of these plugins."""
    named = {plugin.name: plugin for plugin in plugins}
    modules = tuple(named[name].module.partition(".")[0] for name in sorted(named))
    return {
        "backbone-zoo": version("backbone-zoo"),
        "torch": torch.__version__,
        **{plugin.distribution: plugin.version for plugin in named.values()},
        "code": _code(modules),
    }


@cache  # the code that runs is the one that was imported
def _code(modules: tuple[str, ...]) -> str:
    return hashlib.blake2b("".join(map(package_digest, ("zoo", *modules))).encode(), digest_size=8).hexdigest()
