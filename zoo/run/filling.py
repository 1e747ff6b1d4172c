"""Pixels and channels from the store to the network: holes filled by imputers that learned from the training rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.cache import make_room
from zoo.data.detect import ABSENT, NODATA, NOT_FINITE
from zoo.data.hole_store import FLAGS, partial_holes
from zoo.data.images import Filled, Images
from zoo.data.store import RowStore
from zoo.registry.digest import package_digest
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import IMPUTERS
from zoo.run.saved_imputers import SavedImputer
from zoo.specs import Call, FittedImageImputer, ImageRows, TrainView, bind

ORDER = ("channels", "pixels")
"""What is filled first: imputers of pixels see the other channels whole."""

Progress = Callable[[int, int], None]

_ROWS = 32  # at once
_SHARD_BYTES = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class Filling:
    """What was learned about pixels and channels from the training rows.

    Attributes:
        names: of the imputers, by the kind of hole that they fill.
        fitted: the imputers, likewise.
    """

    names: Mapping[str, str]
    fitted: Mapping[str, FittedImageImputer]

    @classmethod
    def fit(cls, calls: Mapping[str, Call], view: TrainView, seed: int) -> Filling:
        """Fit the imputers of pixels and of channels among `calls` on the training view.

        Raises:
            OptionError: an imputer's parameters are wrong, or it cannot learn from these images.
            PluginError: the imputer's plugin broke.
        """
        names, fitted = {}, {}
        for kind in ORDER:
            call = calls.get(kind)
            if call is None:
                continue
            shelf = IMPUTERS[kind]
            record = shelf.of_call(call)
            parameters: Any = bind(call, record.parameters)
            with guarded(shelf.home(call.name), f"{shelf.kind} {call.name}"):
                try:
                    found = record.fit(view, parameters, np.random.default_rng(seed))
                except ValueError as error:  # by the contract it is the user's mistake
                    call.fail(f"{call.name}: {error}")
            names[kind], fitted[kind] = call.name, cast("FittedImageImputer", found)
        return cls(names=names, fitted=fitted)

    @classmethod
    def planned(cls, calls: Mapping[str, Call]) -> Filling:
        """Which kinds of holes will be filled, before anything is fitted."""
        return cls(names={kind: calls[kind].name for kind in ORDER if kind in calls}, fitted={})

    def save(self) -> tuple[SavedImputer, ...]:
        """Names and states."""
        states = {kind: own.save() for kind, own in self.fitted.items()}
        return tuple(
            SavedImputer(fills=kind, name=self.names[kind], values=values, arrays=arrays)
            for kind, (arrays, values) in states.items()
        )

    @classmethod
    def load(cls, imputers: Sequence[SavedImputer]) -> Filling:
        """The inverse of `save`; needs the imputers' plugins, and passes over those of covariates.

        Raises:
            UnknownNameError: the plugin that made an imputer is not installed.
        """
        own = [each for each in imputers if each.fills in ORDER]
        return cls(names={each.fills: each.name for each in own}, fitted={each.fills: each.load() for each in own})

    def unfilled(self, images: Images) -> dict[int, str]:
        """By row a reason, where holes without any usable value would be left."""
        flags, partial = images.facts[..., FLAGS], partial_holes(images.facts)
        found: dict[int, str] = {}
        if "channels" not in self.names:
            absent = (flags & ABSENT) != 0
            for row in np.flatnonzero(absent.any(axis=1)).tolist():
                named = [name for name, own in zip(images.spec.names, absent[row], strict=True) if own]
                found[row] = f"channel {', '.join(named)} is missing, and nothing fills it"
        if "pixels" not in self.names:
            why = np.bitwise_or.reduce(np.where(partial, flags & (NOT_FINITE | NODATA), 0), axis=1)
            for row in np.flatnonzero(why).tolist():
                words = [text for flag, text in _WHY.items() if why[row] & flag]
                found[row] = f"pixels are missing ({' and '.join(words)}), and nothing fills them"
        return dict(sorted(found.items()))

    def apply(self, images: Images, rows: NDArray[np.int64], cache: Path, progress: Progress | None = None) -> Images:
        """The images with the holes of `rows` filled; what was filled before is taken from the cache.

        Raises:
            PluginError: an imputer's plugin broke, left holes or changed what was observed.
        """
        asked = np.zeros(len(images), dtype=bool)
        asked[rows] = True
        acts = {kind: self._acts(kind, images) & asked for kind in ORDER if kind in self.names}
        wanted = np.flatnonzero(np.any([np.zeros(len(images), dtype=bool), *acts.values()], axis=0))
        if not len(wanted):
            return images
        floats = "channels" in acts and bool(acts["channels"].any())
        dtype = torch.float32 if floats else images.store.dtype
        keys = images.digests.copy()
        for kind, own in acts.items():
            keys[own] ^= np.frombuffer(self._mark(kind, images), dtype=np.uint8)
        description = {"kind": "filled", "of": images.store.folder.name, "size": list(images.spec.size)}
        store = RowStore(cache, description, images.store.shape, dtype)
        todo = wanted[store.find(keys[wanted]) < 0]
        make_room(cache.parent, needed=len(todo) * store.row_nbytes)
        shard = max(_ROWS, _SHARD_BYTES // store.row_nbytes)
        for start in range(0, len(todo), shard):
            rows_of_shard, held = todo[start : start + shard], []
            for at in range(0, len(rows_of_shard), _ROWS):
                held.append(torch.from_numpy(self._filled(images, rows_of_shard[at : at + _ROWS])).to(dtype))
                if progress:
                    progress(start + at + len(held[-1]), len(todo))
            store.append(keys[rows_of_shard], torch.cat(held))
        ids = np.full(len(images), -1, dtype=np.int64)
        ids[wanted] = store.find(keys[wanted])
        return replace(images, filled=Filled(store=store, ids=ids, keys=keys, kinds=frozenset(acts)))

    def _acts(self, kind: str, images: Images) -> NDArray[np.bool_]:
        """Which rows (N,) this kind of imputer changes."""
        found = images.missing_channels if kind == "channels" else partial_holes(images.facts)
        return np.asarray(found.any(axis=1) & (images.ids >= 0))

    def _mark(self, kind: str, images: Images) -> bytes:
        """16 bytes that stand for an imputer, its plugin's code, what it learned, and where gains turn about."""
        arrays, values = self.fitted[kind].save()
        plugin = IMPUTERS[kind].home(self.names[kind])
        code = package_digest(plugin.module.partition(".")[0])
        about = [kind, self.names[kind], plugin.distribution, plugin.version, code, values, images.spec.zero]
        total = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
        for name, array in sorted(arrays.items()):
            total.update(f"{name}:{array.dtype}:{array.shape};".encode() + np.ascontiguousarray(array).tobytes())
        return total.digest()

    def _filled(self, images: Images, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Values (B, C, H, W) of `rows`; float32 where a channel of any of them is filled."""
        absent = images.missing_channels[rows] if "channels" in self.names else None
        if absent is None or not absent.any():
            return self._pixels(images, rows)
        found = np.empty((len(rows), *images.store.shape), dtype=np.float32)
        holed = absent.any(axis=1)
        if not holed.all():  # apart, so that what becomes of a row does not depend on those beside it
            found[~holed] = self._pixels(images, rows[~holed])
        given = images.as_read(rows[holed])
        given = replace(given, values=given.values.astype(np.float32))
        done = self._transformed(
            "channels", given, np.broadcast_to(absent[holed][..., None, None], given.missing.shape)
        )
        left = given.missing & ~absent[holed][..., None, None]
        if "pixels" in self.names and left.any():
            done = replace(self._transformed("pixels", replace(done, missing=left, gain=None), left), gain=done.gain)
        found[holed] = _scaled(done, images.spec.zero)
        return found

    def _pixels(self, images: Images, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Values of rows none of whose channels is filled."""
        given = images.as_read(rows)
        holes = given.missing & ~images.missing_channels[rows][..., None, None]
        if "pixels" not in self.names:
            return given.values
        return self._transformed("pixels", replace(given, missing=holes), holes).values

    def _transformed(self, kind: str, given: ImageRows, holes: NDArray[np.bool_]) -> ImageRows:
        """What an imputer makes of `given`, checked against its contract at `holes` and elsewhere."""
        name, shelf = self.names[kind], IMPUTERS[kind]
        home, what = shelf.home(name), f"{shelf.kind} {name}"
        with guarded(home, what):
            done: object = self.fitted[kind].transform(given)
        if not isinstance(done, ImageRows) or done.values.shape != given.values.shape:
            raise fault(home, what, "transform gave no images of the same shape")
        if done.values.dtype != given.values.dtype:
            raise fault(home, what, f"transform turned {given.values.dtype} into {done.values.dtype}")
        if not np.isfinite(done.values[holes]).all():
            raise fault(home, what, "it leaves holes that are not finite")
        if not np.array_equal(done.values[~given.missing], given.values[~given.missing]):
            raise fault(home, what, "it changes what was observed")
        return done


_WHY = {NOT_FINITE: "NaN or infinite", NODATA: "nodata"}


def _scaled(done: ImageRows, zero: Sequence[float]) -> NDArray[Any]:
    """The values, so that each image is multiplied by its gain once it is normalised."""
    if done.gain is None:
        return done.values
    centre = np.array(zero, dtype=np.float32)[None, :, None, None]
    scaled: NDArray[Any] = centre + done.gain[:, None, None, None] * (done.values - centre)
    return scaled.astype(np.float32)
