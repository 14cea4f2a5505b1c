"""Recording the expert: only successes, seeds of its own, the same bytes again, goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import time

import numpy as np
import pytest
from support.worlds import TABLETOP, command_line, environment, needs_libero, write_suite, write_task

from vla_bench import catalog
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.playing import demo_episode
from vla_bench.learn.recording import layout_of, record
from vla_bench.types import Budget, CameraView, Episode


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder of tasks with the suite `mine` of one task, seen by one small camera."""
    folder = tmp_path_factory.mktemp("tasks")
    write_task(write_suite(folder, budget="{ steps = 60 }") / "carrot.bddl")
    return folder


@pytest.fixture
def task(suite, monkeypatch):
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
    return catalog.task("mine/carrot")


@pytest.fixture(scope="module")
def recorded(suite, tmp_path_factory):
    """Two episodes of it."""
    folder = tmp_path_factory.mktemp("demos") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
        attempts = record([catalog.task("mine/carrot")], folder, episodes=range(2), encoding="lossless")
    assert [attempt.outcome for attempt in attempts] == ["kept", "kept"]
    return folder


def digest(folder, kinds=("data", "videos", "meta")):
    files = sorted(p for kind in kinds for p in (folder / kind).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_executing_what_was_stored_leads_to_what_was_seen_and_to_success(recorded, task):
    """The stored actions are the executed ones, and the pictures those of the simulator, to the last bit."""
    simulation = build_simulation(task, namespace="demo")
    view = CameraView("agentview", 32, 32)
    for index, episode in enumerate(open_demonstrations(recorded)):
        assert episode.key == demo_episode(task, index).key
        assert episode.instruction == "put the carrot on the plate"
        simulation.reset(demo_episode(task, index))
        for tick in range(task.settle_steps * task.ticks_per_step):
            first = tick % task.ticks_per_step == 0
            simulation.tick(np.array(task.settle_action) if first else None)
        pairs = zip(episode.observations(("agentview",)), episode.actions, strict=True)
        for seen, action in pairs:
            now = simulation.observe([view])
            np.testing.assert_array_equal(seen.images["agentview"], now.images["agentview"])
            for name, value in seen.proprio.items():
                np.testing.assert_allclose(value, now.proprio[name], atol=1e-6)
            assert not simulation.succeeded
            for tick in range(task.ticks_per_step):
                if not simulation.succeeded:
                    simulation.tick(action if tick == 0 else None)
        assert simulation.succeeded
    simulation.close()


def test_the_same_seeds_give_the_same_bytes_and_others_others(recorded, task, tmp_path):
    record([task], tmp_path / "again", episodes=range(2), encoding="lossless")
    assert digest(tmp_path / "again") == digest(recorded)
    record([task], tmp_path / "other", episodes=range(2, 4), encoding="lossless")
    first, other = digest(recorded, ("data", "videos")), digest(tmp_path / "other", ("data", "videos"))
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_demonstrations_and_evaluations_start_differently(task):
    seed = demo_episode(task, 0).seed
    assert seed is not None
    assert seed >= 2**16
    demo, evaluation = (build_simulation(task, namespace=name) for name in ("demo", "eval"))
    states = []
    for simulation in (demo, evaluation):
        simulation.reset(Episode(task.id, seed=seed))
        states.append(simulation.current.data.qpos.copy())
        simulation.close()
    assert not np.array_equal(*states)


def test_a_recording_goes_on_with_what_was_not_tried(recorded, task, tmp_path):
    record([task], tmp_path / "d", episodes=range(1), encoding="lossless")
    attempts = record([task], tmp_path / "d", episodes=range(2), encoding="lossless")
    assert [attempt.is_new for attempt in attempts] == [False, True]
    assert digest(tmp_path / "d") == digest(recorded)


def test_only_successes_are_kept_and_failures_are_counted_once(task, tmp_path):
    short = dataclasses.replace(task, budget=Budget(steps=3))
    attempts = record([short], tmp_path / "d", episodes=range(2), encoding="lossless")
    assert [attempt.outcome for attempt in attempts] == ["failed: steps:3 over"] * 2
    again = record([short], tmp_path / "d", episodes=range(2), encoding="lossless")
    assert [attempt.is_new for attempt in again] == [False, False]
    assert not list((tmp_path / "d").rglob("*.mp4"))
    assert json.loads((tmp_path / "d/meta/info.json").read_text())["total_episodes"] == 0


def test_an_episode_whose_scene_cannot_be_made_is_an_error_and_is_tried_again(task, tmp_path):
    narrow = TABLETOP.replace("(-0.16 0.06 0.02 0.24)", "(-0.16 0.06 -0.159 0.061)")
    both = "(On plate_1 main_table_left_region) (On carrot_1 main_table_left_region)"
    crowded = dataclasses.replace(task, source=write_task(tmp_path / "crowded.bddl", init=both, text=narrow))
    (attempt,) = record([crowded], tmp_path / "d", episodes=range(1), encoding="lossless")
    assert attempt.outcome.startswith("error: ")
    # what is not noted as tried is tried by the next recording
    assert json.loads((tmp_path / "d/meta/vla_bench.json").read_text())["tried"] == {}


def test_tasks_of_two_frequencies_do_not_go_into_one_data_set(task):
    faster = dataclasses.replace(task, suite="fast", policy_period_s=0.1)
    with pytest.raises(ConventionError, match=r"mine is 5 Hz, .* and fast is 10 Hz, .*different folders"):
        layout_of([task, faster], "film")
    with pytest.raises(ConventionError, match="no task is left"):
        layout_of([], "film")


def test_a_killed_recording_is_readable_and_goes_on(suite, recorded, tmp_path):
    folder = tmp_path / "d"
    command = command_line("demos", "--task", "mine/carrot", "--episodes", 2, "--lossless", "--out", folder)
    env = environment(**{catalog.TASKS_DIR_VARIABLE: suite})
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    info = folder / "meta/info.json"
    while process.poll() is None and not (info.is_file() and '"total_episodes": 1' in info.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(open_demonstrations(folder)) <= 2
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert digest(folder) == digest(recorded)


@needs_libero
def test_liberos_demonstrations_have_its_cameras_frequency_and_state(tmp_path):
    task = catalog.task("libero_object/0")
    cameras = ("agentview", "robot0_eye_in_hand")
    assert layout_of([task], "film").cameras == dict.fromkeys(cameras, (256, 256))
    small = dataclasses.replace(task, observation_height_px=16, observation_width_px=32)
    attempts = record([small], tmp_path / "d", episodes=range(1), encoding="film")
    assert attempts[0].outcome == "kept"
    read = open_demonstrations(tmp_path / "d")
    assert read.conventions.fps == 20
    assert read.conventions.cameras == dict.fromkeys(cameras, (16, 32))
    episode = next(iter(read))
    assert episode.task_id == task.id
    assert 50 < len(episode.actions) <= 280
    made_with = json.loads((tmp_path / "d/meta/vla_bench.json").read_text())["made_with"]
    assert set(made_with) == {"fingerprint", "libero_standins", "disturbances", "held_out"}
