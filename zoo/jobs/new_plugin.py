"""Write a plugin that installs and passes its checks as it stands: the body of `zoo new-plugin`."""

from __future__ import annotations

import datetime
import keyword
import re
import runpy
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import zoo
from zoo.config import NewPluginConfig
from zoo.errors import NameClashError, OptionError, ZooError
from zoo.registry.lookup import SHELVES
from zoo.registry.plugins import load_plugins

KINDS = ("backbone", "head", "strategy", "imputer")
"""What a new plugin may offer: one example of each."""

_FILES = {
    "_backbone.py": "backbone",
    "_network.py": "backbone",
    "_head.py": "head",
    "_strategy.py": "strategy",
    "_imputer.py": "imputer",
}
_RECORDS = {
    "backbone": "BackboneSource",
    "head": "HeadRecord",
    "strategy": "StrategyRecord",
    "imputer": "ImputerRecord",
}
_SHELVES = {"backbone": "backbones", "head": "heads", "strategy": "imbalance", "imputer": "imputers"}
_SUFFIXES = {"backbone": "", "head": "-head", "strategy": "-weights", "imputer": "-quantile"}
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_STAND_INS = "the weights are random stand-ins from a fixed seed; nothing was trained"


@dataclass(frozen=True, kw_only=True)
class NewPlugin:
    """A plugin that was written.

    Attributes:
        folder: of the project.
        package: that is imported.
        files: that were written, relative to the folder.
        commands: what to type next.
        notes: what must be known.
    """

    folder: Path
    package: str
    files: tuple[str, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def write_plugin(config: NewPluginConfig) -> NewPlugin:
    """Write the project of a new plugin.

    Raises:
        OptionError: the name cannot be that of a distribution and of a package.
        NameClashError: something that is installed has the name already.
        ZooError: the folder is not empty or cannot be written.
    """
    kinds = tuple(kind for kind in KINDS if kind in (config.kind or KINDS))
    package = package_of(config.name)
    folder = config.out or Path(config.name)
    _refuse_full(folder)
    _refuse_taken(config.name, package, kinds)
    texts = render(config.name, package, kinds)
    try:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        weights = _write_weights(folder / "src" / package) if "backbone" in kinds else ()
    except OSError as error:
        raise ZooError(f"cannot write to {folder}: {error.strerror or error}") from None
    files = tuple(sorted((*texts, *(path.relative_to(folder).as_posix() for path in weights))))
    commands = (
        f"pip install --editable {shlex.quote(str(folder))}",
        f"zoo check {config.name}",
        f"python -m pytest {shlex.quote(str(folder))}",
    )
    notes = (_STAND_INS,) if weights else ()
    return NewPlugin(folder=folder, package=package, files=files, commands=commands, notes=notes)


def package_of(name: str) -> str:
    """The package that a distribution of this name holds.

    Raises:
        OptionError: no distribution and package can be called so; suggests a name that they can.
    """
    if not _NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        hint = f"; {near} would do" if _NAME.fullmatch(near) and not keyword.iskeyword(near) else ""
        raise OptionError(
            f"a plugin cannot be called {name!r}: use lower-case letters and digits, words joined by single hyphens, "
            f"a letter first{hint}"
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise OptionError(f"a plugin cannot be called {name!r}: that is a keyword of Python; zoo-{name} would do")
    return package


def _refuse_full(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ZooError(f"{folder} is a file; choose another --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise ZooError(f"{folder} is not empty; choose another name or another --out")


def _refuse_taken(name: str, package: str, kinds: Sequence[str]) -> None:
    """Refuse a name that would clash with what is installed: the plugin would fail its own checks."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        pass
    else:
        raise NameClashError(f"{name} {found.version} is installed already; choose another name")
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:  # without an origin it is any folder on the path
        raise NameClashError(f"a module {package} can be imported already; choose another name than {name}")
    for plugin in load_plugins():
        if plugin.name == name:
            by = f"{plugin.distribution} {plugin.version}"
            raise NameClashError(f"a plugin {name} is installed already, by {by}; choose another name")
    for kind in kinds:
        shelf, wanted = SHELVES[_SHELVES[kind]], f"{name}{_SUFFIXES[kind]}"
        for plugin, record in shelf.items():
            if record.name == wanted:
                by = f"{plugin.distribution} {plugin.version} ({plugin.name})"
                raise NameClashError(f"the {shelf.kind} {wanted} is offered already, by {by}; choose another name")


def render(name: str, package: str, kinds: Sequence[str]) -> dict[str, str]:
    """The text of each file of the project, by its path."""
    environment = Environment(
        loader=PackageLoader("zoo", "templates/plugin"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Python and Markdown, no page of a browser
    )
    words = _words(name, package, kinds)
    found = {}
    for template in sorted(environment.list_templates(extensions=["j2"])):
        path = PurePosixPath(template.replace("PACKAGE", package)).with_suffix("")
        if _FILES.get(path.name, kinds[0]) in kinds:
            found[str(path)] = environment.get_template(template).render(words)
    return found


def _words(name: str, package: str, kinds: Sequence[str]) -> Mapping[str, Any]:
    """What the templates speak of."""
    articles = [f"an {kind}" if kind == "imputer" else f"a {kind}" for kind in kinds]
    joined = " and ".join(filter(None, (", ".join(articles[:-1]), articles[-1])))
    return {
        "name": name,
        "package": package,
        "kinds": kinds,
        "records": sorted(_RECORDS[kind] for kind in kinds),
        "what": joined.capitalize(),
        "year": datetime.datetime.now(datetime.UTC).year,
        "zoo_version": zoo.__version__,
    }


def _write_weights(package: Path) -> tuple[Path, ...]:
    """The initial values of the network that was just written, from a fixed seed."""
    import torch
    from safetensors.torch import save_file

    network = runpy.run_path(str(package / "_network.py"))["TinyNet"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = network().state_dict()
    path = package / "tiny.safetensors"
    save_file(tensors, path)
    return (path,)
