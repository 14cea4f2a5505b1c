"""Demonstrations written anew: copied, without steps that do nothing, done again."""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import pytest
from support.demonstrations import numbers, picture, write_dataset, write_hdf5
from support.worlds import needs_libero, vla_bench, write_suite, write_task

from vla_bench import catalog
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import ConventionError, DataError
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.disturbance import Disturbances
from vla_bench.learn.filters import moving
from vla_bench.learn.importing import Import, import_demonstrations, layout_of
from vla_bench.learn.playing import execute, settle
from vla_bench.learn.recording import record
from vla_bench.policy.cards import load_policy
from vla_bench.types import CameraView, Episode

STILL = np.zeros(6)


def actions_of(*steps):
    """(T, 7) actions from (size of the motion, gripper)."""
    return np.array([[size, 0, 0, 0, 0, 0, gripper] for size, gripper in steps], dtype=float)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([(0, -1), (0.5, -1), (0, -1)], [False, True, False]),  # stands still, first and last
        ([(0.5, -1), (0, 1), (0, 1), (0, -1)], [True, True, False, True]),  # the fingers change
        ([(0, -1), (0, 1), (0.5, 1)], [False, False, True]),  # before anything is kept, only motion counts
        ([(9.9e-5, -1), (1e-4, -1), (1.1e-4, -1)], [False, True, True]),  # at the threshold
        ([(0.5, -1), (0.5, 1), (0, 1)], [True, True, False]),
    ],
)
def test_what_neither_moves_nor_changes_the_gripper_is_a_no_op(steps, kept):
    assert moving(actions_of(*steps)).tolist() == kept


def job(source, folder, *, image_px=None, cameras=(), **options):
    layout = layout_of(open_demonstrations(source), cameras=cameras, image_px=image_px, encoding="lossless")
    return Import(source, folder, layout, **options)


def test_libero_files_become_a_data_set_with_the_same_content(tmp_path):
    source = tmp_path / "libero_goal/put_the_bowl_on_the_plate_demo.hdf5"
    write_hdf5(source, late=True)
    found = import_demonstrations(job(source, tmp_path / "d"))
    assert list(found.values()) == ["kept", "kept"]
    before, after = open_demonstrations(source), open_demonstrations(tmp_path / "d")
    assert after.conventions == before.conventions
    for one, other in zip(before, after, strict=True):
        assert (one.key, one.task_id, one.instruction) == (other.key, other.task_id, other.instruction)
        np.testing.assert_array_equal(one.actions, other.actions)
        for a, b in zip(one.observations(("agentview",)), other.observations(("agentview",)), strict=True):
            np.testing.assert_array_equal(a.images["agentview"], b.images["agentview"])
            for name, value in a.proprio.items():
                np.testing.assert_allclose(b.proprio[name], value, atol=1e-6)
    assert set(json.loads((tmp_path / "d/dataset_statistics.json").read_text())) == {
        "put_the_bowl_on_the_plate_demo"
    }


def test_steps_that_do_nothing_are_left_out_with_what_was_seen_then(tmp_path):
    source = write_hdf5(tmp_path / "put_it_there_demo.hdf5", demos=1)
    with h5py.File(source, "r+") as root:
        actions = root["data/demo_0/actions"]
        actions[1:3, :6] = 0.0
        actions[:, 6] = [-1, -1, 1, 1, 1]
    import_demonstrations(job(source, tmp_path / "d", drop_noops=True))
    (episode,) = open_demonstrations(tmp_path / "d")
    _, given = numbers(100, 6)
    np.testing.assert_array_equal(episode.actions[:, 6], [-1, 1, 1, 1])
    np.testing.assert_array_equal(episode.actions[1, :6], STILL)  # it closes the fingers
    np.testing.assert_array_equal(episode.actions[2:, :6], given[3:5, :6])
    seen = [observation.images["agentview"] for observation in episode.observations(("agentview",))]
    for image, frame in zip(seen, (0, 2, 3, 4), strict=True):
        np.testing.assert_array_equal(image, picture(frame, (24, 32)))


def test_a_demonstration_that_does_nothing_is_not_kept(tmp_path):
    source = write_hdf5(tmp_path / "put_it_there_demo.hdf5", demos=1)
    with h5py.File(source, "r+") as root:
        root["data/demo_0/actions"][:, :6] = 0.0
    found = import_demonstrations(job(source, tmp_path / "d", drop_noops=True))
    assert list(found.values()) == ["failed: no step does anything"]


def test_pictures_and_cameras_are_those_that_are_asked_for(tmp_path):
    source = write_dataset(tmp_path / "s")
    import_demonstrations(job(source, tmp_path / "d", image_px=16, cameras=("agentview",)))
    assert dict(open_demonstrations(tmp_path / "d").conventions.cameras) == {"agentview": (16, 16)}
    with pytest.raises(ConventionError, match="no camera"):
        job(source, tmp_path / "e", cameras=("top",))
    with pytest.raises(ConventionError, match="even height and width, not 15×15"):
        import_demonstrations(job(source, tmp_path / "e", image_px=15))
    assert not (tmp_path / "e").exists()


def test_an_import_goes_on_and_does_not_depend_on_the_number_of_workers(tmp_path):
    source = write_dataset(tmp_path / "s", 4)
    import_demonstrations(job(source, tmp_path / "one"))
    import_demonstrations(job(source, tmp_path / "two"), workers=2)
    digests = [
        {p.relative_to(tmp_path / name): hashlib.sha256(p.read_bytes()).hexdigest()
         for kind in ("data", "videos", "meta") for p in (tmp_path / name / kind).rglob("*") if p.is_file()}
        for name in ("one", "two")
    ]  # fmt: skip
    assert digests[0] == digests[1]
    again = import_demonstrations(job(source, tmp_path / "one"))
    assert list(again.values()) == ["kept"] * 4
    with pytest.raises(ConventionError, match="recorded with drop_noops False, now True"):
        import_demonstrations(job(source, tmp_path / "one", drop_noops=True))


def test_a_damaged_demonstration_is_an_error_and_the_others_are_kept(tmp_path):
    source = write_dataset(tmp_path / "s")
    film = next((source / "videos/observation.images.agentview").rglob("file-001.mp4"))
    film.write_bytes(film.read_bytes()[:200])
    found = list(import_demonstrations(job(source, tmp_path / "d"), workers=2).values())
    assert [outcome.partition(":")[0] for outcome in found] == ["kept", "error", "kept"]
    assert "file-001.mp4" in found[1]


@pytest.fixture
def task(tmp_path, monkeypatch):
    write_task(write_suite(tmp_path / "tasks", budget="{ steps = 60 }") / "carrot.bddl")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path / "tasks"))
    return catalog.task("mine/carrot")


def test_done_again_a_demonstration_of_ours_looks_the_same_and_a_damaged_one_fails(task, tmp_path):
    record([task], tmp_path / "s", episodes=range(2), encoding="lossless")
    found = import_demonstrations(job(tmp_path / "s", tmp_path / "d", replay=True))
    assert list(found.values()) == ["kept", "kept"]
    for one, other in zip(
        open_demonstrations(tmp_path / "s"), open_demonstrations(tmp_path / "d"), strict=True
    ):
        np.testing.assert_array_equal(one.actions, other.actions)
        for a, b in zip(one.observations(("agentview",)), other.observations(("agentview",)), strict=True):
            np.testing.assert_array_equal(a.images["agentview"], b.images["agentview"])
    _reverse(tmp_path / "s/data/chunk-000/file-000.parquet")
    found = import_demonstrations(job(tmp_path / "s", tmp_path / "e", replay=True))
    assert list(found.values()) == ["failed: the goal does not hold when it is done again", "kept"]


def _reverse(path):
    """Let the actions of an episode go the other way."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    values = -np.stack(table["action"].to_numpy())
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)


def test_what_was_recorded_with_noise_cannot_be_done_again(task, tmp_path):
    record([task], tmp_path / "s", episodes=range(1), encoding="lossless", disturbances=Disturbances((0.2,)))
    (outcome,) = import_demonstrations(job(tmp_path / "s", tmp_path / "d", replay=True)).values()
    assert outcome.startswith("error: ")
    assert "recorded with noise 0.2 and 0 steps astray" in outcome


def test_what_cannot_be_imported_says_why(task, tmp_path):
    source = write_dataset(tmp_path / "s", 1)
    (source / "meta/vla_bench.json").unlink()
    with pytest.raises(ConventionError, match="actions are None of 7 numbers"):
        import_demonstrations(job(source, tmp_path / "d"))
    slow = write_hdf5(tmp_path / "mine/carrot_demo.hdf5", bddl_file_name="bddl_files/mine/carrot.bddl")
    with pytest.raises(ConventionError, match=r"recorded at 20 Hz, mine/carrot runs at 5 Hz"):
        import_demonstrations(job(slow, tmp_path / "d", replay=True))
    (tmp_path / "x").mkdir()
    (tmp_path / "x/anything").write_text("")
    with pytest.raises(DataError, match="not recorded by vla-bench"):
        import_demonstrations(job(write_dataset(tmp_path / "t", 1), tmp_path / "x"))


@needs_libero
def test_liberos_recipe_renders_anew_what_succeeds(tmp_path):
    """A file in LIBERO's layout, with pauses, becomes 64-pixel pictures of its deeds without the pauses."""
    task = catalog.task("libero_object/0")
    start, actions = _demonstrate(task)
    paused = np.insert(actions, 5, [0, 0, 0, 0, 0, 0, actions[4, 6]], axis=0)
    path = tmp_path / f"libero_object/{task.stem}_demo.hdf5"
    bddl = f"bddl_files/{task.suite}/{task.stem}.bddl"
    write_hdf5(path, demos=2, length=len(paused), bddl_file_name=bddl)
    with h5py.File(path, "r+") as root:
        for name, done in (("demo_0", paused), ("demo_1", paused * 0.5)):
            group = root["data"][name]
            del group["states"]
            group["states"] = np.tile(start, (len(paused), 1))
            group["actions"][...] = done
    ended = vla_bench(
        "demos", "import", path, "--out", tmp_path / "d", "--drop-noops", "--replay", "--image-px", 64,
        "--camera", "agentview", "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    outcomes = json.loads(ended.stdout)["demonstrations"].values()
    assert list(outcomes) == ["kept", "failed: the goal does not hold when it is done again"]
    (episode,) = open_demonstrations(tmp_path / "d")
    np.testing.assert_array_equal(episode.actions, actions)
    assert episode.instruction == task.instruction
    first = next(episode.observations(("agentview",)))
    assert first.images["agentview"].shape == (64, 64, 3)
    simulation = build_simulation(task, namespace="demo")
    _put(simulation, start)
    now = simulation.observe([CameraView("agentview", 64, 64)])
    assert np.abs(first.images["agentview"].astype(int) - now.images["agentview"]).mean() < 6
    np.testing.assert_allclose(first.proprio["robot0_eef_pos"], now.proprio["robot0_eef_pos"], atol=1e-6)
    simulation.close()


def _put(simulation, start):
    simulation.reset(Episode(simulation.task.id, seed=0))
    simulation.current.set_state(start)
    settle(simulation)


def _demonstrate(task):
    """(1 + nq + nv,) a state, and (T, 7) what the expert does from there, with what keeps the goal."""
    simulation, expert = build_simulation(task, namespace="demo"), load_policy("expert")
    simulation.reset(Episode(task.id, seed=70000))
    data = simulation.current.data
    start = np.concatenate([[data.time], data.qpos, data.qvel])
    _put(simulation, start)
    expert.reset("", 0)
    actions = []
    while not simulation.succeeded:
        assert len(actions) < 280
        action = expert.act([simulation.observe(privileged=True)]).actions[0].astype(np.float32)
        actions.append(action.astype(float))
        execute(simulation, actions[-1], until_success=False)
    simulation.close()
    return start, np.array(actions)
