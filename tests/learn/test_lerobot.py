"""LeRobot data sets: what is written is read, half-written data never as whole, a recording continues."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.demonstrations import LAYOUT, MADE_WITH, add_episode, numbers, picture, write_dataset

from vla_bench.errors import ConventionError, DataError, MissingDataError, VlaBenchError
from vla_bench.learn.demonstrations import all_actions, check_fit, open_demonstrations
from vla_bench.lerobot.state import robot_state
from vla_bench.lerobot.writer import Recording
from vla_bench.policy.base import PolicySpec

CAMERAS = tuple(LAYOUT.cameras)


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_everything(folder):
    return [list(episode.observations(CAMERAS)) for episode in open_demonstrations(folder)]


def test_actions_states_and_lossless_pictures_come_back_exactly(tmp_path):
    read = open_demonstrations(write_dataset(tmp_path / "d"))
    assert len(read) == 3
    for index, episode in enumerate(read):
        states, actions = numbers(index, 4)
        np.testing.assert_array_equal(episode.actions, actions)
        assert (episode.key, episode.task_id) == (
            f"mine/task{index % 2}#seed{index}",
            f"mine/task{index % 2}",
        )
        assert episode.instruction == f"do task {index % 2}"
        seen = list(episode.observations(CAMERAS))
        assert [s.time_ns for s in seen] == [0, 200_000_000, 400_000_000, 600_000_000]
        for frame, observation in enumerate(seen):
            np.testing.assert_allclose(robot_state(observation), states[frame], atol=1e-6)
            for i, camera in enumerate(CAMERAS):
                np.testing.assert_array_equal(
                    observation.images[camera], picture(10 * index + frame + 50 * i)
                )


def test_a_film_loses_little_of_a_smooth_picture(tmp_path):
    layout = dataclasses.replace(LAYOUT, encoding="film")
    episode = next(iter(open_demonstrations(write_dataset(tmp_path / "d", 1, layout))))
    for frame, observation in enumerate(episode.observations(("agentview",))):
        difference = np.abs(observation.images["agentview"].astype(int) - picture(frame))
        assert 0 < difference.mean() < 3


def test_only_the_cameras_that_are_asked_for_are_decoded(tmp_path):
    folder = write_dataset(tmp_path / "d", 1)
    for film in (folder / "videos/observation.images.robot0_eye_in_hand").rglob("*.mp4"):
        film.write_bytes(b"")
    episode = next(iter(open_demonstrations(folder)))
    assert [set(seen.images) for seen in episode.observations(("agentview",))] == [{"agentview"}] * 4
    assert not next(episode.observations()).images


def test_the_folder_has_the_names_and_keys_of_version_3(tmp_path):
    folder = write_dataset(tmp_path / "d")
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 12, 2, 5)
    assert info["splits"] == {"train": "0:3"}
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    for index in range(3):
        assert (folder / info["data_path"].format(chunk_index=0, file_index=index)).is_file()
    columns = pq.read_table(folder / "data/chunk-000/file-001.parquet")
    stored = {name for name, feature in info["features"].items() if feature["dtype"] != "video"}
    assert set(columns.column_names) == stored
    assert columns["index"].to_pylist() == [4, 5, 6, 7]
    assert columns["task_index"].to_pylist() == [1] * 4
    rows = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 4), (4, 8), (8, 12)]
    assert rows[2]["videos/observation.images.agentview/to_timestamp"] == 0.8
    tasks = pq.read_table(folder / "meta/tasks.parquet").to_pandas()
    assert list(tasks.index) == ["do task 0", "do task 1"]


def test_statistics_are_those_of_all_frames(tmp_path):
    folder = write_dataset(tmp_path / "d")
    stats = json.loads((folder / "meta/stats.json").read_text())
    actions = all_actions(open_demonstrations(folder))
    for name, value in (
        ("mean", actions.mean(0)), ("std", actions.std(0)), ("min", actions.min(0)),
        ("max", actions.max(0)), ("q01", np.quantile(actions, 0.01, axis=0)),
        ("q99", np.quantile(actions, 0.99, axis=0)),
    ):  # fmt: skip
        np.testing.assert_allclose(stats["action"][name], value)
    pictures = np.stack([picture(10 * i + frame) for i in range(3) for frame in range(4)]) / 255
    seen = stats["observation.images.agentview"]
    np.testing.assert_allclose(np.array(seen["mean"]).ravel(), pictures.mean((0, 1, 2)))
    np.testing.assert_allclose(np.array(seen["std"]).ravel(), pictures.std((0, 1, 2)))
    assert np.array(seen["q99"]).shape == (3, 1, 1)


def test_the_same_episodes_give_the_same_bytes_and_others_do_not(tmp_path):
    first, second = (digest(write_dataset(tmp_path / name, 2)) for name in "ab")
    assert first == second
    other = digest(write_dataset(tmp_path / "c", 2, length=5))
    assert all(other[name] != value for name, value in first.items() if name.startswith(("data", "videos")))


def test_a_recording_that_is_continued_equals_one_that_was_not_interrupted(tmp_path):
    whole = write_dataset(tmp_path / "whole")
    parts = tmp_path / "parts"
    for index in range(3):
        with Recording(parts, LAYOUT, MADE_WITH) as recording:
            assert len(recording) == index
            add_episode(recording, index)
    assert digest(parts) == digest(whole)


def test_an_episode_that_was_not_kept_leaves_nothing(tmp_path):
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH) as recording:
        add_episode(recording, 0)
        with recording.draft() as draft:
            draft.add({name: picture(1) for name in CAMERAS}, np.zeros(8), np.zeros(7))
        recording.note("mine/task0#seed7", "failed: steps:5 over")
    assert digest(tmp_path / "d").keys() == digest(write_dataset(tmp_path / "e", 1)).keys()
    ours = json.loads((tmp_path / "d/meta/vla_bench.json").read_text())
    assert ours["tried"] == {"mine/task0#seed0": "kept", "mine/task0#seed7": "failed: steps:5 over"}


@pytest.mark.parametrize("stage", ["films", "numbers", "row"])
def test_what_a_killed_recording_leaves_is_completed_or_thrown_away(tmp_path, monkeypatch, stage):
    """Killed after the films, after the numbers, or after the row that makes it an episode."""
    whole = digest(write_dataset(tmp_path / "whole", 2))
    folder = write_dataset(tmp_path / "d", 1)
    step = {"films": "_write_tasks", "numbers": "_write_episodes", "row": "_write_summary"}[stage]

    def killed(self):
        raise KeyboardInterrupt

    with Recording(folder, LAYOUT, MADE_WITH) as recording:
        monkeypatch.setattr(Recording, step, killed)
        with pytest.raises(KeyboardInterrupt):
            add_episode(recording, 1)
        monkeypatch.undo()
    if stage == "row":
        with pytest.raises(DataError, match=r"names 1 episodes, meta/episodes holds 2.*run again"):
            open_demonstrations(folder)
    else:
        assert len(open_demonstrations(folder)) == 1
    with Recording(folder, LAYOUT, MADE_WITH) as recording:
        if stage != "row":
            assert len(recording) == 1
            assert digest(folder).keys() == digest(write_dataset(tmp_path / "one", 1)).keys()
            add_episode(recording, 1)
    assert digest(folder) == whole


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("data/chunk-000/file-000.parquet", "file-000.parquet: is missing, damaged or half-written"),
        ("meta/episodes/chunk-000/file-000.parquet", "is missing, damaged or half-written"),
        ("videos/observation.images.agentview/chunk-000/file-000.mp4", "file-000.mp4: .*half-written"),
        ("meta/info.json", "info.json: is damaged or half-written"),
    ],
)
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, file, words):
    folder = write_dataset(tmp_path / "d", 1)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=words):
        read_everything(folder)


def test_missing_frames_and_films_are_found(tmp_path):
    folder = write_dataset(tmp_path / "d", 1)
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 3), path)
    with pytest.raises(DataError, match="has 3 frames where meta/episodes names 4 of episode 0"):
        _ = next(iter(open_demonstrations(folder))).actions
    folder = write_dataset(tmp_path / "e", 2)
    short = folder / "videos/observation.images.agentview/chunk-000"
    (short / "file-001.mp4").unlink()
    with pytest.raises(MissingDataError, match=r"file-001\.mp4: no such film"):
        list(list(open_demonstrations(folder))[1].observations(CAMERAS))


def test_a_film_of_fewer_pictures_is_not_read_as_whole(tmp_path):
    folder, shorter = write_dataset(tmp_path / "d", 1), write_dataset(tmp_path / "e", 1, length=3)
    film = "videos/observation.images.agentview/chunk-000/file-000.mp4"
    (folder / film).write_bytes((shorter / film).read_bytes())
    with pytest.raises(DataError, match="ends after 3 of 4 pictures"):
        list(next(iter(open_demonstrations(folder))).observations(CAMERAS))


def test_an_empty_data_set_and_an_older_version_are_refused(tmp_path):
    with Recording(tmp_path / "d", LAYOUT, MADE_WITH):
        pass
    with pytest.raises(DataError, match="holds no episode yet"):
        open_demonstrations(tmp_path / "d")
    info = tmp_path / "old/meta/info.json"
    info.parent.mkdir(parents=True)
    info.write_text(json.dumps({"codebase_version": "v2.1"}))
    with pytest.raises(DataError, match=r"LeRobot data set v2\.1; v3\.0 is read"):
        open_demonstrations(tmp_path / "old")
    with pytest.raises(MissingDataError, match="no such data set; `vla-bench demos"):
        open_demonstrations(tmp_path / "nowhere")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MissingDataError, match="expected a LeRobot folder"):
        open_demonstrations(tmp_path / "nothing")


def test_a_folder_of_something_else_is_not_recorded_into(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="was not recorded by vla-bench"):
        Recording(tmp_path, LAYOUT, MADE_WITH)
    folder = write_dataset(tmp_path / "d", 1)
    other = dataclasses.replace(LAYOUT, fps=20.0)
    with pytest.raises(ConventionError, match=r"recorded with 5 Hz, .*lossless, not with 20 Hz"):
        Recording(folder, other, MADE_WITH)
    with pytest.raises(ConventionError, match="recorded with fingerprint 'f', now 'g'"):
        Recording(folder, LAYOUT, {"fingerprint": "g"})


def test_two_recordings_cannot_write_one_folder(tmp_path):
    with (
        Recording(tmp_path / "d", LAYOUT, MADE_WITH),
        pytest.raises(VlaBenchError, match="somebody else is recording into it"),
    ):
        Recording(tmp_path / "d", LAYOUT, MADE_WITH)
    write_dataset(tmp_path / "d", 1)


def test_a_data_set_of_others_is_read_but_declares_nothing(tmp_path):
    """Several episodes in one file, another camera's name, and no file of ours."""
    folder = _of_others(tmp_path)
    read = open_demonstrations(folder)
    assert read.conventions.action_convention is None
    assert set(read.conventions.cameras) == {"agentview", "robot0_eye_in_hand"}
    for index, episode in enumerate(read):
        np.testing.assert_array_equal(episode.actions, numbers(index, 4)[1])
        for frame, seen in enumerate(episode.observations(("agentview",))):
            np.testing.assert_array_equal(seen.images["agentview"], picture(10 * index + frame))
    with pytest.raises(ConventionError, match="do not declare theirs"):
        check_fit(read, PolicySpec(), "any")


def test_what_a_data_set_declares_is_undone(tmp_path):
    folder = _of_others(tmp_path)
    told = {"action_convention": "delta_pose", "cameras": {"front": "observation.images.agentview"}}
    (folder / "meta/vla_bench.json").write_text(json.dumps({"conventions": {**told, "pictures": "rotated"}}))
    read = open_demonstrations(folder)
    check_fit(read, PolicySpec(cameras=("front",), image_px=(32, 48)), "any")
    seen = next(next(iter(read)).observations(("front",)))
    np.testing.assert_array_equal(seen.images["front"], picture(0)[::-1, ::-1])
    (folder / "meta/vla_bench.json").write_text(json.dumps({"conventions": {**told, "picture": "x"}}))
    with pytest.raises(DataError, match=r"unknown key 'conventions.picture'; did you mean 'pictures'"):
        open_demonstrations(folder)


def test_what_a_policy_wants_and_the_data_lack_is_named(tmp_path):
    read = open_demonstrations(write_dataset(tmp_path / "d", 1))
    check_fit(read, PolicySpec(cameras=("agentview",), image_px=(32, 48), control_hz=5.0), "fits")
    spec = PolicySpec(
        cameras=("agentview", "top"), image_px=(256, 256), proprio=("joints",), control_hz=20.0,
        action_size=14, action_convention="joints", privileged=True,
    )  # fmt: skip
    with pytest.raises(ConventionError) as raised:
        check_fit(read, spec, "big")
    for words in (
        "policy 'big' does not fit", "acts at 20 Hz, the data were recorded at 5 Hz",
        "needs cameras ['top'], the data have ['agentview', 'robot0_eye_in_hand']", "'joints'",
        "agentview at 256×256 pixels, the data have 32×48", "14 numbers, the data's 7", "simulation's state",
    ):  # fmt: skip
        assert words in str(raised.value)


def _of_others(tmp_path):
    """Our data set as LeRobot would have written it: all episodes in one file of each kind."""
    import pyarrow as pa

    from vla_bench.lerobot.pictures import ENCODINGS, Film

    folder = write_dataset(tmp_path / "theirs", 2)
    files = sorted((folder / "data/chunk-000").glob("*.parquet"))
    pq.write_table(pa.concat_tables([pq.read_table(file) for file in files]), files[0])
    files[1].unlink()
    film = folder / "videos/observation.images.agentview/chunk-000/file-000.mp4"
    with Film(film, (32, 48), 5.0, ENCODINGS["lossless"]) as writer:
        for index in range(2):
            for frame in range(4):
                writer.add(picture(10 * index + frame))
    episodes = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(episodes).to_pylist()
    rows[1] |= {"data/file_index": 0, "videos/observation.images.agentview/file_index": 0}
    rows[1] |= {"videos/observation.images.agentview/from_timestamp": 0.8}
    kept = [{k: v for k, v in row.items() if not k.startswith("vla_bench")} for row in rows]
    pq.write_table(pa.Table.from_pylist(kept), episodes)
    (folder / "meta/vla_bench.json").unlink()
    return folder
