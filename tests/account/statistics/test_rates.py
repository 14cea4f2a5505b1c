import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from vla_bench import seeding
from vla_bench.account.statistics import (
    RATE_INTERVALS,
    exact,
    jeffreys,
    posterior_density,
    probability_better,
)

RATES = np.linspace(0.001, 0.999, 999)


def coverage(method, n, confidence=0.95):
    """Probability that the interval of n trials covers each of RATES, summed over all outcomes."""
    ends = [RATE_INTERVALS[method](k, n, confidence) for k in range(n + 1)]
    low, high = np.array([[end.low, end.high] for end in ends]).T[..., None]
    return (binom.pmf(np.arange(n + 1)[:, None], n, RATES) * ((low <= RATES) & (high >= RATES))).sum(axis=0)


@given(st.integers(1, 300), st.data())
def test_the_exact_interval_is_made_of_beta_quantiles(n, data):
    k = data.draw(st.integers(0, n))
    found = exact(k, n, 0.95)
    assert found is not None
    assert found.low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0.0)
    assert found.high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1.0)


@pytest.mark.parametrize("n", [1, 5, 30, 200])
def test_the_exact_interval_never_covers_less_than_it_says(n):
    assert coverage("exact", n).min() >= 0.95 - 1e-9


@pytest.mark.parametrize("n", [30, 80, 200])
@pytest.mark.parametrize("method", ["wilson", "jeffreys"])
def test_wilson_and_jeffreys_cover_as_often_as_they_say_on_average(method, n):
    assert coverage(method, n).mean() == pytest.approx(0.95, abs=0.01)


def test_jeffreys_reaches_the_ends():
    nothing, everything = jeffreys(0, 10, 0.95), jeffreys(10, 10, 0.95)
    assert nothing is not None
    assert everything is not None
    assert (nothing.low, everything.high) == (0.0, 1.0)
    assert nothing.high == pytest.approx(1 - everything.low) == pytest.approx(beta.ppf(0.975, 0.5, 10.5))


@pytest.mark.parametrize("method", RATE_INTERVALS)
def test_no_trials_have_no_interval_and_impossible_counts_are_refused(method):
    assert RATE_INTERVALS[method](0, 0, 0.95) is None
    one = RATE_INTERVALS[method](1, 1, 0.95)
    assert one is not None
    assert 0 < one.low < one.high == pytest.approx(1)
    with pytest.raises(ValueError, match="7 successes of 5 trials"):
        RATE_INTERVALS[method](7, 5, 0.95)


def test_a_posterior_without_trials_is_the_prior_and_integrates_to_one_with_some():
    grid = (np.arange(20_000) + 0.5) / 20_000
    assert posterior_density(0, 0, grid) == pytest.approx(np.ones(grid.size))
    for k, n in ((0, 10), (10, 10), (57, 80)):
        assert posterior_density(k, n, grid).mean() == pytest.approx(1, abs=1e-4)
        assert (posterior_density(k, n, grid) * grid).mean() == pytest.approx((k + 1) / (n + 2), abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second"), [((8, 10), (5, 12)), ((0, 0), (3, 4)), ((0, 9), (9, 9)), ((57, 80), (46, 80))]
)
def test_the_chance_of_being_better_is_what_draws_of_the_posteriors_say(first, second):
    rng = seeding.generator("statistics", "test better")
    drawn = [rng.beta(k + 1, n - k + 1, size=200_000) for k, n in (first, second)]
    assert probability_better(first, second) == pytest.approx((drawn[0] > drawn[1]).mean(), abs=0.005)
    assert probability_better(first, second) + probability_better(second, first) == pytest.approx(1)


def test_equal_arms_are_as_likely_to_be_better():
    assert probability_better((1900, 2000), (1900, 2000)) == pytest.approx(0.5)
    assert probability_better((0, 0), (0, 0)) == pytest.approx(0.5)
