from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from vla_bench.account.statistics import anytime_p, log_e_value, share_interval

COUNTS = st.integers(0, 400)


@given(COUNTS, COUNTS)
def test_the_evidence_is_the_mixture_of_likelihood_ratios(b, c):
    expected = betaln(b + 0.5, c + 0.5) - betaln(0.5, 0.5) + (b + c) * log(2)
    assert log_e_value(b, c) == pytest.approx(expected, abs=1e-8)
    assert log_e_value(b, c) == log_e_value(c, b)


@given(st.integers(0, 60), st.integers(0, 60))
def test_under_the_null_the_evidence_is_a_martingale(b, c):
    after = (exp(log_e_value(b + 1, c)) + exp(log_e_value(b, c + 1))) / 2
    assert after == pytest.approx(exp(log_e_value(b, c)))


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01])
def test_looking_after_every_pair_rejects_at_most_as_often_as_it_says(alpha):
    going, stopped = np.ones(1), 0.0  # P(b wins so far, not stopped) of a fair coin
    for pairs in range(1, 801):
        going = np.convolve(going, [0.5, 0.5])
        evidence = np.array([log_e_value(b, pairs - b) for b in range(pairs + 1)])
        over = evidence >= -log(alpha)
        stopped += going[over].sum()
        going[over] = 0.0
    assert 0.2 * alpha < stopped <= alpha


def test_no_discordant_pair_is_no_evidence():
    assert log_e_value(0, 0) == 0.0
    assert anytime_p(0.0) == anytime_p(-3.0) == 1.0
    assert anytime_p(log(40)) == pytest.approx(1 / 40)
    interval = share_interval(0, 0, 0.95)
    assert (interval.low, interval.high) == (0.0, 1.0)


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_leaves_one_half_out_exactly_when_the_test_decides(b, c, confidence):
    found = share_interval(b, c, confidence)
    assert 0 <= found.low <= found.high <= 1
    if b + c:
        assert found.low <= b / (b + c) <= found.high
    decided = log_e_value(b, c) >= -log(1 - confidence)
    assert decided == (not found.low < 0.5 < found.high)


def test_an_arm_that_wins_every_pair_is_decided_after_seven():
    wins = next(b for b in range(100) if log_e_value(b, 0) >= -log(0.05))
    assert wins == 7
