import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from support.worlds import BRIDGE, STACKED, tabletop, with_steps

from vla_bench import catalog
from vla_bench.policy.base import PolicySpec
from vla_bench.run.records import Record
from vla_bench.run.rollout import Rollout, play
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import ActionChunk, Arm, Budget, Episode, Observation

EPISODE = Episode(BRIDGE, seed=0)
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])
MOVES = np.array([0.3, -0.2, -0.1, 0.1, 0, 0.2, -1.0])


class Script:
    """Gives out the chunks of a list, the last one for ever, and keeps what it was shown."""

    def __init__(self, *chunks: np.ndarray, timings: dict | None = None, **spec: object) -> None:
        self.chunks, self.timings = [np.atleast_2d(chunk) for chunk in chunks], timings or {}
        self.spec = PolicySpec(chunk_length=len(self.chunks[0]), **spec)
        self.seen: list[Sequence[Observation]] = []

    def reset(self, instruction: str, seed: int) -> None:
        self.instruction, self.seed, self.seen = instruction, seed, []

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        self.seen.append(observations)
        return ActionChunk(self.chunks[min(len(self.seen), len(self.chunks)) - 1], self.timings)


class Breaks(Script):
    """Raises at its third action."""

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        if len(self.seen) == 2:
            raise OSError("the model server is gone")
        return super().act(observations)


def sim_of(task):
    return MujocoSimulation(task)


@pytest.fixture(scope="module")
def sim():
    return sim_of(with_steps(catalog.task(BRIDGE), 6))


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    return sim_of(tabletop(tmp_path_factory.mktemp("stacked"), init=STACKED))


def outcome_of(sim, policy, **settings):
    """Play one episode; the outcome fits a record."""
    run = Rollout(sim, policy, **settings)
    outcome = play(run, EPISODE, "blocking", policy_seed=7)
    Record.of(
        arm=Arm("p"),
        episode=EPISODE,
        task=sim.task,
        study_hash="s",
        key="k",
        worker="0",
        started_at="t",
        **outcome,
    )
    return outcome


def with_budget(sim, **limits):
    sim.task = dataclasses.replace(sim.task, budget=Budget(**limits))
    return sim


# ── how it ends ────────────────────────────────────────────────────────────────────────────────────────


def test_a_budget_of_steps_ends_in_a_failure_by_horizon(sim):
    outcome = outcome_of(sim, Script(STILL))
    assert (outcome["status"], outcome["cause"], outcome["budget_ended"]) == ("failure", "horizon", "steps")
    assert (outcome["steps"], outcome["ticks"]) == (6, 60), "settling is not counted"
    assert outcome["simulated_s"] == outcome["task_s"] == pytest.approx(1.2)
    assert outcome["command_hz"] == pytest.approx(5.0)
    assert len(outcome["inferences"].inference_ms) == 6


@pytest.mark.parametrize(
    ("limits", "ticks", "steps", "cause"),
    [
        ({"time_s": 0.5}, 25, 3, "time"),
        ({"time_s": 0.6}, 30, 3, "time"),
        ({"time_s": 0.6, "steps": 3}, 30, 3, "time"),
        ({"time_s": 0.61, "steps": 3}, 30, 3, "horizon"),
        ({"time_s": 0.3, "steps": 3}, 15, 2, "time"),
    ],
)
def test_the_limit_that_is_reached_first_ends_the_episode(limits, ticks, steps, cause):
    outcome = outcome_of(with_budget(sim_of(catalog.task(BRIDGE)), **limits), Script(STILL))
    assert (outcome["ticks"], outcome["steps"], outcome["cause"]) == (ticks, steps, cause)


def test_success_ends_the_episode_at_the_tick_at_which_it_holds(stacked):
    stacked.reset(EPISODE)
    settle = stacked.task.settle_steps * stacked.task.ticks_per_step
    held = 0
    while not stacked.succeeded:
        stacked.tick(STILL if held % stacked.task.ticks_per_step == 0 else None)
        held += 1
    outcome = outcome_of(stacked, Script(STILL))
    assert (outcome["status"], outcome["cause"], outcome["budget_ended"]) == ("success", None, None)
    assert (outcome["success_any"], outcome["success_last"], outcome["score"]) == (True, True, 1.0)
    assert outcome["ticks"] == held - settle
    assert outcome["steps"] == -(-outcome["ticks"] // stacked.task.ticks_per_step)


def test_what_holds_while_settling_counts_from_the_first_tick_only(tmp_path):
    task = dataclasses.replace(tabletop(tmp_path, init=STACKED), settle_steps=10)
    outcome = outcome_of(sim_of(task), Script(STILL))
    assert (outcome["status"], outcome["ticks"], outcome["steps"]) == ("success", 1, 1)


# ── what the policy does wrong ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 6])
def test_an_action_that_is_no_number_is_the_policys_failure_and_never_reaches_the_physics(sim, value, where):
    wrong = MOVES.copy()
    wrong[where] = value
    outcome = outcome_of(sim, Script(MOVES, MOVES, wrong))
    end = sim.data.qpos.copy(), sim.data.time
    assert (outcome["status"], outcome["cause"], outcome["budget_ended"]) == ("failure", "policy_nan", None)
    assert (outcome["steps"], outcome["ticks"], len(outcome["inferences"].inference_ms)) == (2, 20, 3)
    two = outcome_of(with_budget(sim_of(sim.task), steps=2), Script(MOVES))
    assert two["path_length_m"] == outcome["path_length_m"]
    reference = sim_of(with_steps(sim.task, 2))
    outcome_of(reference, Script(MOVES))
    assert np.array_equal(end[0], reference.data.qpos)
    assert end[1] == reference.data.time


def test_a_chunk_that_ends_in_no_number_moves_nothing(sim):
    chunk = np.array([MOVES, MOVES, MOVES * np.nan, MOVES])
    outcome = outcome_of(sim, Script(chunk), chunk_executed=2)
    assert (outcome["cause"], outcome["steps"]) == ("policy_nan", 0)


def test_whatever_a_policy_raises_is_an_error_with_its_traceback(sim):
    outcome = outcome_of(sim, Breaks(STILL))
    assert (outcome["status"], outcome["steps"], outcome["success_any"]) == ("error", 2, False)
    error = outcome["error"]
    assert (error.type, error.message) == ("OSError", "the model server is gone")
    assert "in act" in error.traceback
    assert "cause" not in outcome or outcome["cause"] is None


@pytest.mark.parametrize("shape", [(1, 8), (7,), (2, 7), (0, 7), (1, 1, 7)])
def test_a_shape_that_changes_on_the_way_is_an_error_that_names_both(sim, shape):
    policy = Script(STILL)
    policy.chunks.append(np.zeros(shape))
    outcome = outcome_of(sim, policy)
    assert (outcome["status"], outcome["steps"]) == ("error", 1)
    assert str(shape) in outcome["error"].message
    assert "(1, 7)" in outcome["error"].message


def test_diverging_physics_is_an_error_with_its_cause(sim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Rollout(sim, Script(STILL))
    run.on_step = lambda: sim.data.qvel.fill(1e9)
    outcome = play(run, EPISODE, "blocking", 0)
    assert (outcome["status"], outcome["error"].type, outcome["steps"]) == ("error", "DivergedError", 1)
    assert "mjWARN_BADQACC" in outcome["error"].message
    assert outcome_of(sim, Script(STILL))["cause"] == "horizon", "the next episode starts anew"


def test_an_episode_that_cannot_begin_is_an_error_that_knows_nothing_of_the_one_before(stacked):
    assert outcome_of(stacked, Script(STILL))["status"] == "success"
    for sim in (stacked, sim_of(catalog.task(BRIDGE))):  # the second has never been reset
        outcome = play(Rollout(sim, Script(STILL)), Episode(BRIDGE, init_state=3), "blocking", 0)
        assert (outcome["status"], outcome["steps"], outcome["score"]) == ("error", 0, 0)
        assert not outcome["success_last"]
        assert "has no initial states" in outcome["error"].message


def test_ctrl_c_is_nobodys_failure(sim):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(Rollout(sim, Script(STILL), on_step=stop), EPISODE, "blocking", 0)


# ── what is executed ───────────────────────────────────────────────────────────────────────────────────


def trajectory(sim, policy, **settings):
    places = []
    run = Rollout(sim, policy, on_step=lambda: places.append(sim.data.qpos.copy()), **settings)
    play(run, EPISODE, "blocking", 0)
    return np.array(places)


@pytest.mark.parametrize("executed", [1, 2, 4])
def test_of_a_chunk_the_first_actions_are_executed_in_order(sim, executed):
    chunk = np.array([MOVES, -MOVES, STILL, MOVES * 0.5])
    policy = Script(chunk)
    made = trajectory(sim, policy, chunk_executed=executed)
    flat = np.array([chunk[i % executed] for i in range(6)])
    assert np.array_equal(made, trajectory(sim, Script(*flat)))
    assert len(policy.seen) == -(-6 // executed)


def test_a_command_is_given_once_a_period_and_kept(sim):
    made = trajectory(sim, Script(MOVES))
    sim.reset(EPISODE)
    task, by_hand = sim.task, []
    for step in range(task.settle_steps + 6):
        for tick in range(task.ticks_per_step):
            command = STILL if step < task.settle_steps else MOVES
            sim.tick(command if tick == 0 else None)
        by_hand.append(sim.data.qpos.copy())
    assert np.array_equal(made, by_hand[task.settle_steps :])


# ── what is seen ───────────────────────────────────────────────────────────────────────────────────────


def test_a_policy_sees_what_its_spec_asks_for_and_nothing_else(sim):
    seeing = Script(STILL, cameras=("sideview",), image_px=(24, 40), privileged=True)
    outcome_of(with_budget(sim_of(catalog.task(BRIDGE)), steps=2), seeing)
    for (observation,) in seeing.seen:
        assert {name: picture.shape for name, picture in observation.images.items()} == {
            "sideview": (24, 40, 3)
        }
        assert observation.state is not None
        assert observation.instruction == seeing.instruction == catalog.task(BRIDGE).instruction
    blind = Script(STILL)
    outcome_of(sim, blind)
    assert all(not seen.images and seen.state is None for (seen,) in blind.seen)
    assert blind.seed == seeing.seed == 7


@pytest.mark.parametrize("executed", [1, 2, 3, 4])
@pytest.mark.parametrize(("history", "stride"), [(1, 0), (2, 1), (3, 1), (2, 2), (3, 2), (2, 3), (4, 5)])
def test_a_history_holds_exactly_the_instants_that_were_asked_for(executed, history, stride):
    sim = with_budget(sim_of(catalog.task(BRIDGE)), steps=13)
    policy = Script(np.array([STILL] * executed), history=history, history_stride_s=stride * 0.2)
    play(Rollout(sim, policy, chunk_executed=executed), EPISODE, "blocking", 0)
    settled = sim.task.settle_steps
    for call, observations in enumerate(policy.seen):
        wanted = [max(0, call * executed - age * stride) for age in reversed(range(history))]
        times = [round(seen.time_ns * 1e-9 / 0.2, 9) for seen in observations]
        assert times == [settled + step for step in wanted], call


def test_a_history_between_policy_steps_is_refused(sim):
    outcome = outcome_of(sim, Script(STILL, history=2, history_stride_s=0.3))
    assert outcome["status"] == "error"
    assert "every 0.3 s, which is no multiple of the policy period 0.2 s" in outcome["error"].message


# ── what is measured ───────────────────────────────────────────────────────────────────────────────────


def test_latencies_are_the_policys_own_where_it_measures_them(sim):
    timings = {"preprocess": 1.0, "inference": 7.0, "postprocess": 2.0}
    outcome = outcome_of(sim, Script(STILL, timings=timings))
    assert outcome["policy_hz"] == pytest.approx(100.0)
    assert list(outcome["inferences"].preprocess_ms) == [1.0] * 6
    assert list(outcome["inferences"].latencies_ms()) == [10.0] * 6
    measured = outcome_of(sim, Script(STILL))["inferences"]
    assert all(0 < ms < 1000 for ms in measured.inference_ms)
    assert list(measured.staleness_ms) == list(measured.observation_age_ms) == [0.0] * 6, "the world waits"


def test_a_still_arm_travels_less_than_a_moving_one(sim):
    still, moving = outcome_of(sim, Script(STILL)), outcome_of(sim, Script(MOVES))
    assert 0 <= still["path_length_m"] < 0.01 < moving["path_length_m"] < 1.0
    assert still["jerk_m_s3"] < moving["jerk_m_s3"]
    short = outcome_of(with_budget(sim_of(catalog.task(BRIDGE)), steps=2), Script(MOVES))
    assert (short["jerk_m_s3"], short["path_length_m"]) == (None, None), (
        "too short to have a third derivative"
    )


def test_the_same_episode_gives_the_same_outcome_but_for_the_clock(sim):
    def outcome():
        made = outcome_of(sim, Script(MOVES))
        return {key: made[key] for key in made.keys() - {"wall_s", "policy_hz", "inferences"}}

    assert outcome() == outcome()
