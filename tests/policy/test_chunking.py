"""Policies around policies: one action at a time, and the mean of several predictions."""

from __future__ import annotations

import numpy as np
import pytest

from vla_bench.errors import ConventionError, UnknownNameError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy
from vla_bench.policy.chunking import RecedingHorizon, TemporalEnsemble
from vla_bench.types import ActionChunk, Observation

LENGTH = 4


class Counting:
    """Predicts for step s, in call c: 100 c + s; the calls count from the beginning of the episode."""

    spec = PolicySpec(chunk_length=LENGTH, action_size=7, control_hz=5)

    def reset(self, instruction: str, seed: int) -> None:
        self.told, self.calls = (instruction, seed), 0

    def act(self, observations) -> ActionChunk:
        values = 100.0 * self.calls + np.arange(self.calls, self.calls + LENGTH)
        self.calls += 1
        return ActionChunk(np.repeat(values[:, None], 7, axis=1), {"inference": 5.0})


def observation() -> Observation:
    return Observation({}, {}, "", 0)


def actions(policy, steps: int) -> list[float]:
    made = [policy.act([observation()]) for _ in range(steps)]
    assert all(chunk.actions.shape == (1, 7) for chunk in made)
    return [float(chunk.actions[0, 0]) for chunk in made]


@pytest.mark.parametrize("executed", [1, 2, 3, 4])
def test_a_receding_horizon_asks_again_when_its_actions_are_used_up(executed):
    inner = Counting()
    policy = RecedingHorizon(inner, executed)
    policy.reset("go", 3)
    assert inner.told == ("go", 3)
    found = actions(policy, 2 * executed)
    assert found == [*range(executed), *(101.0 + i for i in range(executed))]
    assert inner.calls == 2


def test_a_receding_horizon_takes_no_time_between_chunks():
    policy = RecedingHorizon(Counting(), 2)
    policy.reset("", 0)
    spent = [policy.act([observation()]).timings_ms["inference"] for _ in range(4)]
    assert spent == [5.0, 0.0, 5.0, 0.0]


@pytest.mark.parametrize("weight", [0.0, 0.3, -0.2])
def test_an_ensemble_is_the_weighted_mean_of_what_was_predicted_for_now(weight):
    policy = TemporalEnsemble(Counting(), weight=weight)
    policy.reset("", 0)
    for step, found in enumerate(actions(policy, 7)):
        calls = range(max(0, step - LENGTH + 1), step + 1)  # the oldest first
        weights = np.exp(-weight * np.arange(len(calls)))
        expected = (
            sum(w * (100.0 * call + step) for w, call in zip(weights, calls, strict=True)) / weights.sum()
        )
        assert found == pytest.approx(expected)


def test_larger_weights_favour_older_predictions():
    found = []
    for weight in (-1.0, 0.0, 1.0):
        policy = TemporalEnsemble(Counting(), weight=weight)
        policy.reset("", 0)
        found.append(actions(policy, 6)[-1])
    assert found == sorted(found, reverse=True)


def test_an_ensemble_of_one_prediction_is_the_policy_itself():
    policy = TemporalEnsemble(Counting(), predictions=1)
    policy.reset("", 0)
    assert actions(policy, 3) == [0.0, 101.0, 202.0]


@pytest.mark.parametrize("wrap", [lambda p: RecedingHorizon(p, 3), TemporalEnsemble])
def test_nothing_of_an_episode_outlives_it(wrap):
    policy = wrap(Counting())
    policy.reset("", 0)
    first = actions(policy, 5)
    policy.reset("", 0)
    assert actions(policy, 5) == first


@pytest.mark.parametrize("wrap", [lambda p: RecedingHorizon(p, 2), TemporalEnsemble])
def test_a_wrapper_wants_what_the_policy_wants_and_gives_one_action(wrap):
    spec = wrap(Counting()).spec
    assert (spec.chunk_length, spec.control_hz, spec.action_size) == (1, 5, 7)


@pytest.mark.parametrize("wrap", [RecedingHorizon, TemporalEnsemble])
@pytest.mark.parametrize("wanted", [0, 5])
def test_more_actions_than_there_are_cannot_be_used(wrap, wanted):
    with pytest.raises(ConventionError, match=rf"Counting predicts 4 action\(s\), {wanted} are asked for"):
        wrap(Counting(), wanted)


@pytest.mark.parametrize("name", ["ensemble", "receding"])
def test_a_card_wraps_the_policy_that_its_argument_names(name):
    policy = load_policy(f"{name}:random")
    policy.reset("", 5)
    plain = load_policy("random")
    plain.reset("", 5)
    for _ in range(3):
        np.testing.assert_array_equal(policy.act([observation()]).actions, plain.act([observation()]).actions)
    with pytest.raises(ConventionError, match=f"{name}:NAME"):
        load_policy(name)
    with pytest.raises(UnknownNameError, match=r"'randm'.*'random'"):
        load_policy(f"{name}:randm")
