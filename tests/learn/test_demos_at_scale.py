"""Many demonstrations: any number of workers, killed and continued, disturbed; nothing that is held out."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.demonstrations import write_dataset
from support.worlds import ROOT, command_line, environment, vla_bench, write_suite, write_task

from vla_bench import catalog
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError, DataError, VlaBenchError
from vla_bench.learn import held_out
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.disturbance import Disturbance, Disturbances, Noise, astray_actions
from vla_bench.learn.playing import demo_episode, execute, settle
from vla_bench.learn.recording import record
from vla_bench.learn.samples import Samples
from vla_bench.types import Budget, CameraView

DISTURBED = Disturbances((0.0, 0.3), astray=0.5)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder of tasks with the suite `mine` of two tasks, seen by one small camera."""
    folder = tmp_path_factory.mktemp("tasks")
    tasks = write_suite(folder, budget="{ steps = 60 }")
    write_task(tasks / "carrot.bddl")
    write_task(tasks / "other.bddl")
    return folder


@pytest.fixture
def tasks(suite, monkeypatch):
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
    return [catalog.task("mine/carrot"), catalog.task("mine/other")]


@pytest.fixture(scope="module")
def recorded(suite, tmp_path_factory):
    """Three disturbed episodes of each, recorded by one worker."""
    folder = tmp_path_factory.mktemp("demos") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(catalog.TASKS_DIR_VARIABLE, str(suite))
        both = [catalog.task("mine/carrot"), catalog.task("mine/other")]
        record(both, folder, episodes=range(3), encoding="lossless", disturbances=DISTURBED)
    return folder


def digest(folder):
    files = sorted(
        p for kind in ("data", "videos", "meta") for p in (folder / kind).rglob("*") if p.is_file()
    )
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows(folder):
    return pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def test_the_bytes_do_not_depend_on_the_number_of_workers(recorded, tasks, tmp_path):
    record(tasks, tmp_path / "d", episodes=range(3), encoding="lossless", disturbances=DISTURBED, workers=2)
    assert digest(tmp_path / "d") == digest(recorded)
    assert not (tmp_path / "d/.spool").exists()


def test_workers_that_are_killed_are_an_error_and_the_same_command_continues(recorded, tasks, tmp_path):
    def kill(attempt):
        for worker in multiprocessing.active_children():
            assert worker.pid
            os.kill(worker.pid, signal.SIGKILL)

    options = {"episodes": range(3), "encoding": "lossless", "disturbances": DISTURBED}
    with pytest.raises(VlaBenchError, match=r"was killed .* the same command continues"):
        record(tasks, tmp_path / "d", **options, workers=2, on_attempt=kill)
    attempts = record(tasks, tmp_path / "d", **options)
    assert not attempts[0].is_new, "what was whole is not played again"
    assert digest(tmp_path / "d") == digest(recorded)


def test_a_recording_with_workers_that_is_killed_leaves_nobody_behind_and_continues(
    suite, recorded, tmp_path
):
    folder = tmp_path / "d"
    command = command_line(
        "demos", "--suite", "mine", "--episodes", 3, "--lossless", "--noise", "0,0.3", "--astray", 0.5,
        "--workers", 2, "--out", folder,
    )  # fmt: skip
    env = environment(**{catalog.TASKS_DIR_VARIABLE: suite})
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not [*folder.glob("data/*/*"), *folder.glob(".spool/[!.]*")]:
        time.sleep(0.02)
    born = [int(pid) for pid in children.read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(born) >= 2
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in born):
        assert time.monotonic() < deadline, "a worker outlived the recording"
        time.sleep(0.02)
    subprocess.run(command, env=env, check=True, capture_output=True)
    assert digest(folder) == digest(recorded)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_executed_is_the_stored_action_with_noise(tasks, tmp_path):
    """The stored action and the episode's noise lead to what was seen next; the action alone does not."""
    task, noisy = tasks[0], Disturbances((0.3,), kicks=0.2)
    attempts = record([task], tmp_path / "d", episodes=range(3), encoding="lossless", disturbances=noisy)
    kept = [attempt.episode for attempt in attempts if attempt.outcome == "kept"]
    simulation = build_simulation(task, namespace="demo")
    for recorded, episode in zip(open_demonstrations(tmp_path / "d"), kept, strict=True):
        simulation.reset(episode)
        settle(simulation)
        noise = Noise(noisy.draw(task, episode), episode)
        differences = []
        for seen, action in zip(recorded.observations(("agentview",)), recorded.actions, strict=True):
            now = simulation.observe([CameraView("agentview", *task_size(task))])
            np.testing.assert_array_equal(seen.images["agentview"], now.images["agentview"])
            executed = noise.add(action)
            differences.append(executed - action)
            succeeded = execute(simulation, executed)
        assert succeeded
        assert np.abs(differences)[:, :3].max() > 0.1
        assert not np.any(np.array(differences)[:, 6]), "the fingers do as they are told"
    simulation.close()


def task_size(task):
    return task.observation_height_px, task.observation_width_px


def test_an_episode_that_went_astray_begins_elsewhere_and_says_so(recorded, tasks):
    task = tasks[0]
    simulation = build_simulation(task, namespace="demo")
    facts = {row["vla_bench/episode"]: row for row in rows(recorded)}
    astray = 0
    for episode in open_demonstrations(recorded):
        if episode.task_id != task.id:
            continue
        index = next(i for i in range(3) if demo_episode(task, i).key == episode.key)
        drawn = DISTURBED.draw(task, demo_episode(task, index))
        said = facts[episode.key]
        assert said["vla_bench/fact/noise"] == drawn.noise
        assert said["vla_bench/fact/astray_steps"] == drawn.astray
        assert said["vla_bench/fact/astray_after_steps"] == drawn.astray_after
        simulation.reset(demo_episode(task, index))
        settle(simulation)
        start = simulation.observe().proprio["robot0_eef_pos"]
        seen = next(episode.observations()).proprio["robot0_eef_pos"]
        assert (np.abs(seen - start).max() > 0.005) == bool(drawn.astray)
        astray += bool(drawn.astray)
    simulation.close()
    assert 0 < astray < 3


def test_what_happens_in_an_episode_depends_on_nothing_else_that_may_happen(tasks):
    task, levels = tasks[0], (0.0, 0.1, 0.2)
    episodes = [demo_episode(task, index) for index in range(60)]
    alone = [Disturbances(levels).draw(task, episode) for episode in episodes]
    with_astray = [Disturbances(levels, 0.5).draw(task, episode) for episode in episodes]
    assert [d.noise for d in alone] == [d.noise for d in with_astray]
    assert {d.noise for d in alone} == set(levels)
    assert not any(d.astray for d in alone)
    always = [Disturbances((0.0,), 1.0).draw(task, episode) for episode in episodes]
    for some, all_ in zip(with_astray, always, strict=True):
        assert some.astray in (0, all_.astray)
    assert 15 < sum(d.astray > 0 for d in with_astray) < 45
    assert {d.astray for d in always} <= set(range(3, 11)), "0.6 s to 2 s at 5 Hz"
    assert {d.astray_after for d in always} <= set(range(21))


def test_so_many_steps_are_kicked_and_the_noise_of_the_others_is_what_it_was(tasks):
    episode, expert = demo_episode(tasks[0], 0), np.array([0.01, 0, 0, 0, 0, 0, -1.0])
    without, kicked = Noise(Disturbance(0.3), episode), Noise(Disturbance(0.3, kicks=0.25), episode)
    pairs = [(without.add(expert), kicked.add(expert)) for _ in range(400)]
    others = [np.abs(two - one).max() for one, two in pairs]
    assert 70 < np.count_nonzero(others) < 130
    assert all(two[6] == -1 for _, two in pairs)
    assert 0.5 < max(others) <= 0.65


def test_random_actions_are_small_last_as_long_as_drawn_and_are_the_episodes_own(tasks):
    task = tasks[0]
    one, again, other = (
        astray_actions(Disturbance(astray=7), task, demo_episode(task, index)) for index in (0, 0, 1)
    )
    assert one.shape == (7, 7)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one[0], one[1])  # 0.4 s the same
    assert np.abs(one[:, :6]).max() <= 0.6
    assert set(np.abs(one[:, 6])) == {1.0}


@pytest.mark.parametrize(
    ("noise", "astray", "words"),
    [
        ((), 0, "share of the motion"), ((-0.1,), 0, "share of the motion"), ((float("nan"),), 0, "share"),
        ((0.1,), 1.5, "chance of going astray lies in 0 … 1, got 1.5"),
    ],
)  # fmt: skip
def test_disturbances_out_of_range_are_errors(noise, astray, words):
    with pytest.raises(ConventionError, match=words):
        Disturbances(noise, astray)
    with pytest.raises(ConventionError, match="chance of a kick"):
        Disturbances(kicks=1.0)


def test_a_recording_goes_on_only_with_the_same_disturbances(tasks, tmp_path):
    short = [dataclasses.replace(tasks[0], budget=Budget(steps=2))]
    record(short, tmp_path / "d", episodes=range(1), encoding="lossless")
    with pytest.raises(ConventionError, match=r"recorded with disturbances .*0\.0.*, now .*0\.3"):
        record(short, tmp_path / "d", episodes=range(1), encoding="lossless", disturbances=DISTURBED)


def test_the_statistics_beside_the_data_are_those_of_its_frames(recorded):
    stored = json.loads((recorded / "dataset_statistics.json").read_text())
    assert stored == {"mine": Samples(recorded, cameras=()).statistics}
    actions = np.concatenate([episode.actions for episode in open_demonstrations(recorded)])
    assert stored["mine"]["num_transitions"] == len(actions)
    np.testing.assert_allclose(stored["mine"]["action"]["q99"], np.quantile(actions, 0.99, axis=0))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An episode of every task of bridge_base, as the command records it."""
    folder = tmp_path_factory.mktemp("base") / "d"
    ended = vla_bench(
        "demos", "--suite", "bridge_base", "--episodes", 1, "--image-px", 16, "--camera", "agentview",
        "--noise", 0.1, "--workers", 2, "--out", folder, "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads(ended.stdout)


def test_no_word_that_is_held_out_enters_a_data_set_for_training(base):
    folder, said = base
    samples = Samples(folder, cameras=("agentview",))
    assert samples.image_px == {"agentview": (16, 16)}
    trained = set(samples.instructions)
    suite = catalog.suite("bridge_base")
    assert len(trained) >= 12, said
    assert trained <= {suite.task(stem).instruction for stem in suite.stems()}
    assert {task_id.partition("/")[0] for task_id in samples.task_ids} == {"bridge_base"}
    texts = set(_factor_sentences())
    assert len(texts) > 100
    assert not trained & texts


def _factor_sentences():
    """Every instruction that a language factor puts in the place of another."""
    for path in (ROOT / "tasks").glob("*/texts/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if "text" in row:
                    yield row["text"]


def test_a_data_set_carries_the_hashes_of_what_is_held_out(base, tmp_path, monkeypatch):
    folder, _ = base
    stored = json.loads((folder / held_out.FILE).read_text())
    assert stored == held_out.digests()
    for name in ("bridge.toml", "visual/eggplant_into_pot.bddl", "language/synonyms.toml", "visual/fog.toml"):
        assert stored[name] == hashlib.sha256((ROOT / "tasks" / name).read_bytes()).hexdigest()
    assert not any(name.startswith("base/") for name in stored)
    assert not any(held_out.changes([folder]).values())
    held_out.require_unchanged([folder])
    (tmp_path / "language").mkdir()
    (tmp_path / "language/synonyms.toml").write_text("changed")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    (tmp_path / "language/more.toml").write_text("new")
    assert held_out.changes([folder]) == {
        "changed": ["language/synonyms.toml"], "added": ["language/more.toml"], "removed": [],
    }  # fmt: skip
    with pytest.raises(ConventionError, match=r"become another \(changed language/synonyms\.toml\)"):
        held_out.require_unchanged([folder])
    # a data set of others says nothing
    held_out.require_unchanged([tmp_path])


def test_what_is_held_out_cannot_be_trained_on(tmp_path, monkeypatch):
    """Demonstrations of such tasks exist, for questions that are asked offline."""
    folder = write_dataset(tmp_path / "d")
    Samples(folder, cameras=())
    with pytest.raises(DataError, match=r"shows bridge/lift_cheese, out of distribution"):
        held_out.check(folder, ["mine/task0", "bridge/lift_cheese"])


def test_a_mistake_in_the_options_is_one_sentence(tmp_path):
    for words, sentence in (
        (("--noise", "much"), "--noise takes numbers"),
        (("--noise", "2"), "share of the motion in 0 … 1"),
        (("--image-px", "33"), "an even height and width: 32 or 34"),
        (("--camera", "agent"), "unknown camera 'agent'; did you mean 'agentview'"),
    ):
        ended = vla_bench("demos", "--suite", "bridge_base", "--out", tmp_path / "d", *words)
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert not (tmp_path / "d").exists()
