"""Agreement of answers: closed forms, what does not count, and intervals over episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from vla_bench.learn import agreement
from vla_bench.learn.agreement import Answers


def answers(tokens, shown_tokens=None, log_probs=None, episode=None, **settings):
    """Tokens (N, T, A); actions are the tokens themselves."""
    tokens = np.array(tokens)
    shown = np.array(tokens if shown_tokens is None else shown_tokens)
    episode = np.arange(len(tokens)) if episode is None else np.array(episode)
    return Answers(episode, tokens.astype(float), shown.astype(float), tokens, shown, log_probs, **settings)


def certain(tokens, size=4, sure=0.97):
    """Log-probabilities that give `sure` to each token."""
    tokens = np.array(tokens)
    probabilities = np.full((*tokens.shape, size), (1 - sure) / (size - 1))
    np.put_along_axis(probabilities, tokens[..., None], sure, axis=-1)
    return np.log(probabilities).astype(np.float32)


def test_accuracy_counts_tokens_and_matches_count_whole_actions():
    found = answers([[[1, 2, 3]], [[1, 2, 0]]], [[[1, 2, 3]], [[1, 0, 0]]])
    accuracy, numbers = agreement.token_accuracy(found)
    assert (accuracy.k, accuracy.n) == (5, 6)
    assert [(number.k, number.n) for number in numbers] == [(2, 2), (1, 2), (2, 2)]
    match = agreement.exact_match(found.tokens, found.shown_tokens, found)
    assert (match.k, match.n, match.value) == (1, 2, 0.5)


def test_what_was_not_demonstrated_does_not_count():
    found = answers([[[1, 2], [3, 3]]])
    shown = found.shown.copy()
    shown[0, 1] = np.nan
    found = Answers(found.episode, found.actions + 1, shown, found.tokens, found.shown_tokens)
    accuracy, _ = agreement.token_accuracy(found)
    assert (accuracy.k, accuracy.n) == (2, 2)
    assert agreement.exact_match(found.tokens, found.shown_tokens, found).n == 1
    np.testing.assert_allclose(
        agreement.distance(found.actions, found.shown, np.array([0.05, 2.0])), [0.05, 2.0]
    )


def test_the_first_difference_is_found_in_the_order_of_decoding():
    one = answers([[[1, 1], [1, 1]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]])
    other = answers([[[1, 1], [2, 1]], [[1, 1], [1, 1]], [[3, 1], [2, 1]]])
    np.testing.assert_array_equal(agreement.first_divergence(one, other), [2, -1, 0])


def test_divergence_is_the_textbooks_and_zero_of_the_same():
    p, q = certain([[[1]]], sure=0.97), certain([[[2]]], sure=0.97)
    one, other = answers([[[1]]], log_probs=p), answers([[[2]]], log_probs=q)
    assert agreement.divergence(one, one, forced=False) == (0.0, 1)
    kl, compared = agreement.divergence(one, other, forced=False)
    assert compared == 1
    assert kl == pytest.approx((0.97 - 0.01) * np.log(97), rel=1e-5)


def test_free_running_tokens_count_until_the_first_difference():
    """Later ones follow other tokens; forced ones, and those chosen at once, all count."""
    said, others = [[[1, 1, 1]], [[1, 1, 1]]], [[[1, 2, 3]], [[1, 1, 1]]]
    for autoregressive, forced, compared in ((True, False, 5), (True, True, 6), (False, False, 6)):
        one = answers(said, log_probs=certain(said), autoregressive=autoregressive)
        other = answers(others, log_probs=certain(others), autoregressive=autoregressive)
        kl, count = agreement.divergence(one, other, forced=forced)
        assert count == compared
        differing = 1 if count == 5 else 2
        assert kl == pytest.approx(differing * 0.96 * np.log(97) / count, rel=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_divergence_is_never_negative(seed):
    draws = np.random.default_rng(seed).normal(scale=30, size=(2, 5, 1, 2, 6)).astype(np.float32)
    p, q = draws - np.logaddexp.reduce(draws, axis=-1, keepdims=True)
    tokens = np.zeros((5, 1, 2), int)
    one, other = answers(tokens, log_probs=p), answers(tokens, log_probs=q)
    assert agreement.divergence(one, other, forced=True)[0] >= -1e-12
    assert agreement.divergence(one, one, forced=True)[0] == 0


def test_an_impossible_outcome_of_the_reference_adds_nothing():
    p = np.log(np.array([[[[1.0, 0.0]]]]), where=[True, False], out=np.full((1, 1, 1, 2), -np.inf))
    q = np.log(np.array([[[[0.5, 0.5]]]]))
    one, other = answers([[[0]]], log_probs=p), answers([[[0]]], log_probs=q)
    assert agreement.divergence(one, other, forced=False)[0] == pytest.approx(np.log(2))


def test_one_episode_has_no_interval():
    hits = np.array([True, False, True])
    found = agreement.share(hits, np.ones(3, bool), np.zeros(3, int))
    assert (found.k, found.n, found.low, found.high) == (2, 3, None, None)


def test_where_all_agree_the_interval_is_that_of_as_many_trials_as_episodes():
    hits = np.ones((20, 7), bool)
    found = agreement.share(hits, hits, np.repeat(np.arange(4), 5))
    assert found.high == 1.0
    assert found.low == pytest.approx(float(beta.ppf(0.025, 4, 1)))
    missed = agreement.share(~hits, hits, np.repeat(np.arange(4), 5))
    assert (missed.low, missed.high) == (0.0, pytest.approx(1 - found.low))


def test_episodes_that_differ_widen_the_interval():
    """The same 40 hits of 80: spread evenly over eight episodes, or all in four of them."""
    ns = np.full(8, 10.0)
    even, uneven = (agreement.interval(np.array(ks, float), ns) for ks in ([5] * 8, [10] * 4 + [0] * 4))
    assert even[0] < 0.5 < even[1]
    assert uneven[1] - uneven[0] > 1.5 * (even[1] - even[0])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Coverage over 400 samples of 10 episodes that differ from each other."""
    draws = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        rates = draws.beta(4, 4, size=10)
        low, high = agreement.interval(draws.binomial(30, rates).astype(float), np.full(10, 30.0))
        covered += low <= 0.5 <= high
    assert 0.92 <= covered / 400 <= 1.0
