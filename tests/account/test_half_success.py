"""L50: where it lies, and how often its interval holds it."""

import os

import numpy as np
import pytest

from vla_bench import seeding
from vla_bench.account.half_success import falling, half_point

GRID = (0, 100, 200, 400, 800)
SETS = 1000 if os.environ.get("VLA_BENCH_LONG") else 60


def rng(*key):
    return seeding.generator("statistics", "test", *key)


def at(rates, n=20, grid=GRID):
    """Half success of n episodes of which exact shares succeed at each latency."""
    outcomes = np.array([[i < round(rate * n) for rate in rates] for i in range(n)], dtype=float)
    return half_point(grid, outcomes, ["t"] * n, 0.95, rng("at"))


def test_it_is_where_a_falling_curve_crosses_half_of_its_value_without_latency():
    assert at([1, 0.75, 0.5, 0.25, 0]).ms == pytest.approx(200)
    assert at([0.8, 0.8, 0.6, 0.2, 0]).ms == pytest.approx(300)
    assert at([1, 1, 0, 0, 0]).ms == pytest.approx(150)


def test_beyond_the_longest_latency_it_is_not_known():
    found = at([1, 1, 1, 0.9, 0.8])
    assert (found.ms, found.high_ms, str(found)) == (None, None, "> 800")


def test_a_policy_that_never_succeeds_has_none():
    assert at([0, 0, 0, 0, 0]) is None


def test_a_curve_that_rises_again_is_taken_for_the_nearest_falling_one():
    np.testing.assert_allclose(falling(np.array([1, 0.2, 0.4, 0.3, 0])), [1, 0.3, 0.3, 0.3, 0])
    assert at([1, 0.2, 0.4, 0.3, 0]).ms == pytest.approx(100 * 0.5 / 0.7)


def test_an_interval_ends_at_latencies_that_were_run():
    found = at([1, 1, 0, 0, 0])
    assert (found.low_ms, found.high_ms) == (100, 200), "between them nothing is known"
    assert {at([1, 0.7, 0.45, 0.2, 0]).low_ms, at([1, 0.7, 0.45, 0.2, 0]).high_ms} <= set(GRID)


def test_the_interval_of_the_bootstrap_holds_the_truth_often_enough():
    """Success falls as a logistic curve of latency, of which each of 4 tasks has its own."""
    grid = np.arange(0, 1000, 75.0)
    halves = np.array([250.0, 350.0, 450.0, 550.0])
    rates = 0.9 / (1 + np.exp((grid[None] - halves[:, None]) / 60))
    fine = np.arange(0, 1000.0)
    mean = (0.9 / (1 + np.exp((fine[None] - halves[:, None]) / 60))).mean(axis=0)
    truth = fine[np.flatnonzero(mean <= mean[0] / 2)[0]]
    tasks, held = np.repeat(np.arange(4), 10), 0
    for number in range(SETS):
        drawn = rng("coverage", number)
        # one number an episode: what succeeds late succeeds early, as in a paired study
        outcomes = (drawn.uniform(size=(40, 1)) < rates[tasks]).astype(float)
        found = half_point(grid.tolist(), outcomes, tasks.tolist(), 0.95, drawn)
        assert found is not None
        held += found.low_ms <= truth <= (np.inf if found.high_ms is None else found.high_ms)
    assert held / SETS >= 0.93
