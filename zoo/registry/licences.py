"""What kind of licence the weights have, from what their publisher states. A help for choosing, no legal advice."""

from __future__ import annotations

import fnmatch
import re
from typing import Literal, get_args

LicenceClass = Literal["permissive", "restricted", "unstated"]
CLASSES: tuple[LicenceClass, ...] = get_args(LicenceClass)

_NOTHING = frozenset({"", "unknown", "none", "n/a", "noassertion"})
# Use, change and sale are allowed; what they ask for is a notice at most. In SPDX's spelling, lower-case.
_PERMISSIVE = re.compile(
    r"apache(-1\.1|-2\.0)?|mit(-0)?|bsd(-[1-4](-clause(-patent|-clear)?)?)?|0bsd|isc|zlib|unlicense|wtfpl|bsl-1\.0|afl-3\.0|ncsa|postgresql"
    r"|cc0(-1\.0)?|cc-by(-[1-4]\.0)?|cdla-permissive-[12]\.0|odc-by(-1\.0)?|pddl(-1\.0)?"
)
_SHORT = 12


def licence_class(text: str) -> LicenceClass:
    """The class of a licence by its name, whatever its case.

    `restricted` is everything that is stated and not known to be permissive: non-commercial and share-alike licences,
    those that a publisher wrote for himself (`dinov3-license`, `gemma`), `other`.
    """
    name = re.sub(r"-licen[sc]e(?=-|$)", "", re.sub(r"[\s_]+", "-", text.strip().lower()))
    if name in _NOTHING:
        return "unstated"
    return "permissive" if _PERMISSIVE.fullmatch(name) else "restricted"


def licence_matches(wanted: str, text: str) -> bool | None:
    """Whether a licence is of the wanted class, or fits the wanted glob; None where it is not stated.

    Args:
        wanted: `permissive`, `restricted`, `unstated`, or a glob over the licence as it is stated, in any case.
        text: the licence.
    """
    found = licence_class(text)
    if wanted in CLASSES:
        return found == wanted if found != "unstated" or wanted == "unstated" else None
    return None if found == "unstated" else fnmatch.fnmatchcase(text.lower(), wanted.lower())


def short_licence(text: str) -> str:
    """The licence in a few letters, for a column of a table; `-` where it is not stated."""
    if licence_class(text) == "unstated":
        return "-"
    repository = re.match(r"https?://github\.com/[^/]+/([^/]+)", text)
    name = repository[1] if repository else re.sub(r"^https?://(www\.)?", "", text)
    name = re.sub(r"[-_ ]licen[sc]e$", "", name, flags=re.IGNORECASE)
    return name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
