import dataclasses

import imageio.v3 as imageio
import numpy as np
import pytest
from support.runs import plan_of, run, timeless
from support.worlds import ROOT, STACKED, environment, python, tabletop, write_suite, write_task

from vla_bench import catalog
from vla_bench.run.records import read_run
from vla_bench.run.video import Video
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import Episode

SIZE = 32


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    task = tabletop(tmp_path_factory.mktemp("task"))
    task = dataclasses.replace(task, observation_height_px=SIZE, observation_width_px=2 * SIZE)
    sim = MujocoSimulation(task)
    sim.reset(Episode(task.id, seed=0))
    return sim


def film(sim, path, frames=4):
    with Video(path, sim) as video:
        for _ in range(frames):
            sim.tick(np.ones(7))
            video.add_frame()
        return video.keep()


def test_a_kept_video_is_h264_and_shows_the_frames(sim, tmp_path):
    path = film(sim, tmp_path / "new" / "a.mp4", frames=6)
    assert path == tmp_path / "new" / "a.mp4"
    about = imageio.immeta(path, plugin="FFMPEG")
    assert about["codec"] == "h264"
    assert about["pix_fmt"].startswith("yuv420p")
    assert about["fps"] == 1 / sim.task.policy_period_s
    assert about["size"] == (2 * SIZE, SIZE)
    frames = list(imageio.imiter(path, plugin="FFMPEG"))
    assert len(frames) == 6
    assert frames[0].std() > 5
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 20, "the arm is seen to move"
    assert [path.name for path in path.parent.iterdir()] == ["a.mp4"]


def test_what_is_not_kept_leaves_nothing(sim, tmp_path):
    with Video(tmp_path / "a.mp4", sim) as video:
        video.add_frame()
    with Video(tmp_path / "b.mp4", sim) as video:
        assert video.keep() is None, "nothing was filmed"
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from support.worlds import BRIDGE, simulation
from vla_bench.errors import VlaBenchError
from vla_bench.run.video import Video
from vla_bench.types import Episode
import numpy as np
sim = simulation(BRIDGE)
sim.reset(Episode(BRIDGE, seed=0))
sim.tick(None)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with Video(Path(sys.argv[1]), sim) as video:
        for _ in range(20):
            sim.tick(np.ones(7)); video.add_frame()
        video.keep()
except VlaBenchError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_leaves_no_video_that_cannot_be_played(tmp_path):
    code = FULL.replace("sys.argv[1]", repr(str(tmp_path / "a.mp4")))
    ended = python(code, environment(ROOT / "tests"))
    assert "a.mp4: the video could not be written; is the disk full?" in ended.stdout, ended.stderr
    assert list(tmp_path.iterdir()) == []


# ── which episodes are filmed ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A suite with one task that standing still solves and one that it does not."""
    folder = write_suite(tmp_path / "tasks", budget="{ steps = 4 }")
    write_task(folder / "easy.bddl", init=STACKED)
    write_task(folder / "hard.bddl")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path / "tasks"))
    return {"suites": ("mine",), "policies": ("noop", "random"), "episodes": 2}


def filmed(folder):
    """(task, seed, policy) of the records with a video; the folder holds exactly those."""
    records = [record for record in read_run(folder).records if record.video is not None]
    files = {str(path.relative_to(folder)) for path in (folder / "videos").glob("*")}
    assert files == {record.video for record in records}
    return [(record.stem, record.seed, record.policy) for record in records]


def test_failures_keeps_the_failures_only(mixed, tmp_path):
    records = run(plan_of(**mixed, outputs={"video": "failures"}), tmp_path / "run")
    failures = [(r.stem, r.seed, r.policy) for r in records if r.status == "failure"]
    assert ("easy", 0, "noop") not in failures
    assert ("hard", 0, "noop") in failures
    assert filmed(tmp_path / "run") == failures
    for record in records:
        if record.video is not None:
            assert len(list(imageio.imiter(tmp_path / "run" / record.video, plugin="FFMPEG"))) == record.steps


def test_a_number_films_the_first_episodes_of_each_arm_also_when_continued(mixed, tmp_path):
    plan = plan_of(**mixed, outputs={"video": 1})

    def stop(record, seen=[]):  # noqa: B006
        seen.append(record)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "parts", stop)
    assert timeless(run(plan, tmp_path / "parts")) == timeless(run(plan, tmp_path / "whole"))
    assert filmed(tmp_path / "parts") == [("easy", 0, "noop"), ("easy", 0, "random")]


def test_filming_changes_nothing_but_the_record_of_it(mixed, tmp_path):
    for video in ("none", "all"):
        run(plan_of(**mixed, outputs={"video": video}), tmp_path / video)
    assert not (tmp_path / "none" / "videos").exists()
    assert len(filmed(tmp_path / "all")) == 8
    with_and_without = [
        [{**row, "video": None, "study_hash": None} for row in timeless(read_run(tmp_path / name).records)]
        for name in ("none", "all")
    ]
    assert with_and_without[0] == with_and_without[1]
