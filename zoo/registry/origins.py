"""Where pretrained weights come from, and whether they lie on this machine's disk already.

Asked without torch and without huggingface_hub: their caches lie where the same environment variables say.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

_HUB, _WHEEL = "hf-hub:", "wheel:"
_SUFFIXES = (".safetensors", ".bin")


def hub_folder() -> Path:
    """The folder in which huggingface_hub keeps repositories."""
    home = os.getenv("HF_HOME", os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "huggingface"))  # noqa: PTH118
    old = os.getenv("HUGGINGFACE_HUB_CACHE", f"{_expanded(home)}/hub")
    return Path(_expanded(os.getenv("HF_HUB_CACHE", old)))


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111  variables are expanded last, as the hub does


def checkpoints_folder() -> Path:
    """The folder in which torch.hub keeps files that it fetched by their address."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return Path(os.getenv("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub" / "checkpoints"


class Disk:
    """What lies on this disk, each folder listed once; make a new one to look again."""

    def __init__(self) -> None:
        self._hub, self._checkpoints = hub_folder(), checkpoints_folder()
        self._repositories = _names(self._hub)
        self._files = _names(self._checkpoints)
        self._wheels: dict[str, bool] = {}

    def holds(self, origin: str) -> bool:
        """Whether weights of this origin could be loaded without a network."""
        if origin.startswith(_HUB):
            repository, revision = _repository(origin)
            folder = f"models--{repository.replace('/', '--')}"
            return folder in self._repositories and _has_weights(self._hub / folder, revision)
        if origin.startswith(_WHEEL):
            if origin not in self._wheels:
                self._wheels[origin] = _installed(*_in_wheel(origin))
            return self._wheels[origin]
        return bool(origin) and _file_name(origin) in self._files


def on_disk(origin: str) -> bool:
    """Whether weights of this origin lie on this disk, so that they could be loaded without a network.

    Args:
        origin: as in `zoo.specs.Weights.origin`.
    """
    return Disk().holds(origin)


def describe_origin(origin: str) -> str:
    """Where weights of this origin come from, for people."""
    if not origin:
        return "not stated"
    if origin.startswith(_HUB):
        repository, revision = _repository(origin)
        return f"https://huggingface.co/{repository}" + (f" at revision {revision}" if revision else "")
    if origin.startswith(_WHEEL):
        distribution, package, path = _in_wheel(origin)
        return f"{package}/{path} of {distribution}" if path else f"the Python package {package}"
    return origin


def how_to_fetch(origin: str) -> str:
    """What brings weights of this origin onto a machine without a network, or an empty string where nobody can say."""
    if origin.startswith(_HUB):
        repository, revision = _repository(origin)
        command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
        folder = f"models--{repository.replace('/', '--')}"
        return f"run `{command}` where there is a network and copy its folder {folder} into {hub_folder()}"
    if origin.startswith(_WHEEL):
        return f"pip install {_in_wheel(origin)[0].replace('_', '-')}"
    return f"fetch {origin} where there is a network and copy it into {checkpoints_folder()}" if origin else ""


def _repository(origin: str) -> tuple[str, str]:
    repository, _, revision = origin.removeprefix(_HUB).partition("@")
    return repository, revision


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  names alone, of thousands of repositories
    except OSError:
        return frozenset()


def _has_weights(repository: Path, revision: str) -> bool:
    """Whether the snapshot that the hub would load holds a file of weights; a link whose blob is gone is none."""
    try:
        commit = (repository / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision  # no such branch or tag here: then it is a commit, or there is nothing
    if not commit:
        return False
    snapshot = repository / "snapshots" / commit
    return any(name.endswith(_SUFFIXES) and (snapshot / name).exists() for name in _names(snapshot))


def _in_wheel(origin: str) -> tuple[str, str, str]:
    """Distribution, package, and path of the file in it; the path is empty where the package alone is named."""
    distribution, slash, inside = origin.removeprefix(_WHEEL).partition("/")
    package, _, path = inside.partition("/")
    return (distribution, package, path) if slash else (distribution, distribution, "")


def _installed(distribution: str, package: str, path: str) -> bool:
    """Whether the package is there and holds the file; it is looked up and not imported."""
    del distribution  # an editable one does not list its files
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return False
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return any((Path(folder) / path).is_file() for folder in folders) if path else spec is not None


def _file_name(address: str) -> str:
    return os.path.basename(urlparse(address).path)  # noqa: PTH119  as torch.hub names it
