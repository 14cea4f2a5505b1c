"""Machines that lack something: graphics, space on the disk, permission."""

import ctypes
import os
import resource

import pytest
from support.runs import timeless
from support.worlds import BRIDGE, environment, vla_bench

from vla_bench.run.records import read_run

STUDY = ["run", "--task", BRIDGE, "--policy", "noop,random", "--episodes", "6", "--budget", "steps:2"]
FILMED = [*STUDY, "--video", "all"]

# Python reads this when it starts: no library of this name can be found.
WITHOUT = """
import ctypes.util
_find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in {names!r} else _find(name)
"""


@pytest.fixture
def machine(tmp_path):
    """The environment of a machine without some libraries."""

    def without(*names, **variables):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(WITHOUT.format(names=names))
        return environment(folder, **{"MUJOCO_GL": None, "PYOPENGL_PLATFORM": None, **variables})

    return without


def sentence(ended):
    """The one sentence that a command ended with."""
    assert ended.returncode == 2, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("vla-bench: ")]
    assert "Traceback" not in ended.stderr
    return line


def test_without_opengl_a_run_that_draws_ends_in_a_sentence_before_it_begins(machine, tmp_path):
    ended = vla_bench(*FILMED, "--out", tmp_path / "run", env=machine("EGL", "OSMesa"))
    assert "no OpenGL was found that draws without a display" in sentence(ended)
    assert "install" in sentence(ended)
    assert not (tmp_path / "run").exists()


def test_without_opengl_a_blind_run_works(machine, tmp_path):
    ended = vla_bench(*STUDY, "--out", tmp_path / "run", env=machine("EGL", "OSMesa"))
    assert ended.returncode == 0, ended.stderr
    assert len(read_run(tmp_path / "run").records) == 12


def test_without_opengl_the_doctor_says_so_and_looks_at_the_rest(machine):
    ended = vla_bench("doctor", env=machine("EGL", "OSMesa"))
    assert ended.returncode == 1
    assert "broken graphics" in " ".join(ended.stdout.split())
    assert "good   robot" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize(("name", "library"), [("osmesa", "OSMesa"), ("egl", "EGL")])
def test_a_backend_that_is_asked_for_and_absent_is_named_with_what_to_install(
    machine, tmp_path, name, library
):
    ended = vla_bench(*FILMED, "--out", tmp_path / "run", env=machine(library, MUJOCO_GL=name))
    assert (
        f"cannot draw pictures with {name}, chosen because MUJOCO_GL={name}: lib{library} is not installed"
        in sentence(ended)
    )


def test_a_backend_that_does_not_exist_gets_the_nearest(tmp_path):
    ended = vla_bench(*STUDY, "--out", tmp_path / "run", env=environment(MUJOCO_GL="osmsea"))
    assert "unknown value of MUJOCO_GL: 'osmsea'; did you mean 'osmesa'" in sentence(ended)


# ── the disk ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The records of the study; the compiled controller is in its cache from here on."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    ended = vla_bench(*STUDY, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_the_run_with_all_records_before_it_intact(tmp_path, undisturbed, workers):
    line = max(len(text) for text in (undisturbed / "episodes-0.jsonl").read_bytes().splitlines())
    room = max(4 * line, (undisturbed / "run.json").stat().st_size + 1000)

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    folder = tmp_path / "run"
    ended = vla_bench(*STUDY, "--workers", workers, "--out", folder, preexec_fn=small_disk)
    assert "a record could not be written: File too large; all records before it are intact" in sentence(
        ended
    )
    kept, whole = read_run(folder), timeless(read_run(undisturbed).records)
    assert 0 < len(kept.records) < len(whole)
    assert kept.problems == ()
    ended = vla_bench(*STUDY, "--workers", workers, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    finished = read_run(folder)
    assert [each | {"worker": "0"} for each in timeless(finished.records)] == whole
    assert finished.superseded == 0


PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def obey_permissions():
    """In a child of root: permissions of files count for root too."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) if os.geteuid() == 0 else ():
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_without_permission_to_write_a_sentence_says_so(tmp_path, undisturbed):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    ended = vla_bench(*STUDY, "--out", locked / "run", preexec_fn=obey_permissions)
    if ended.returncode == 0:
        pytest.skip("this user may write anywhere")
    assert f"{locked / 'run'} cannot hold results: Permission denied" in sentence(ended)
    assert list(locked.iterdir()) == []


def test_a_place_that_is_no_folder_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    ended = vla_bench(*STUDY, "--out", tmp_path / "file")
    assert "cannot hold results: " in sentence(ended)
    assert "file" in sentence(ended)
