"""A file of weights as somebody left it: read safely, unwrapped, its names rid of what wrappers put before them."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from zoo.errors import WeightsError

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")

# Where training scripts put the network in what they save. An average over the training stands before its last state,
# as in timm; of a teacher and a student the teacher is the one that is meant to be used.
_NESTS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "params_ema",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "params",
    "weights",
    "module",
    "backbone",
    "encoder",
)

# What wrappers (DDP, torch.compile, Lightning, self-supervised training, this project's own runs) put before a name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "teacher.", "backbone.", "encoder.")
_BESIDE = re.compile(r"(heads?|fc|classifier|imputers|projector|predictor|n_averaged|\w+_head)(\.|$)")

_DAMAGED = "it is damaged, half downloaded, or no file of weights"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The tensors of one file.

    Attributes:
        path: the file.
        digest: first 16 hexadecimal digits of its SHA-256.
        tensors: by the names that they bear in the file.
        header: metadata of a safetensors file.
        notes: what was taken out of it, for people.
    """

    path: Path
    digest: str
    tensors: dict[str, Tensor]
    header: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_file(weights: str) -> bool:
    """Whether `weights` means a file, or the folder of a run, and not a tag; a tag holds no slash."""
    return weights.endswith(_SUFFIXES) or "/" in weights or os.sep in weights


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of weights, or the `model.safetensors` of a run folder; no code in it is ever run.

    Raises:
        WeightsError: there is no such file, it is not one of weights, or reading it would run code.
    """
    path = path.expanduser()
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"there is no file {path}; weights are a file, or a tag that the backbone offers")
    with path.open("rb") as file:
        start = file.read(64)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
    _refuse_what_is_no_checkpoint(path, start)
    if _is_safetensors(start):
        tensors, header = _safetensors(path)
        notes: tuple[str, ...] = ()
    else:
        tensors, notes = _unwrap(path, _unpickle(path))
        header = {}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors")
    return Checkpoint(path=path, digest=digest.hexdigest()[:16], tensors=tensors, header=header, notes=notes)


def _refuse_what_is_no_checkpoint(path: Path, start: bytes) -> None:
    if not start:
        raise WeightsError(f"{path} is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a git-lfs pointer and not the weights themselves; run `git lfs pull` beside it")
    if start.lstrip().startswith(b"<"):
        raise WeightsError(f"{path} is a web page and not weights; its download led to a page of words, look into it")


def _is_safetensors(start: bytes) -> bool:
    """Whether a file starts with the length of a header, in eight bytes, and then with the header."""
    # Eight bytes of a zip archive or of a pickle, read as a number, are beyond any length.
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # SafetensorError for most, OSError or TypeError for some
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): {_DAMAGED}") from None


def _unpickle(path: Path) -> Any:
    try:
        # Training scripts keep their options in the file; a Namespace holds values and does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        if isinstance(error, pickle.UnpicklingError) and (names := _unsafe_names(path, str(error))):
            raise WeightsError(
                f"{path} holds Python objects beside tensors ({', '.join(names[:5])}), and reading those may run any "
                "code. Where you trust the file, save its tensors alone: torch.save(model.state_dict(), 'weights.pth')"
            ) from None
        said = str(error).split("\n")[0][:200]
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to read it without this protection
            said = "it is no pickle of tensors"
        raise WeightsError(f"{path} cannot be read ({type(error).__name__}: {said}): {_DAMAGED}") from None


def _unsafe_names(path: Path, message: str) -> list[str]:
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # not a zip archive: the message is all there is
        found = []
    return sorted(set(found) - {"argparse.Namespace"}) or re.findall(r"GLOBAL ([\w.]+)", message)


def _unwrap(path: Path, found: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    taken: list[str] = []
    others: list[str] = []
    while isinstance(found, Mapping):
        inner = [str(key) for key, value in found.items() if isinstance(value, Mapping) and _holds_tensors(value)]
        known = [key for key in _NESTS if key in inner]
        flat = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
        if not known and (flat or len(inner) != 1):
            break
        taken.append((known or inner)[0])
        others += [key for key in inner if key != taken[-1]]
        found = found[taken[-1]]
    else:
        raise WeightsError(f"{path} holds a {type(found).__name__} and not named tensors")
    if not flat:
        keys = ", ".join(str(key) for key in list(found)[:8])
        raise WeightsError(f"{path} holds no network under a name that is known; it holds {keys or 'nothing'}")
    beside = f", not of {', '.join(others)}" if others else ""
    return flat, (f"tensors of {'.'.join(taken)} in the file{beside}",) if taken else ()


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return any(
        isinstance(each, Tensor) or (isinstance(each, Mapping) and _holds_tensors(each)) for each in value.values()
    )


def strip_prefixes(tensors: dict[str, Tensor], wanted: Iterable[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take off what every name (but those of heads, which are left out) begins with, unless the network's do so too.

    Args:
        tensors: as the file names them.
        wanted: names in the network.

    Returns:
        The tensors under shorter names, and what was done.
    """
    names = set(wanted)
    notes: list[str] = []
    while True:
        for prefix in _PREFIXES:
            short = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            rest = [name for name in tensors if not name.startswith(prefix)]
            worse = len(names & short.keys()) < len(names & tensors.keys())
            if short and not worse and all(_BESIDE.match(name) for name in rest):
                break
        else:
            return tensors, tuple(notes)
        left = f"; {len(rest)} tensors without it were left out, such as {rest[0]}" if rest else ""
        notes.append(f"names in the file begin with {prefix!r}, which was taken off{left}")
        tensors = short
