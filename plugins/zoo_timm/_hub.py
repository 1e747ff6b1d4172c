"""Weights from the Hugging Face hub: the copy on this machine first, and a quick answer where there is no network.

Left alone, huggingface_hub asks for each file six times with growing pauses: 46 seconds before timm gives up.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from timm.models import get_pretrained_cfg

from zoo.errors import WeightsError

_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS = 5.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(model: str, tag: str) -> Path | None:
    """The file of these weights on this machine; None where they do not come from the hub in a format of its own.

    Raises:
        WeightsError: the file is not on this machine and cannot be fetched, or what came is not what was published.
    """
    cfg = get_pretrained_cfg(f"{model}.{tag}")
    if cfg is None or not cfg.hf_hub_id or cfg.hf_hub_filename:
        return None
    repository, _, revision = cfg.hf_hub_id.partition("@")
    try:
        return _first(repository, revision, here=True)
    except Exception:  # noqa: S110  not here: every reason leads to the same next step
        pass
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
        return _verified(_first(repository, revision, here=False))
    except WeightsError:
        raise
    except Exception as error:  # the exceptions of huggingface_hub and of its transports share no class
        raise WeightsError(
            f"the weights {tag} of timm/{model} could not be fetched from {constants.ENDPOINT}/{repository}: "
            f"{type(error).__name__}: {error}. Without a network, run `hf download {cfg.hf_hub_id}` where there is one "
            f"and copy the result into {constants.HF_HUB_CACHE}, or start from random weights with --weights none"
        ) from error


def _verified(path: Path) -> Path:
    """The file just fetched, once its content is what its name in the hub's cache says; else it is deleted.

    huggingface_hub compares lengths alone. The hub names a large file by its SHA-256, and the cache keeps that name.
    """
    # One step of the link, no more: beyond it a store that caches share names files by another hash.
    name = path.readlink().name if path.is_symlink() else ""
    if not _SHA256.fullmatch(name):
        return path
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != name:
        path.resolve().unlink()
        path.unlink()
        raise WeightsError(
            f"{path.name} came damaged: its SHA-256 is {digest}, the hub states {name}. It was deleted; try again"
        )
    return path


def _first(repository: str, revision: str, *, here: bool) -> Path:
    for name in _FILES[:-1]:
        try:
            return _download(repository, revision, name, here=here)
        except EntryNotFoundError:
            continue
    return _download(repository, revision, _FILES[-1], here=here)


def _download(repository: str, revision: str, name: str, *, here: bool) -> Path:
    return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=here))
