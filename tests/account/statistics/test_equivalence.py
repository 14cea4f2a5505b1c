import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from vla_bench.account.statistics import (
    against_published,
    paired_equivalence,
    tango_interval,
    unpaired_difference,
    unpaired_equivalence,
)
from vla_bench.account.statistics.equivalence import tango_z

TABLES = st.integers(1, 200).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)).filter(
        lambda t: t[0] + t[1] <= t[2]
    )
)


def likelihood_z(b, c, n, delta):
    """The score statistic with the nuisance rate found by maximising the likelihood numerically."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def loss(q):
        parts = ((b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta))
        return -sum(count * np.log(max(p, 1e-300)) for count, p in parts if count)

    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * delta) / np.sqrt(n * (2 * q + delta - delta**2))


@settings(max_examples=60)
@given(TABLES, st.sampled_from([-0.3, -0.05, 0.05, 0.2]))
def test_tangos_closed_form_maximises_the_likelihood(table, delta):
    assert tango_z(*table, delta) == pytest.approx(likelihood_z(*table, delta), rel=1e-3, abs=1e-3)


@given(TABLES)
def test_without_a_difference_to_test_tangos_statistic_is_mcnemars(table):
    b, c, n = table
    expected = (b - c) / np.sqrt(b + c) if b + c else 0.0
    assert tango_z(b, c, n, 0.0) == pytest.approx(expected, abs=1e-5)


@given(TABLES, st.floats(0.8, 0.99))
def test_tangos_interval_ends_where_its_test_begins_to_reject(table, confidence):
    b, c, n = table
    found = tango_interval(b, c, n, confidence)
    z = norm.ppf((1 + confidence) / 2)
    assert -1 <= found.low <= (b - c) / n <= found.high <= 1
    if found.low > -1:
        assert tango_z(b, c, n, found.low) == pytest.approx(z, rel=1e-3)
    if found.high < 1:
        assert tango_z(b, c, n, found.high) == pytest.approx(-z, rel=1e-3)


def test_no_discordant_pair_shows_equivalence_once_there_are_enough_pairs():
    few, enough = paired_equivalence(0, 0, 40, 0.05), paired_equivalence(0, 0, 100, 0.05)
    assert few is not None
    assert enough is not None
    assert few.p_equivalent > 0.05 > enough.p_equivalent
    assert enough.p_equivalent == pytest.approx(norm.sf(np.sqrt(100 * 0.05 / 0.95)))
    assert -0.05 < enough.interval.low < 0 < enough.interval.high < 0.05


@given(TABLES, st.sampled_from([0.02, 0.05, 0.2]))
def test_equivalence_is_shown_where_the_interval_lies_inside_the_margin(table, margin):
    made = paired_equivalence(*table, margin)
    assert made is not None
    inside = -margin < made.interval.low and made.interval.high < margin
    assert inside == (made.p_equivalent < 0.05) or made.p_equivalent == pytest.approx(0.05, abs=1e-6)
    mirrored = paired_equivalence(table[1], table[0], table[2], margin)
    assert mirrored is not None
    assert mirrored.p_no_worse == pytest.approx(made.p_no_better, abs=1e-9)


def test_no_worse_is_one_sided():
    better = paired_equivalence(40, 5, 100, 0.05)
    assert better is not None
    assert better.p_no_worse < 1e-6
    assert better.p_no_better > 0.99


@pytest.mark.parametrize("level", [0, 50])
def test_independent_arms_without_successes_or_failures_can_be_equivalent(level):
    made = unpaired_equivalence((level, 50), (level, 50), 0.05)
    assert made is not None
    assert made.p_no_worse == pytest.approx(made.p_no_better) == pytest.approx(0.0533, abs=1e-3)
    more = unpaired_equivalence((level * 4, 200), (level * 4, 200), 0.05)
    assert more is not None
    assert more.p_equivalent < 0.001


def test_independent_equivalence_at_the_sizes_of_the_paper():
    for first, second, n, p in ((356, 359, 500, 0.06), (1426, 1438, 2000, 0.001)):
        made = unpaired_equivalence((first, n), (second, n), 0.05)
        assert made is not None
        assert made.p_equivalent == pytest.approx(p, rel=0.1)


def test_nothing_to_compare_is_none_and_nonsense_is_refused():
    assert paired_equivalence(0, 0, 0, 0.05) is None
    assert unpaired_equivalence((0, 0), (1, 2), 0.05) is None
    assert unpaired_difference((0, 0), (1, 2), 0.95) is None
    with pytest.raises(ValueError, match="margin 5: a difference of rates"):
        paired_equivalence(1, 1, 10, 5)
    with pytest.raises(ValueError, match="9 and 3 discordant pairs of 10"):
        paired_equivalence(9, 3, 10, 0.05)


def test_boschloos_test_and_newcombes_interval_are_those_of_the_libraries():
    from scipy.stats import boschloo_exact

    made = unpaired_difference((57, 80), (46, 80), 0.95)
    assert made is not None
    assert made.p_value == pytest.approx(boschloo_exact([[57, 46], [23, 34]]).pvalue)
    # Newcombe 1998, table II: 56/70 - 48/80, method 10
    published = unpaired_difference((56, 70), (48, 80), 0.95)
    assert published is not None
    assert (published.interval.low, published.interval.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("counts", "p"), [(((0, 10), (0, 10)), 1.0), (((10, 10), (10, 10)), 1.0), (((0, 300), (0, 300)), 1.0)]
)
def test_arms_that_are_alike_at_the_ends_do_not_differ(counts, p):
    made = unpaired_difference(*counts, 0.95)
    assert made is not None
    assert made.p_value == pytest.approx(p)
    assert made.interval.low < 0 < made.interval.high


def test_large_arms_are_tested_by_the_pooled_score_and_it_is_said():
    from statsmodels.stats.proportion import proportions_ztest

    made = unpaired_difference((400, 500), (350, 500), 0.95)
    assert made is not None
    assert made.p_value == pytest.approx(proportions_ztest([400, 350], [500, 500])[1])
    assert "asymptotic" in made.test


def test_verdicts_say_which_of_four_it_is():
    assert against_published(847, 1000, 0.847).word == "reproduced"
    assert against_published(600, 1000, 0.847).word == "not reproduced"
    assert against_published(17, 20, 0.847).word == "inconclusive"
    assert against_published(17, 20, 0.847, incomparable="another robot").reason == "another robot"
    assert against_published(0, 0, 0.847).word == "not comparable"
    assert against_published(490, 500, 0.976, published_n=500).word == "reproduced"
    assert against_published(30, 80, 0.713, published_n=80).word == "not reproduced"
    assert "published rate taken as known" in against_published(17, 20, 0.847).reason
    with pytest.raises(ValueError, match="not a percentage"):
        against_published(17, 20, 84.7)


def test_a_rate_near_the_end_is_reproduced_by_every_success():
    assert against_published(100, 100, 0.99).word == "reproduced"
    assert against_published(0, 100, 0.0).word == "reproduced"
