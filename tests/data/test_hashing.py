"""Numbers without a state: as published, even, and unlike each other."""

from __future__ import annotations

import numpy as np

from zoo.data.hashing import hashed, salt, splitmix64, uniform


def test_words_are_those_of_the_published_generator():
    # The first three outputs of SplitMix64 seeded with 1234567; its state goes up by the golden ratio each time.
    states = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert splitmix64(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_of_neighbouring_counters_are_even_and_unrelated():
    counters = np.arange(20000, dtype=np.uint64)
    found = uniform(hashed(salt(0, "a"), counters))
    other = uniform(hashed(salt(0, "b"), counters))
    assert 0 <= found.min() < found.max() < 1
    assert np.histogram(found, bins=20, range=(0, 1))[0].std() < 3 * np.sqrt(1000)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(found, other)[0, 1]) < 0.03


def test_a_salt_differs_by_seed_and_purpose_and_takes_any_integer():
    salts = [salt(seed, purpose) for seed in (0, 1, -1, 2**80) for purpose in ("a", "b")]
    assert len({int(word[0]) for word in salts}) == 8
    assert salt(1, "a") == salt(1, "a")


def test_the_order_of_numbers_counts():
    one, two = np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint64)
    assert hashed(salt(0, "a"), one, two) != hashed(salt(0, "a"), two, one)
