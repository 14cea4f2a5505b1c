"""Errors in units of the best constant, and tests that count episodes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vla_bench import seeding
from vla_bench.doctor.scoring import Yardstick, holm, least_p, sign_flip


@pytest.fixture
def stream():
    return seeding.generator("statistics", "test of scoring")


@pytest.fixture
def yardstick(stream):
    done = stream.normal(0, 0.3, (40, 7))
    done[:, 6] = np.where(np.arange(40) % 4, 1, -1)
    return Yardstick(done, np.repeat(np.arange(8), 5))


@pytest.mark.parametrize("judge", ["all", "arm", "gripper"])
def test_the_best_constant_has_error_1_and_the_truth_0(yardstick, judge):
    assert yardstick.constant(judge).mean() == pytest.approx(1)
    assert yardstick.errors(yardstick.done, judge).max() == 0


def test_no_other_constant_is_better(yardstick, stream):
    for _ in range(20):
        other = np.broadcast_to(stream.uniform(-1, 1, 7), yardstick.done.shape)
        assert yardstick.errors(other, "all").mean() >= 1 - 1e-9


def test_a_part_is_judged_by_itself(yardstick):
    opened = yardstick.done.copy()
    opened[:, 6] *= -1
    assert yardstick.errors(opened, "arm").max() == 0
    assert yardstick.errors(opened, "gripper").mean() == pytest.approx(4), (
        "always wrong; a constant, a quarter"
    )


def test_a_gripper_that_never_moves_is_left_out(yardstick):
    still = yardstick.done.copy()
    still[:, 6] = 1
    measure = Yardstick(still, yardstick.groups)
    assert not measure.gripper_moves
    np.testing.assert_array_equal(measure.errors(still * 0.5, "all"), measure.errors(still * 0.5, "arm"))


def test_size_is_that_of_the_arm(yardstick):
    halved = 0.5 * yardstick.done
    assert yardstick.size(halved) == pytest.approx(0.5)


def test_a_test_over_few_episodes_is_exact():
    differences = np.array([0.3, 0.2, 0.1, -0.05])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1).T
    assert sign_flip(differences) == np.mean(signs @ differences >= differences.sum() - 1e-12)
    for count in (3, 9, 14):
        assert sign_flip(np.ones(count)) == least_p(count) == 0.5**count


def test_a_test_over_many_episodes_agrees_with_the_normal_one(stream):
    differences = stream.normal(0.25, 1, 60)
    expected = stats.ttest_1samp(differences, 0, alternative="greater").pvalue
    assert sign_flip(differences) == pytest.approx(expected, abs=0.02)
    assert sign_flip(differences) == sign_flip(differences), "the draws are keyed"


def test_pairs_of_one_episode_count_once(yardstick):
    """Five equal pairs of an episode are no more evidence than one."""
    better = np.where(yardstick.groups < 4, 1.0, 0.0)
    assert yardstick.p_less(0 * better, better) == 0.5**4


def test_no_difference_is_no_evidence(yardstick):
    errors = yardstick.constant("all")
    assert yardstick.p_less(errors, errors) == 1


def test_holm_adjusts_for_the_number_of_tests():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
