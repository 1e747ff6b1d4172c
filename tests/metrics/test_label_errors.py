"""Flipped labels are found, by a classifier that has not seen them."""

import numpy as np
import pytest

from zoo.errors import ZooError
from zoo.metrics import label_errors
from zoo.metrics.label_errors import out_of_sample, require_cleanlab, suspects


def flipped(share=0.05, seed=0):
    generator = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], [200, 120, 60])
    features = generator.normal(size=(3, 16))[truth] * 1.5 + generator.normal(size=(len(truth), 16))
    wrong = generator.choice(len(truth), int(share * len(truth)), replace=False)
    codes = truth.copy()
    codes[wrong] = (codes[wrong] + generator.integers(1, 3, len(wrong))) % 3
    return features.astype(np.float32), codes, truth, set(wrong.tolist())


def test_flipped_labels_are_found_with_their_own_class():
    pytest.importorskip("cleanlab")
    features, codes, truth, wrong = flipped()
    found = suspects(codes, out_of_sample(features, codes))
    hits = [each for each in found if each.row in wrong]
    assert len(hits) / len(wrong) > 0.8
    assert len(hits) / len(found) > 0.8
    assert np.mean([each.suggested == truth[each.row] for each in hits]) > 0.9
    assert all(each.given == codes[each.row] and each.of_given < each.of_suggested for each in found)
    assert [each.of_given for each in found] == sorted(each.of_given for each in found)


def test_no_row_is_judged_by_a_classifier_that_saw_it_or_its_group(monkeypatch):
    seen = []
    fit = label_errors.fit_quietly
    monkeypatch.setattr(label_errors, "fit_quietly", lambda model, x, y: (seen.append(len(x)), fit(model, x, y))[1])
    features, codes, _, _ = flipped()
    groups = np.arange(len(codes)) // 2
    found = out_of_sample(features, codes, groups=groups)
    assert len(seen) == 5
    assert all(rows < len(codes) for rows in seen)
    assert np.allclose(found.sum(axis=1), 1)


def test_random_labels_are_not_learned_out_of_sample():
    features, _, _, _ = flipped()
    codes = np.random.default_rng(1).integers(0, 2, len(features))
    guessed = out_of_sample(features, codes).argmax(axis=1)
    assert abs((guessed == codes).mean() - 0.5) < 0.1


def test_without_cleanlab_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(label_errors, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"pip install 'backbone-zoo\[advise\]', or leave them out with --no-labels"):
        require_cleanlab()
