"""What the benchmark of strategies computes by itself: the long tail, and whether a reference figure holds."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

PATH = Path(__file__).parents[2] / "benchmarks" / "imbalance.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_imbalance", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_profile_is_that_of_long_tailed_cifar(script):
    assert sum(script.profile(5000, 0.01)) == 12_406
    assert sum(script.profile(500, 0.01, classes=100)) == 10_847
    assert script.profile(5000, 0.01)[0] / script.profile(5000, 0.01)[-1] == 100


def test_splits_of_the_digits_are_disjoint_and_have_their_profiles(script):
    frame = script._tailed(load_digits().target, 0, Path("images"))
    assert frame["image"].n_unique() == len(frame)
    for split, own in script.PROFILE.items():
        counts = frame.filter(frame["split"] == split)["label"].value_counts().sort("label")["count"].to_list()
        assert counts == script.profile(*own)
    other = script._tailed(load_digits().target, 1, Path("images"))
    assert set(other["image"]) != set(frame["image"])


def test_a_reference_figure_holds_within_two_deviations(script):
    value = {"values": [], "mean": 0.0, "spread": 0.01}
    rows = {text: {metric: dict(value) for metric in script.METRICS} for text in script.REFERENCE}
    for text, (_, *figures) in script.REFERENCE.items():
        for metric, (mean, _) in zip(script.METRICS, figures, strict=True):
            rows[text][metric]["mean"] = mean
    assert all(own["holds"] for own in script.against_reference(rows))
    rows["smote"]["macro_f1"]["mean"] += 0.021
    rows["undersample(redraw=false)"]["accuracy"]["mean"] -= 0.049
    lost = [own for own in script.against_reference(rows) if not own["holds"]]
    assert [(own["strategy"], own["metric"], own["deviations"]) for own in lost] == [("smote", "macro_f1", 2.1)]


def test_dividing_by_the_prior_again_gives_the_rare_class_what_it_lacks(script, tmp_path):
    frame = "image,split,defect,defect.p(a),defect.p(b)\n" + "\n".join(
        f"{row},test,{'b' if row % 5 == 0 else 'a'},{0.7 if row % 5 else 0.6},{0.3 if row % 5 else 0.4}"
        for row in range(20)
    )
    (tmp_path / "predictions.csv").write_text(frame + "\nx,val,a,0.5,0.5\n")
    found = script.divided(tmp_path, {"a": 80, "b": 20})
    assert found["rows"] == 20
    assert found["per_class"]["b"]["recall"] == 1.0
    assert found["per_class"]["a"]["recall"] == pytest.approx(float(np.mean([0.7 / 80 > 0.3 / 20] * 16)))
