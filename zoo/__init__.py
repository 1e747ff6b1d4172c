"""Fine-tune any image backbone on real data: pick it by name, freeze it right, compute the frozen part once.

Importing this package registers nothing and imports no torch; each function imports what it needs when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.jobs.advise import advise
    from zoo.jobs.bench import bench
    from zoo.jobs.compare import compare
    from zoo.jobs.evaluate import evaluate
    from zoo.jobs.export import export
    from zoo.jobs.find_lr import find_lr
    from zoo.jobs.inspect import inspect
    from zoo.jobs.listing import list_backbones
    from zoo.jobs.predict import predict
    from zoo.jobs.rank import rank
    from zoo.jobs.train import resume, train
    from zoo.model.freeze import freeze
    from zoo.model.load import adapt_head, load

__version__ = "0.1.0"

_HOMES = {
    "adapt_head": "zoo.model.load",
    "advise": "zoo.jobs.advise",
    "bench": "zoo.jobs.bench",
    "compare": "zoo.jobs.compare",
    "evaluate": "zoo.jobs.evaluate",
    "export": "zoo.jobs.export",
    "find_lr": "zoo.jobs.find_lr",
    "freeze": "zoo.model.freeze",
    "inspect": "zoo.jobs.inspect",
    "list_backbones": "zoo.jobs.listing",
    "load": "zoo.model.load",
    "predict": "zoo.jobs.predict",
    "rank": "zoo.jobs.rank",
    "resume": "zoo.jobs.train",
    "train": "zoo.jobs.train",
}

__all__ = [
    "adapt_head",
    "advise",
    "bench",
    "compare",
    "evaluate",
    "export",
    "find_lr",
    "freeze",
    "inspect",
    "list_backbones",
    "load",
    "predict",
    "rank",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public function from its home the first time it is asked for (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
