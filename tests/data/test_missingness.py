import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact

from zoo.data.missingness import depends_on_label, sentence


def column(holes, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    missing = np.concatenate([np.arange(size) < count for count, size in zip(holes, sizes, strict=True)])
    return missing, labels


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(20, 80), min_size=2, max_size=5))
def test_large_counts_give_pearsons_chi_squared_as_scipy_has_it(counts):
    sizes = [120] * len(counts)
    found = depends_on_label(*column(counts, sizes))
    oracle = chi2_contingency([counts, [120 - count for count in counts]], correction=False)
    assert found.how == "chi-squared"
    assert found.statistic == pytest.approx(oracle.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(oracle.pvalue, abs=1e-9)


def test_small_counts_are_permuted_and_agree_with_fishers_exact_test():
    found = depends_on_label(*column([4, 0], [10, 10]))
    exact = fisher_exact([[4, 0], [6, 10]]).pvalue
    assert found.how == "permutation"
    assert found.p_value == pytest.approx(exact, abs=0.015)


def test_rows_without_a_label_do_not_count():
    missing, labels = column([30, 30], [60, 60])
    more = depends_on_label(np.append(missing, [True] * 50), np.append(labels, [-1] * 50))
    assert more == depends_on_label(missing, labels)


@pytest.mark.parametrize(("holes", "sizes"), [([0, 0], [9, 9]), ([9, 9], [9, 9]), ([3], [9])])
def test_there_is_nothing_to_test_without_holes_or_values_or_with_one_class(holes, sizes):
    assert depends_on_label(*column(holes, sizes)) is None
    assert sentence("age", "label", None) == ""


def test_it_is_said_in_words():
    dependent = sentence("age", "label", depends_on_label(*column([50, 5], [100, 100])))
    assert dependent.startswith("holes of 'age' depend on 'label' (p less than 0.001, chi-squared): leaving such rows")
    independent = sentence("age", "label", depends_on_label(*column([20, 20], [100, 100])))
    assert independent == "holes of 'age' show no dependence on 'label' (p 1.000, chi-squared)"
