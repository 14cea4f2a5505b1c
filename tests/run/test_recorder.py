"""What a run records step by step comes back from a LeRobot data set, whatever was killed on the way."""

import contextlib
import itertools
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.runs import plan_of, run, timeless
from support.worlds import BRIDGE, vla_bench

from vla_bench.errors import VlaBenchError
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.lerobot import writer
from vla_bench.lerobot.state import robot_state
from vla_bench.lerobot.writer import Recording
from vla_bench.policy.cards import load_policy
from vla_bench.run.conventions import policy_seed
from vla_bench.run.executors import Means, make_executor
from vla_bench.run.recorder import Recorder
from vla_bench.run.records.query import query
from vla_bench.run.rollout import Rollout, play
from vla_bench.run.spool import About, Spooled, assemble
from vla_bench.run.study import load_study
from vla_bench.types import Episode

STUDY = {"tasks": (BRIDGE,), "policies": ("random",), "episodes": 2, "budget": {"steps": 4}}
DATA = "recordings/bridge_base"


def frames(folder, index=0):
    return pq.read_table(folder / DATA / f"data/chunk-000/file-{index:03d}.parquet").to_pydict()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "run"
    plan = plan_of(**STUDY, outputs={"record": "all"})
    return plan, run(plan, folder), folder


def test_a_recording_holds_what_was_seen_and_done_at_each_step(recorded):
    plan, records, folder = recorded
    data = open_demonstrations(folder / DATA)
    assert [episode.key for episode in data] == [item.key for item in plan.items]
    assert {episode.task_id for episode in data} == {BRIDGE}
    for episode, record in zip(data, records, strict=True):
        assert len(episode.actions) == record.steps == 4
        assert episode.instruction == record.instruction
    assert data.conventions.fps == 5
    assert data.conventions.action_convention == "delta_pose"
    # the same episode, played by hand
    simulation, policy = simulate(), load_policy("random")
    seen, done = [], []
    rollout = Rollout(simulation, policy)
    views = Recorder(folder, Rollout(simulation, policy), about())._views
    rollout.on_start = lambda: seen.append(simulation.observe(views))
    rollout.on_step = lambda: (done.append(rollout.command), seen.append(simulation.observe(views)))
    play(rollout, plan.items[0].episode, "blocking", policy_seed(plan.items[0].episode))
    first = next(iter(data))
    np.testing.assert_array_equal(first.actions, np.array(done[:4], np.float32))
    for stored, real in zip(first.observations(tuple(data.conventions.cameras)), seen, strict=False):
        np.testing.assert_allclose(robot_state(stored), robot_state(real), atol=1e-6)
        for camera, picture in real.images.items():
            assert np.abs(stored.images[camera].astype(int) - picture).mean() < 3


def test_what_came_of_each_step_is_a_feature(recorded):
    _, records, folder = recorded
    columns = frames(folder)
    assert columns["next.done"] == [False, False, False, True]
    assert columns["next.success"] == [False] * 4
    assert columns["vla_bench.commanded"] == [True] * 4
    assert columns["next.reward"][-1] == pytest.approx(records[0].score)
    info = json.loads((folder / DATA / "meta/info.json").read_text())
    assert info["features"]["next.reward"] == {"dtype": "float32", "shape": [1], "names": None}
    assert info["features"]["next.success"]["dtype"] == "bool"
    assert {"next.reward", "observation.state", "action"} <= set(
        json.loads((folder / DATA / "meta/stats.json").read_text())
    )


def test_nothing_waits_any_more_when_a_run_is_over(recorded):
    assert {path.name for path in (recorded[2] / "recordings").iterdir()} == {"bridge_base"}


def test_steps_are_asked_in_sql(recorded):
    pytest.importorskip("duckdb", reason="the extra 'query' is not installed")
    _, records, folder = recorded
    sql = (
        "select key, count(*), max(time_s), len(any_value(state)) from steps "
        "join episodes using (run, key) group by 1"
    )
    rows = query(sql, [folder]).rows
    assert {row[0] for row in rows} == {record.key for record in records}
    assert all(row[1] == 4 and row[3] == 8 and row[2] == pytest.approx(0.6) for row in rows)


def test_recording_changes_no_outcome(recorded, tmp_path):
    plain = run(plan_of(**STUDY), tmp_path / "run")
    differing = {"study_hash", "key"}
    strip = [{k: v for k, v in row.items() if k not in differing} for row in timeless(plain)]
    assert strip == [{k: v for k, v in row.items() if k not in differing} for row in timeless(recorded[1])]


def test_an_unanswered_request_leaves_the_robot_without_a_command(tmp_path):
    plan = plan_of(**STUDY, outputs={"record": 1}, pacings=("realtime",), latencies=("constant:450ms",))
    run(plan, tmp_path)
    columns = frames(tmp_path)
    assert columns["vla_bench.commanded"][:2] == [False, False]
    assert True in columns["vla_bench.commanded"]
    assert len(open_demonstrations(tmp_path / DATA)) == 1, "the first of the arm"


def test_failures_are_kept_where_only_they_are_wanted(tmp_path):
    keys = {**STUDY, "policies": ("expert", "noop"), "episodes": 1}
    plan = plan_of(**{**keys, "budget": {"steps": 60}}, outputs={"record": "failures"})
    records = run(plan, tmp_path)
    assert [record.status for record in records] == ["success", "failure"]
    assert [episode.key for episode in open_demonstrations(tmp_path / DATA)] == [records[1].key]


def test_episodes_of_several_workers_are_one_data_set_in_the_order_of_the_plan(recorded, tmp_path):
    plan, _, _ = recorded
    for number, item in enumerate(reversed(plan.items)):
        record_by_hand(tmp_path, item.key, number)
    assert assemble(tmp_path, [item.key for item in plan.items], {"study_hash": "s"}) == [tmp_path / DATA]
    assert [episode.key for episode in open_demonstrations(tmp_path / DATA)] == [i.key for i in plan.items]
    record_by_hand(tmp_path, "later", 5)
    assemble(tmp_path, [*(item.key for item in plan.items), "later"], {"study_hash": "s"})
    assert len(open_demonstrations(tmp_path / DATA)) == 3


def test_workers_side_by_side_record_what_one_records(recorded, tmp_path):
    plan, records, folder = recorded
    there = run(plan, tmp_path, executor=make_executor(None, Means(2)))
    assert [row | {"worker": "0"} for row in timeless(there)] == timeless(records)
    assert [path.name for path in (tmp_path / "recordings").iterdir()] == ["bridge_base"]
    for index in range(2):
        assert frames(tmp_path, index) == frames(folder, index)


@pytest.mark.parametrize("dies_at", range(11))
def test_a_killed_assembly_loses_nothing_and_repeats_nothing(tmp_path, monkeypatch, dies_at):
    for number in range(2):
        record_by_hand(tmp_path, f"k{number}", number)
    steps = itertools.count()

    class Killed(BaseException):
        pass

    def dying(real):
        def call(*args, **keys):
            if next(steps) == dies_at:
                raise Killed
            return real(*args, **keys)

        return call

    with monkeypatch.context() as patch:
        for name in ("_write_tasks", "_write_episodes", "_write_summary"):
            patch.setattr(Recording, name, dying(getattr(Recording, name)))
        for name in ("_link", "write_columns"):
            patch.setattr(writer, name, dying(getattr(writer, name)))
        patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
        with contextlib.suppress(Killed):
            assemble(tmp_path, ["k0", "k1"], {})
    assemble(tmp_path, ["k0", "k1"], {})
    assert [episode.key for episode in open_demonstrations(tmp_path / DATA)] == ["k0", "k1"]
    for episode in open_demonstrations(tmp_path / DATA):
        assert len(list(episode.observations(("agentview",)))) == len(episode.actions)
    assert not (tmp_path / "recordings/.spool").exists()


def test_what_was_not_kept_is_thrown_away(tmp_path):
    record_by_hand(tmp_path, "k", 0, keep=False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert assemble(tmp_path, ["k"], {}) == []


def test_what_a_killed_worker_left_is_replaced_when_the_episode_is_played_again(tmp_path):
    def leave(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vla_bench.lerobot.draft.Draft.__exit__", leave)
        with pytest.raises(KeyboardInterrupt):
            record_by_hand(tmp_path, "k", 0, keep=False)
    place = tmp_path / "recordings/.spool"
    assert [path.name[:3] for path in place.iterdir()] == [".k."]
    assert assemble(tmp_path, ["k"], {}) == []
    record_by_hand(tmp_path, "k", 0)
    assert [path.name for path in place.iterdir()] == ["k"]


def test_what_others_are_recording_is_left_alone(tmp_path):
    record_by_hand(tmp_path, "k", 0)
    theirs = tmp_path / "recordings/.spool/.other.machine.1"
    theirs.mkdir()
    assemble(tmp_path, ["k"], {})
    assert theirs.is_dir()


def test_a_writer_that_fails_is_said_when_the_recording_is_to_be_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vla_bench.lerobot.draft.Draft.add", lambda *_, **__: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(VlaBenchError, match="could not be recorded: full"):
        record_by_hand(tmp_path, "k", 0)


def test_a_recorded_episode_waits_as_it_was(tmp_path):
    record_by_hand(tmp_path, "k", 0)
    waiting = Spooled(tmp_path / "recordings/.spool/k")
    assert (waiting.about.task_id, waiting.about.suite) == (BRIDGE, "bridge_base")
    assert waiting.about.instruction == simulate().observe().instruction
    assert waiting.numbers()["action"].shape == (2, 7)
    assert set(waiting.films) == set(waiting.levels) == set(simulate().task.cameras)


def test_a_study_that_records_nothing_is_the_study_that_it_was():
    plain = load_study(**STUDY)
    assert load_study(**STUDY, outputs={"record": "none"}).hash == plain.hash
    assert load_study(**STUDY, outputs={"record": 2}).hash != plain.hash


def test_the_command_records(tmp_path):
    ended = vla_bench(
        "run", "--task", BRIDGE, "--policy", "noop", "--episodes", "1", "--budget", "steps:3",
        "--record", "1", "--out", tmp_path / "run",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert len(open_demonstrations(tmp_path / "run" / DATA)) == 1


def about(key="k"):
    return About(key, "bridge_base", BRIDGE, "")


def simulate():
    from support.worlds import simulation

    return simulation(BRIDGE)


def record_by_hand(folder, key, seed, keep=True):
    """Record two steps of an episode as a worker does."""
    simulation, policy = simulate(), load_policy("random")
    rollout = Rollout(simulation, policy)
    with Recorder(folder, rollout, about(key)) as recorder:
        simulation.reset(Episode(BRIDGE, seed=seed))
        rollout.on_start()
        for _ in range(2):
            rollout.step(np.zeros(7))
        if keep:
            recorder.keep()
