import numpy as np
import pytest
from scipy.stats import binomtest, multinomial
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from vla_bench.account.statistics import (
    detectable_paired,
    detectable_unpaired,
    mcnemar_power,
    required_equivalence,
    required_pairs,
    required_unpaired,
)


@pytest.mark.parametrize(
    ("first", "second", "n"), [(0.713, 0.581, 205), (0.9, 0.85, 681), (0.95, 0.93, 2199)]
)
def test_unpaired_sizes_are_those_of_statsmodels(first, second, n):
    solved = NormalIndPower().solve_power(proportion_effectsize(first, second), alpha=0.05, power=0.8)
    assert required_unpaired(first, second) == required_unpaired(second, first) == n == int(np.ceil(solved))


@pytest.mark.parametrize("n", [20, 80, 500])
def test_the_smallest_drop_needs_just_these_episodes(n):
    drop = detectable_unpaired(0.8, n)
    assert drop is not None
    assert required_unpaired(0.8, 0.8 - drop + 1e-9) == pytest.approx(n, abs=1)


@pytest.mark.parametrize(
    ("n", "discordance", "difference"), [(12, 0.5, 0.4), (25, 0.3, -0.2), (25, 0.3, 0.0), (10, 1.0, 0.8)]
)
def test_paired_power_is_the_sum_over_all_tables(n, discordance, difference):
    wins, losses = (discordance + difference) / 2, (discordance - difference) / 2
    found = sum(
        multinomial.pmf((b, c, n - b - c), n, (wins, losses, 1 - discordance))
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if b + c and binomtest(b, b + c).pvalue <= 0.05
    )
    assert mcnemar_power(n, discordance, difference) == pytest.approx(found, abs=1e-9)


def test_power_without_a_difference_is_at_most_the_level():
    assert all(mcnemar_power(n, d, 0.0) <= 0.05 for n in (10, 50, 400) for d in (0.05, 0.2, 0.9))


@pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.15), (0.1, 0.2), (0.2, 0.2), (0.1, 1.0)])
def test_required_pairs_reach_the_power_and_few_less_do_not(difference, discordance):
    n = required_pairs(difference, discordance)
    assert mcnemar_power(n, discordance, difference) >= 0.8
    assert mcnemar_power(int(0.95 * n) - 2, discordance, difference) < 0.8


def test_required_pairs_are_some_more_than_the_approximation_for_five_points():
    assert 469 <= required_pairs(0.05, 0.15) <= 510  # Connor's formula gives 469


@pytest.mark.parametrize(("n", "discordance"), [(50, 0.3), (80, 0.2), (500, 0.1)])
def test_the_smallest_paired_difference_has_the_power_and_a_smaller_one_has_not(n, discordance):
    found = detectable_paired(n, discordance)
    assert found is not None
    assert mcnemar_power(n, discordance, found) >= 0.8 > mcnemar_power(n, discordance, found - 0.001)


def test_too_few_episodes_find_nothing():
    assert detectable_paired(0, 0.2) is detectable_paired(20, 0.2) is None
    assert detectable_unpaired(0.8, 0) is detectable_unpaired(0.1, 10) is None


def test_equivalence_needs_what_it_has_power_for():
    from scipy.stats import norm

    n, variance, margin = required_equivalence(0.05, 0.15), 0.15, 0.05
    reached = 2 * norm.cdf(margin / np.sqrt(variance / n) - norm.ppf(0.95)) - 1
    assert reached == pytest.approx(0.8, abs=0.002)
    assert required_equivalence(0.05, 2 * 0.71 * 0.29) == 1411


def test_impossible_questions_are_refused():
    with pytest.raises(ValueError, match="no number of episodes"):
        required_unpaired(0.8, 0.8)
    with pytest.raises(ValueError, match="no number of pairs"):
        required_pairs(0.0, 0.2)
    with pytest.raises(ValueError, match=r"difference 0\.3, discordance 0\.2"):
        mcnemar_power(50, 0.2, 0.3)
