"""Schedules worked out by hand: periods of three ticks, and what the robot does while nothing is there."""

import numpy as np
import pytest
from support.lab import Lab, Signed, delayed, lab_task, play_in_lab
from support.worlds import BRIDGE

from vla_bench.errors import UnknownNameError, VlaBenchError
from vla_bench.run.pacing import PACINGS, parse_pacing, whole_ns
from vla_bench.run.pacing.clock import Request
from vla_bench.run.pacing.timelines import DECAY
from vla_bench.run.rollout import Rollout, play
from vla_bench.types import ActionChunk, Episode

NOTHING = None


def schedule(pacing, ticks, *, length=1, executed=1, delays=(0,), **task):
    """What begins at each of the first ticks, and the outcome."""
    lab, _, outcome = play_in_lab(
        pacing, Signed(length), lab_task(3, time_s=ticks * 0.02, **task),
        chunk_executed=executed, delays=delayed(*delays),
    )  # fmt: skip
    return lab, outcome


def begun(lab):
    """Tick → action that began."""
    return {tick: command for tick, command in enumerate(lab.signed()) if command is not None}


def test_a_late_action_is_applied_on_arrival_and_the_next_is_seen_a_period_after_the_last():
    lab, outcome = schedule("realtime", 12, delays=(1,))
    assert begun(lab) == {1: (0, 0), 4: (3, 0), 7: (6, 0), 10: (9, 0)}
    assert list(outcome["inferences"].observation_age_ms) == [20.0] * 4
    assert list(outcome["inferences"].staleness_ms) == [20.0, 0, 0, 0]


def test_who_is_slower_than_the_period_is_asked_again_as_soon_as_he_has_answered():
    lab, outcome = schedule("realtime", 18, delays=(5,))
    assert begun(lab) == {5: (0, 0), 10: (5, 0), 15: (10, 0)}
    assert list(outcome["inferences"].observed_ms) == [0.0, 100.0, 200.0]
    assert list(outcome["inferences"].delay_ms) == [100.0] * 3
    assert list(outcome["inferences"].staleness_ms) == [100.0, 40.0, 40.0]


def test_the_budget_in_steps_is_as_many_actions_however_long_they_take():
    """int8 at 1.2 Hz had about 50 s for its 60 steps, and bf16 12 s."""
    task = lab_task(10, steps=60)
    _, _, slow = play_in_lab("realtime", Signed(), task, delays=lambda call, spent_ns: 833_333_333)
    _, _, fast = play_in_lab("realtime", Signed(), task, delays=lambda call, spent_ns: 200_000_000)
    assert slow["simulated_s"] == pytest.approx(60 * 0.84 + 0.2)
    assert fast["simulated_s"] == pytest.approx(61 * 0.2)


def test_synchronous_chunks_are_used_up_before_the_next_is_asked_for():
    lab, outcome = schedule("chunk_sync", 20, length=3, executed=2, delays=(4,))
    assert begun(lab) == {4: (0, 0), 7: (0, 1), 14: (10, 0), 17: (10, 1)}
    assert list(outcome["inferences"].staleness_ms) == [80.0, 80.0]


def test_aligned_by_index_the_stale_beginning_of_a_chunk_is_dropped():
    lab, outcome = schedule("chunk_async", 24, length=4, executed=2, delays=(4,))
    assert begun(lab) == {6: (0, 2), 9: (0, 3), 12: (6, 2), 15: (6, 3), 18: (12, 2), 21: (12, 3)}
    assert list(outcome["inferences"].observation_age_ms) == [120.0] * 4
    assert list(outcome["inferences"].staleness_ms) == [120.0, 0, 0, 0]


def test_restarted_a_chunk_begins_with_its_first_action_and_cuts_the_slot():
    lab, _ = schedule("chunk_async@restart", 20, length=4, executed=2, delays=(4,))
    assert begun(lab) == {4: (0, 0), 7: (0, 1), 10: (6, 0), 13: (6, 1), 16: (12, 0), 19: (12, 1)}
    cut, _ = schedule("chunk_async@restart", 9, length=4, executed=1, delays=(0, 1))
    assert begun(cut) == {0: (0, 0), 3: (0, 1), 4: (3, 0), 7: (6, 0)}


def test_a_chunk_that_is_late_altogether_is_never_used():
    lab, _ = schedule("chunk_async", 30, length=2, executed=1, delays=(0, 9, 0))
    assert begun(lab) == {0: (0, 0), 3: (0, 1), 12: (12, 0), 15: (15, 0)} | {
        tick: (tick, 0) for tick in range(12, 30, 3)
    }


def test_an_ensemble_averages_all_that_is_said_about_an_instant():
    lab, _, _ = play_in_lab(
        "chunk_async@ensemble", Signed(3), lab_task(3, time_s=12 * 0.02), chunk_executed=1
    )
    weights = np.exp(-DECAY * np.arange(3))
    at_9 = np.average([[0 + 3, 2], [6, 1], [9, 0]], axis=0, weights=weights)
    assert lab.commands[9][:2] == pytest.approx(at_9)
    assert lab.commands[9][6] == pytest.approx(1.0)
    assert lab.commands[3][:2] == pytest.approx(np.average([[0, 1], [3, 0]], axis=0, weights=weights[:2]))


@pytest.mark.parametrize(
    ("first", "begins", "waited"),
    [("", {5: (0, 0)}, 0), ("@free", {0: (0, 0)}, 0), ("@wait", {0: (0, 0)}, 0.1)],
)
@pytest.mark.parametrize("mode", ["realtime", "chunk_sync"])
def test_until_the_first_answer_the_robot_holds_or_the_world_waits_or_it_is_free(mode, first, begins, waited):
    lab, outcome = schedule(f"{mode}{first}", 6, delays=(5, 50))
    assert begun(lab) == begins
    assert outcome["task_s"] - outcome["simulated_s"] == pytest.approx(waited)


@pytest.mark.parametrize(
    ("rule", "idle"),
    [("goal", NOTHING), ("null", [0, 0, 0, 0, 0, 0, 1]), ("repeat", [0, 0, 0, 0, 0, 0, 1])],
)
def test_what_the_robot_does_meanwhile_is_the_rule_of_its_suite(rule, idle):
    lab, outcome = schedule("chunk_sync", 16, delays=(2, 7), stale=rule)
    given_at = {tick: list(c) for tick, c in enumerate(lab.commands) if c is not None}
    before = {0: [0, 0, 0, 0, 0, 0, -1]} if rule == "null" else {}
    assert given_at == {2: [0, 0, 0, 0, 0, 0, 1], 12: [5, 0, 0, 0, 0, 0, 1]} | before | (
        {}
        if idle is NOTHING
        else {5: idle, 8: idle, 11: idle, 15: [5, 0, 0, 0, 0, 0, 1] if rule == "repeat" else idle}
    )
    assert outcome["steps"] == 2, "what fills the time is no action of the policy"


def test_without_a_rule_nothing_is_assumed():
    lab = Lab(lab_task(time_s=1.0, stale=None))
    outcome = play(Rollout(lab, Signed()), Episode(BRIDGE, seed=0), "realtime", 0)
    assert (outcome["status"], outcome["steps"]) == ("error", 0)
    assert "set stale to one of 'goal', 'null', 'repeat'" in outcome["error"].message


def test_a_history_holds_the_newest_of_each_instant_at_the_ends_of_periods():
    policy = Signed(history=3, history_stride_s=2 * 3 * 0.02)
    play_in_lab("realtime", policy, lab_task(3, time_s=26 * 0.02), delays=delayed(4))
    assert policy.seen == [
        [0, 0, 0], [0, 0, 4], [0, 0, 8], [0, 6, 12], [3, 9, 16], [6, 12, 20], [12, 18, 24],
    ]  # fmt: skip


def test_the_world_runs_ahead_of_the_policys_clock_by_the_phase():
    for pacing in PACINGS:
        lab, run, outcome = play_in_lab(pacing, Signed(), lab_task(3, steps=2), phase_ticks=2)
        assert lab.signed() == [None, None, (2, 0), None, None, (5, 0), None, None], pacing
        assert (run.ticks, outcome["simulated_s"]) == (6, pytest.approx(0.12)), "not counted"


def test_an_action_that_is_no_number_is_a_failure_when_it_arrives_and_not_before():
    class Broken(Signed):
        def act(self, observations):
            return ActionChunk(super().act(observations).actions * np.nan)

    for succeeds_at, cause in ((np.inf, "policy_nan"), (4, None)):
        _, run, outcome = play_in_lab(
            "realtime", Broken(), lab_task(3, steps=9), delays=delayed(5), succeeds_at=succeeds_at
        )
        assert (outcome.get("cause"), run.ticks) == (cause, min(5, succeeds_at))


# ── the clock, and names ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [0.5, 1.0, np.float64(2), True, "3"])
def test_the_clock_refuses_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match="whole nanoseconds"):
        whole_ns(value, "a delay")
    with pytest.raises(TypeError, match="whole nanoseconds"):
        Request(value, 10, None)
    lab = Lab(lab_task(steps=1))
    for pacing in PACINGS:
        run = Rollout(lab, Signed(), delays=lambda call, spent_ns: value)
        outcome = play(run, Episode(BRIDGE, seed=0), pacing, 0)
        assert outcome["error"].type == "TypeError", pacing


def test_time_does_not_run_backwards():
    with pytest.raises(ValueError, match="-3 ns"):
        whole_ns(-3, "a delay")
    with pytest.raises(ValueError, match="-1 ns"):
        Request(10, 9, None)


@pytest.mark.parametrize(
    "name", [*PACINGS, "chunk_async@restart", "chunk_async@ensemble+free", "realtime@wait"]
)
def test_a_pacing_has_one_name(name):
    assert str(parse_pacing(name)) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("realtme", "did you mean 'realtime'"),
        ("realtime@restart", "unknown option of pacing 'realtime': 'restart'; known: free, hold, wait"),
        ("blocking@wait", "none exist"),
        ("chunk_async@", "unknown option"),
        ("chunk_async@index", "is called 'chunk_async'"),
        ("chunk_async@free+restart", "is called 'chunk_async@restart+free'"),
        ("chunk_async@restart+ensemble", "needs chunks that are aligned by index"),
    ],
)
def test_a_wrong_name_says_what_there_is(name, said):
    with pytest.raises((UnknownNameError, VlaBenchError), match=said.replace("+", r"\+")):
        parse_pacing(name)
