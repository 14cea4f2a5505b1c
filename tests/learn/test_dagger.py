"""DAgger: a policy leads, the expert says what it would do, and only what it can finish is kept."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.demonstrations import write_dataset
from support.worlds import environment, vla_bench, write_suite, write_task

from vla_bench import catalog, seeding
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError, DataError, UnknownNameError
from vla_bench.learn.dagger import Pupil, Round, expert_turns, record_round, round_episode
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.playing import demo_episode, execute, settle
from vla_bench.learn.recording import record
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.scripted.expert import Expert
from vla_bench.types import ActionChunk, Observation

HOW = Round("random", "fp32", 1, 0.5)
STILL = np.array([0.0, 0, 0, 0, 0, 0, -1])


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder of tasks with the suite `mine` of one task, seen by one small camera."""
    folder = tmp_path_factory.mktemp("tasks")
    write_task(write_suite(folder, budget="{ steps = 40 }") / "carrot.bddl")
    return folder


@pytest.fixture
def task(suite, monkeypatch):
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
    return catalog.task("mine/carrot")


@pytest.fixture(scope="module")
def demonstrations(suite, tmp_path_factory):
    """One demonstration."""
    folder = tmp_path_factory.mktemp("demos") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
        record([catalog.task("mine/carrot")], folder, episodes=range(1), encoding="lossless")
    return folder


@pytest.fixture(scope="module")
def corrected(suite, demonstrations, tmp_path_factory):
    """Two episodes of a round."""
    folder = tmp_path_factory.mktemp("dagger") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
        attempts = record_round(HOW, demonstrations, folder, episodes=range(2), encoding="lossless")
    assert [attempt.outcome for attempt in attempts] == ["kept", "kept"]
    return folder


def rows(folder):
    return pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def digest(folder):
    files = sorted(
        p for kind in ("data", "videos", "meta") for p in (folder / kind).rglob("*") if p.is_file()
    )
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_state_that_the_policy_led_to_has_the_action_of_an_expert_that_watched(corrected, task):
    """Doing again who acted when leads to what was stored, though the stored actions are all the expert's."""
    simulation = build_simulation(task, namespace="dagger")
    expert, policy = Expert(read_card("expert"), "fp32"), load_policy("random")
    for index, (recorded, row) in enumerate(
        zip(open_demonstrations(corrected), rows(corrected), strict=True)
    ):
        episode = round_episode(task, 1, index)
        assert recorded.key == episode.key
        simulation.reset(episode)
        seeds = seeding.generator("dagger", "policy", episode.key).integers(2**63, size=2)
        expert.reset("", int(seeds[0]))
        policy.reset("", int(seeds[1]))
        settle(simulation)
        ours = expert_turns(task, episode, 0.5)
        states = [seen.proprio["robot0_eef_pos"] for seen in recorded.observations()]
        for step, action in enumerate(recorded.actions):
            seen = simulation.observe(privileged=True)
            np.testing.assert_allclose(seen.proprio["robot0_eef_pos"], states[step], atol=1e-6)
            np.testing.assert_allclose(expert.act([seen]).actions[0], action, atol=1e-6)
            if step < len(ours) and not ours[step]:
                action = policy.act([seen]).actions[0]
                expert.excuse()
            execute(simulation, action)
        assert simulation.succeeded
        share = np.mean([step < len(ours) and not ours[step] for step in range(row["length"])])
        assert row["vla_bench/fact/policy_share"] == pytest.approx(share)
        assert row["vla_bench/fact/round"] == 1
    assert any(row["vla_bench/fact/policy_share"] > 0.2 for row in rows(corrected))
    simulation.close()


def test_the_bytes_of_a_round_depend_neither_on_workers_nor_on_where_it_was_stopped(
    corrected, demonstrations, task, tmp_path
):
    record_round(HOW, demonstrations, tmp_path / "d", episodes=range(1), encoding="lossless")
    attempts = record_round(
        HOW, demonstrations, tmp_path / "d", episodes=range(2), encoding="lossless", workers=2
    )
    assert [attempt.is_new for attempt in attempts] == [False, True]
    assert digest(tmp_path / "d") == digest(corrected)


def test_rounds_demonstrations_and_evaluations_have_different_seeds(task):
    episodes = [demo_episode(task, 0), round_episode(task, 1, 0), round_episode(task, 2, 0)]
    assert len({episode.seed for episode in episodes}) == 3
    assert min(episode.seed for episode in episodes) >= 2**16, "evaluations count from 0"


def test_what_the_expert_can_not_finish_is_not_kept(demonstrations, task, tmp_path):
    short = dataclasses.replace(task, budget=dataclasses.replace(task.budget, steps=2))
    (attempt,) = record_round(
        HOW, demonstrations, tmp_path / "d", tasks=[short], episodes=range(1), encoding="lossless"
    )
    assert attempt.outcome.startswith("failed: steps:2 over, and over again")
    assert not (tmp_path / "d/data").exists()


def test_an_expert_that_watches_nothing_happen_does_not_doubt_its_way(task):
    """One that acts would open its hand and back off after a second and a half without getting on."""
    simulation = build_simulation(task, namespace="dagger")
    simulation.reset(round_episode(task, 1, 0))
    settle(simulation)
    watching, acting = (Expert(read_card("expert"), "fp32") for _ in range(2))
    said = []
    for _ in range(12):
        seen = simulation.observe(privileged=True)
        said.append([expert.act([seen]).actions[0] for expert in (watching, acting)])
        execute(simulation, STILL)
        watching.excuse()
    simulation.close()
    first, last = said[0][0], said[-1]
    np.testing.assert_allclose(last[0], first, atol=0.05)
    assert np.abs(last[1] - first).max() > 0.3


def test_what_was_not_executed_is_not_done_again(corrected):
    with pytest.raises(DataError, match="what the expert would have done where a policy acted"):
        _ = next(iter(open_demonstrations(corrected))).deeds


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"number": 2}, "was recorded with dagger"),
        ({"expert_rate": 0.4}, "was recorded with dagger"),
        ({"weights": {"model.safetensors": "another"}}, "was recorded with dagger"),
        ({"expert_rate": 1.5}, r"a rate in 0 … 1; got round 1 and rate 1\.5"),
    ],
)
def test_a_folder_holds_one_round_of_one_policy(corrected, demonstrations, task, changes, expected):
    def play():
        how = dataclasses.replace(HOW, **changes)
        record_round(how, demonstrations, corrected, episodes=range(2), encoding="lossless")

    with pytest.raises(ConventionError, match=expected):
        play()


def test_policy_data_and_tasks_fit_before_anything_is_played(demonstrations, task, tmp_path):
    def play(data, **keys):
        record_round(HOW, data, tmp_path / "d", episodes=range(1), encoding="lossless", **keys)

    faster = dataclasses.replace(task, policy_period_s=0.1)
    with pytest.raises(ConventionError, match=r"recorded at 5 Hz, mine/carrot runs at 10 Hz"):
        play(demonstrations, tasks=[faster])
    with pytest.raises(DataError, match="out of distribution"):
        play(demonstrations, tasks=[catalog.task("bridge/0")])
    other = write_dataset(tmp_path / "other")
    with pytest.raises(UnknownNameError, match="task0"):
        play(other)
    assert not (tmp_path / "d").exists()


class Counting:
    """Says two actions at once: the times of what it was shown."""

    spec = PolicySpec(history=2, history_stride_s=0.4, chunk_length=2, action_size=2)

    def reset(self, instruction, seed):
        self.asked = 0

    def act(self, observations):
        assert all(seen.state is None for seen in observations)
        self.asked += 1
        times = [seen.time_ns / 1e9 for seen in observations]
        return ActionChunk(np.array([times, times]))


def test_a_policy_sees_its_history_also_of_what_it_did_not_do_and_forgets_a_chunk_that_was_broken(task):
    pupil = Pupil(Counting(), 2)
    pupil.reset("", 0, task)
    said = []
    for step in range(6):
        pupil.see(Observation({}, {}, "", step * 10**9, state=object()))  # type: ignore[arg-type]
        if step == 3:
            pupil.interrupt()
        else:
            said.append(pupil.act().tolist())
    assert said == [[0, 0], [0, 0], [0, 2], [2, 4], [2, 4]]


def test_the_command_records_a_round_of_a_policy_and_continues(suite, demonstrations, tmp_path):
    command = (
        "demos", "dagger", "--policy", "noop", "--data", demonstrations, "--out", tmp_path / "d",
        "--episodes", 1, "--expert-rate", 1, "--lossless",
    )  # fmt: skip
    env = environment(**{catalog.TASKS_DIR_VARIABLE: suite})
    ended = vla_bench(*command, env=env)
    assert ended.returncode == 0, ended.stderr
    assert "kept 1 of 1 tried" in ended.stdout
    assert rows(tmp_path / "d")[0]["vla_bench/fact/policy_share"] == 0
