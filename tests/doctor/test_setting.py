"""What is seen without asking much: declarations, ranges of statistics, and the first steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.linear import SPEC, TRUE, LinearPolicy
from support.worlds import BRIDGE, simulation

from vla_bench import catalog
from vla_bench.doctor import setting
from vla_bench.doctor.pairs import Evidence, Pair, select_episode
from vla_bench.policy.base import Choice
from vla_bench.policy.cards import Card, ReferenceNumber, load_policy
from vla_bench.types import ActionChunk

TASK = catalog.task(BRIDGE)


class Always:
    """Gives one command."""

    spec = SPEC

    def __init__(self, *command: float) -> None:
        self._chunk = ActionChunk(np.array([command]))

    def reset(self, instruction, seed):
        pass

    def act(self, observations):
        return self._chunk


@pytest.fixture
def card(tmp_path):
    return Card(
        name="mine", source=tmp_path / "mine.toml", title="t", family="own", adapter="m:f", licence="MIT",
        reference=(ReferenceNumber(suite="libero_goal", value=1.0, source="s"),),
    )  # fmt: skip


@pytest.fixture
def begun():
    found = simulation(BRIDGE)
    found.reset(select_episode(TASK, 0))
    return found


def evidence(width: float) -> Evidence:
    """Commands whose range in every number of the arm is `width`."""
    done = np.linspace(-width / 2, width / 2, 101)[:, None] * np.ones(7)
    done[:, 5] = 0.0  # hardly used: says nothing
    return Evidence("somebody", (tuple(Pair((), row) for row in done),), 4.0)


def verdicts(checks) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def test_what_the_task_does_not_have_is_broken(card, begun):
    policy = Always(*[0.0] * 7)
    found = verdicts(setting.fit(policy, card, begun))
    assert found == {"fit": "good", "pictures": "note", "suite": "note"}
    policy.spec = replace(SPEC, cameras=("nowhere",))
    (check,) = setting.fit(policy, card, begun)
    assert check.verdict == "broken"
    assert "it needs cameras ['nowhere']" in check.text


def test_another_frequency_than_the_tasks_is_a_note(card, begun):
    policy = Always(*[0.0] * 7)
    policy.spec = replace(SPEC, control_hz=20.0)
    assert verdicts(setting.fit(policy, card, begun))["frequency"] == "note"
    policy.spec = replace(SPEC, control_hz=1 / TASK.policy_period_s)
    assert "frequency" not in verdicts(setting.fit(policy, card, begun))


def test_statistics_far_from_what_was_done_are_a_note_if_others_are_near():
    weights = np.zeros((1, 7))
    (check,) = setting.ranges(LinearPolicy(weights, replace(TRUE, unnorm_key="slow")), evidence(2.0), "mine")
    assert check.verdict == "note"
    assert "'carrots' comes nearest" in check.text
    (check,) = setting.ranges(LinearPolicy(weights), evidence(2.0), "mine")
    assert check.verdict == "good"
    assert list(setting.ranges(Always(*[0.0] * 7), evidence(2.0), "mine")) == []


def test_statistics_of_the_suites_own_name_are_pointed_out():
    class Keyed(LinearPolicy):
        def choices(self):
            return (Choice("unnorm_key", "normalisation", "carrots", ("slow", "mine_no_noops"), False),)

        def with_option(self, option, value):
            return LinearPolicy(self.weights)

    checks = list(setting.ranges(Keyed(np.zeros((1, 7))), evidence(2.0), "mine"))
    assert "there are statistics called 'mine_no_noops'" in checks[-1].text


def test_a_hand_that_hardly_moves_is_a_note(begun):
    expert, episode = load_policy("expert"), select_episode(TASK, 0)
    still = setting.first_steps(Always(0, 0, 0, 0, 0, 0, -1), expert, begun, episode, 1)
    assert still.verdict == "note"
    moves = setting.first_steps(Always(0, 0, 0.5, 0, 0, 0, -1), expert, begun, episode, 1)
    assert moves.verdict == "good"


def test_a_command_that_is_no_number_is_broken(begun):
    nan = Always(*[np.nan] * 7)
    check = setting.first_steps(nan, load_policy("expert"), begun, select_episode(TASK, 0), 1)
    assert (check.name, check.verdict) == ("first steps", "broken")
    assert "policy_nan" in check.text
