"""Random numbers without a state: each is a hash of what it is for, so batches, order and processes do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def splitmix64(words: Words) -> Words:
    """Mix uint64 words of any shape: every bit of a word moves about half of its result's.

    The output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def salt(seed: int, purpose: str) -> Words:
    """One word, uint64 (1,), for a seed (any integer) and what the numbers are for."""
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def hashed(salts: Words, *numbers: Words) -> Words:
    """Mix salts and numbers, uint64 arrays that broadcast, into words of their common shape."""
    mixed = splitmix64(salts)
    for number in numbers:
        mixed = splitmix64(mixed ^ number)
    return mixed


def uniform(words: Words) -> NDArray[np.float64]:
    """Words to numbers in [0, 1), of the same shape; the upper 53 bits of each count."""
    return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def numbers_of_images(
    seed: int, purposes: Sequence[str], keys: NDArray[np.uint8], views: int | NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """For each purpose a number in [0, 1) for each image, float64 (B,).

    Args:
        seed: any integer.
        purposes: what the numbers are for; each has numbers of its own.
        keys: uint8 (B, 16), what tells images apart.
        views: the view's number, one for all or int64 (B,).

    Raises:
        ValueError: keys of another shape, or a negative view.
    """
    if keys.dtype != np.uint8 or keys.shape[1:] != (16,):
        raise ValueError(f"keys must be uint8 (B, 16), not {keys.dtype} {keys.shape}")
    each = np.broadcast_to(np.asarray(views, dtype=np.int64), (len(keys),))
    if (each < 0).any():
        raise ValueError(f"views are numbered from 0, not {each.min()}")
    salts = np.stack([salt(seed, f"augment {purpose}") for purpose in purposes])
    halves = np.ascontiguousarray(keys).view("<u8").astype(np.uint64)
    words = hashed(salts, each.astype(np.uint64)[None], halves[None, :, 0], halves[None, :, 1])
    return dict(zip(purposes, uniform(words), strict=True))
