from math import comb, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from vla_bench.account.statistics import Interval, error_bounds, holm, paired_difference, wilson

OUTCOMES = st.lists(st.booleans(), min_size=1, max_size=40)


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_its_closed_form(n, data, confidence):
    k = data.draw(st.integers(0, n))
    z, p = norm.ppf(0.5 + confidence / 2), k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    interval = wilson(k, n, confidence)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert 0 <= interval.low <= p + 1e-12
    assert p - 1e-12 <= interval.high <= 1


def test_wilson_at_the_ends():
    nothing, everything = wilson(0, 10, 0.95), wilson(10, 10, 0.95)
    assert nothing is not None
    assert everything is not None
    assert (nothing.low, everything.high) == pytest.approx((0.0, 1.0))
    assert nothing.high == pytest.approx(1 - everything.low)
    assert wilson(0, 0, 0.95) is None


def test_error_bounds_enclose_the_rate():
    assert error_bounds(6, 8, 2) == Interval(0.6, 0.8)
    assert error_bounds(6, 8, 0) == Interval(0.75, 0.75)
    assert error_bounds(0, 0, 3) == Interval(0.0, 1.0)
    assert error_bounds(0, 0, 0) is None


@given(OUTCOMES, st.data())
def test_a_paired_difference_is_mcnemars_closed_form(first, data):
    second = data.draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first)))
    result = paired_difference(first, second)
    assert result is not None
    b, c = result.first_only, result.second_only
    assert result.difference == pytest.approx(sum(first) / len(first) - sum(second) / len(second))
    tail = sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert result.p_value == pytest.approx(min(1.0, 2 * tail))
    mirrored = paired_difference(second, first)
    assert mirrored is not None
    assert (mirrored.p_value, mirrored.difference) == pytest.approx((result.p_value, -result.difference))


def test_paired_differences_need_pairs():
    assert paired_difference([], []) is None
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_difference([True], [True, False])


@settings(max_examples=15, deadline=None)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []
