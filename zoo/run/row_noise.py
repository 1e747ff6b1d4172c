"""Random numbers that belong to a row, whichever table it stands in: what draws of a multiple imputation come from."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from zoo.specs import CovariateColumns, RowNoise


def row_noise(raw: CovariateColumns, names: Sequence[str], draw: int) -> RowNoise:
    """Numbers of N rows that depend on nothing but what is observed in a row, the name of its image, and the draw.

    So a row has the same draws alone as among others, today and tomorrow.
    """
    numeric = np.where(np.isnan(raw.numeric), np.nan, raw.numeric)  # one NaN of the many that there are
    rows = zip(names, numeric, raw.categorical, strict=True)
    generators = [
        np.random.default_rng(_seed(f"{draw} {name}".encode(), number.tobytes(), code.tobytes()))
        for name, number, code in rows
    ]

    def noise(count: int) -> NDArray[np.float64]:
        found = np.array([generator.random(count) for generator in generators]).reshape(len(generators), count)
        found[found == 0.0] = 2.0**-54  # 0 may be drawn, and lies outside
        return found

    return noise


def _seed(*parts: bytes) -> int:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return int.from_bytes(digest.digest(), "little")
