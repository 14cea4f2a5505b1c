"""Workers that die, hang, or cannot write: every episode is there exactly once, whatever happened."""

import gc
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.runs import plan_of, run, timeless
from support.traps import Traps
from support.worlds import BRIDGE, command_line, environment

from vla_bench.errors import VlaBenchError
from vla_bench.run.executors import Means, make_executor, worker
from vla_bench.run.executors.worker import settle
from vla_bench.run.records import Record, RecordWriter, read_run
from vla_bench.types import Episode

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
STUDY = {"tasks": (BRIDGE, OTHER), "policies": ("trapped", "noop"), "episodes": 3, "budget": {"steps": 3}}
WHO = {"worker", "fingerprint"}


@pytest.fixture
def traps(tmp_path, monkeypatch):
    return Traps(tmp_path, monkeypatch)


def workers(count=2, patience_s=600.0):
    return make_executor("process", Means(count, patience_s=patience_s))


def same(records):
    """What does not depend on who played when."""
    return [{key: value for key, value in each.items() if key not in WHO} for each in timeless(records)]


@pytest.fixture
def undisturbed(tmp_path, traps):
    return same(run(plan_of(**STUDY), tmp_path / "undisturbed"))


def test_two_workers_write_what_one_writes_and_nobody_keeps_what_is_written(tmp_path, undisturbed):
    told, alive = [], []

    def tell(record):
        told.append(record.key)
        alive.append(sum(type(each) is Record for each in gc.get_objects()))

    records = run(plan_of(**STUDY), tmp_path / "two", tell, workers())
    assert same(records) == undisturbed
    assert set(told) == {record.key for record in records}
    assert len(told) == len(records) == 12
    assert max(alive) <= alive[0] + 1, "memory must not grow with the number of episodes"
    assert len({record.worker for record in records}) == 2
    assert not (tmp_path / "two" / "workers").exists(), "nobody had last words"


def test_however_a_worker_ends_it_is_replaced_and_its_episode_played_again(tmp_path, traps, undisturbed):
    kinds = iter(("segfault", "killed", "exit", "abort", "memory", "hang"))
    for task in (BRIDGE, OTHER):
        for seed in range(3):
            traps.set(Episode(task, seed=seed), next(kinds), times=1)
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers(patience_s=5.0))
    assert same(records) == undisturbed
    assert read_run(tmp_path / "run").superseded == 0


def test_an_episode_that_nobody_survives_is_an_error_that_says_how_and_the_others_are_there(
    tmp_path, traps, undisturbed
):
    fatal = {"segfault": Episode(BRIDGE, seed=1), "memory": Episode(OTHER, seed=0)}
    for kind, episode in fatal.items():
        traps.set(episode, kind, times=3)
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers())
    lost = {record.episode: record for record in records if record.status == "error"}
    assert set(lost) == set(fatal.values())
    assert {record.policy for record in lost.values()} == {"trapped"}
    said = {kind: lost[episode].error.message for kind, episode in fatal.items()}
    assert said["segfault"].startswith("3 workers died while they played it, the last one by SIGSEGV")
    assert "Segmentation fault" in said["segfault"]
    assert said["memory"].endswith("because memory ran out")
    gone = {record.key for record in lost.values()}
    assert [x for x in same(records) if x["key"] not in gone] == [
        x for x in undisturbed if x["key"] not in gone
    ]
    again = run(plan_of(**STUDY), tmp_path / "run", executor=workers(1))
    assert same(again) == undisturbed, "an error is run again, and the trap is gone"


def test_what_hangs_every_time_is_an_error_that_names_the_time(tmp_path, traps):
    traps.set(Episode(BRIDGE, seed=0), "hang", times=3)
    study = {**STUDY, "tasks": (BRIDGE,), "policies": ("trapped",), "episodes": 2}
    first, second = run(plan_of(**study), tmp_path / "run", executor=workers(1, patience_s=3.0))
    assert first.error is not None
    assert "Timeout (0:00:03)" in first.error.message
    assert second.status == "failure"


def test_an_error_of_before_is_no_result_of_a_worker_that_died(tmp_path, traps):
    plan = plan_of(**{**STUDY, "tasks": (BRIDGE,), "policies": ("trapped",), "episodes": 1})
    traps.set(Episode(BRIDGE, seed=0), "memory")
    (begun,) = run(plan, tmp_path / "run", executor=make_executor("serial", Means()))
    assert begun.error is not None
    assert begun.error.type == "MemoryError"
    traps.set(Episode(BRIDGE, seed=0), "segfault")
    (played,) = run(plan, tmp_path / "run", executor=workers(1))
    assert played.status == "failure"


def test_who_still_writes_is_waited_for_and_what_is_torn_is_dropped(tmp_path, monkeypatch):
    writer = RecordWriter(tmp_path, "1")
    monkeypatch.setattr(worker, "_TAKE_OVER_S", 0.3)
    with pytest.raises(VlaBenchError, match="another process is writing this run"):
        settle(tmp_path)
    threading.Timer(0.2, writer.close).start()
    (tmp_path / "episodes-2.jsonl").write_text("torn")
    monkeypatch.setattr(worker, "_TAKE_OVER_S", 60)
    settle(tmp_path)
    assert (tmp_path / "episodes-2.jsonl").read_bytes() == b""


def test_a_run_that_is_interrupted_drains_and_continues(tmp_path, traps, undisturbed):
    plan, folder = plan_of(**STUDY), tmp_path / "run"

    def interrupt(record, left=[3]):  # noqa: B006
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, folder, interrupt, workers())
    begun = read_run(folder)
    assert begun.problems == ()
    assert 3 <= len(begun.records) < 12
    assert same(run(plan, folder, executor=workers())) == undisturbed
    assert read_run(folder).superseded == 0


def test_the_main_process_may_be_killed_at_any_time(tmp_path, traps, undisturbed):
    folder = tmp_path / "run"
    command = command_line(
        "run", "--task", f"{BRIDGE},{OTHER}", "--policy", "trapped,noop", "--episodes", 3,
        "--budget", "steps:3", "--workers", 2, "--out", folder,
    )  # fmt: skip
    env = environment(tmp_path / "policies")
    for _ in range(6):
        ours = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, start_new_session=True)
        before = _lines(folder)
        while ours.poll() is None and _lines(folder) < before + 2:
            time.sleep(0.02)
        ours.kill()
        ours.communicate()
        if _lines(folder) >= 8:
            break
    _wait_until_alone(folder)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = read_run(folder)
    assert same(found.records) == undisturbed
    assert found.superseded == 0


def _lines(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("episodes-*.jsonl"))


def _wait_until_alone(folder):
    """Workers do not outlive the main process."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not _workers_of(folder):
            return
        time.sleep(0.05)
    pytest.fail(f"{_workers_of(folder)} outlived the main process")


def _workers_of(folder):
    """Processes that have a file of the folder open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [link.readlink() for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(file.is_relative_to(folder) for file in files):
            found.add(int(process.name))
    return found


def test_more_workers_than_memory_holds_are_refused_in_a_sentence(tmp_path):
    ended = subprocess.run(
        command_line(
            "run", "--task", BRIDGE, "--policy", "noop", "--workers", 100_000, "--out", tmp_path / "r"
        ),
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "100000 workers need about" in ended.stderr
    assert "would fit" in ended.stderr


def test_ctrl_c_in_a_terminal_lets_workers_finish_and_the_same_command_continues(
    tmp_path, traps, undisturbed
):
    folder = tmp_path / "run"
    command = command_line(
        "run", "--task", f"{BRIDGE},{OTHER}", "--policy", "trapped,noop", "--episodes", 3,
        "--budget", "steps:3", "--workers", 2, "--out", folder,
    )  # fmt: skip
    env = environment(tmp_path / "policies")
    ours = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while ours.poll() is None and _lines(folder) < 2:
        time.sleep(0.02)
    os.killpg(ours.pid, signal.SIGINT)  # as a terminal does: everybody hears it
    _, said = ours.communicate(timeout=60)
    assert ours.returncode == 130, said
    assert "Traceback" not in said
    assert "the same command continues" in said
    begun = read_run(folder)
    assert 2 <= len(begun.records) < 12
    assert begun.problems == ()
    assert not _workers_of(folder)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found = read_run(folder)
    assert same(found.records) == undisturbed
    assert found.superseded == 0
