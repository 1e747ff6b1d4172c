"""What the command takes that shows and clears the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from zoo.config.marks import arg


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """List what the cache holds, most recently used first, or remove it.

    Everything in the cache can be made anew, at the price of the time that it took. Stores that a running process has
    open stay, and files that this program did not write are never touched. The environment variables ZOO_CACHE and
    ZOO_CACHE_LIMIT (such as 50GB, or none) say where it lies and how large it may become; by default 50 GB, or a fifth
    of the disk where that is less.
    """

    clear: Annotated[
        tuple[Literal["images", "features", "speeds", "catalogue", "tables", "checks", "weights"], ...] | None,
        arg(metavar="[KIND ...]"),
    ] = None
    """Remove everything, or only these kinds: images, features, speeds, catalogue, tables, checks, weights."""
    backbone: str | None = None
    """Only what belongs to backbones whose source/model matches this glob; a word without a glob matches anywhere."""
    older_than: str | None = None
    """Only what was last used so long ago: hours, days or weeks, such as 12h, 30d or 8w."""
    dry_run: bool = False
    """With --clear: say what would be removed and remove nothing."""
    json: bool = False
    """Print as JSON."""
