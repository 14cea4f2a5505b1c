"""The process of the policies: it dies, hangs, or has too little memory, and no episode notices."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs import plan_of, run, timeless
from support.traps import Traps
from support.worlds import BRIDGE, command_line, environment, write_policy

from vla_bench import catalog
from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.run.executors import Means, make_executor
from vla_bench.run.hosting import LOOPBACK, Hosting
from vla_bench.run.keeper import PAUSES_S
from vla_bench.run.records import read_run
from vla_bench.types import Arm, Episode

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
STUDY = {"tasks": (BRIDGE, OTHER), "policies": ("dreaming", "noop"), "episodes": 3, "budget": {"steps": 4}}
CODE = """
import os, pathlib, signal, time
import numpy as np
from vla_bench import seeding
from vla_bench.errors import MissingDataError
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

HOME = pathlib.Path(os.environ["DREAMS"])

class Made:
    spec = PolicySpec(chunk_length=2)

    def __init__(self, card, precision):
        with (HOME / "loaded").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        while (HOME / "slow").exists():
            time.sleep(0.05)
        if (HOME / "gone").exists() and sum(1 for _ in (HOME / "loaded").open()) > 1:
            raise MissingDataError("the checkpoint is not there any more")

    def reset(self, instruction, seed):
        self.seed = seed

    def act(self, observations):
        return self.act_seeded([observations], [self.seed])[0]

    def act_seeded(self, batch, seeds):
        with (HOME / "batches").open("a") as file:
            file.write(f"{len(batch)}\\n")
        for path in sorted(HOME.glob("at-*")):
            _, number, kind = path.name.split("-")
            if sum(1 for _ in (HOME / "batches").open()) >= int(number):
                path.unlink()
                if kind == "hang":
                    import ctypes
                    ctypes.PyDLL(None).sleep(1000)
                os.kill(os.getpid(), signal.SIGKILL)
        if len(batch) > 1 and (HOME / "small").exists():
            raise MemoryError(f"a batch of {len(batch)}")
        time.sleep(0.01)
        return [self._one(history[-1], seed) for history, seed in zip(batch, seeds)]

    def _one(self, seen, seed):
        draw = seeding.generator("policy", "dream", seed, seen.time_ns)
        return ActionChunk(draw.uniform(-1, 1, (2, 7)))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    write_policy(tmp_path / "policies", "dreaming", CODE, chunk_predicted=2, chunk_executed=2)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "policies"))
    monkeypatch.syspath_prepend(str(tmp_path / "policies"))
    path = os.pathsep.join([str(tmp_path / "policies"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.delitem(sys.modules, "dreaming_policy", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("DREAMS", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def undisturbed(tmp_path, home):
    records = same(run(plan_of(**STUDY), tmp_path / "undisturbed"))
    for file in home.iterdir():
        file.unlink()
    return records


def workers(count=2, **means):
    return make_executor("process", Means(count, **{"batch_wait_s": 0.2, **means}))


def same(records):
    return [{key: value for key, value in each.items() if key != "worker"} for each in timeless(records)]


def numbers(file):
    return [int(line) for line in file.read_text().split()]


@pytest.mark.parametrize("max_batch", [1, 8])
def test_a_served_policy_writes_what_a_policy_in_this_process_writes(tmp_path, home, undisturbed, max_batch):
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers(max_batch=max_batch))
    assert same(records) == undisturbed
    assert len(numbers(home / "loaded")) == 1, "one process holds the weights, whatever the number of workers"
    assert max(numbers(home / "batches")) == min(max_batch, 2)


def test_what_wraps_a_served_policy_stays_with_the_simulator(tmp_path, home):
    study = {**STUDY, "policies": ("receding:dreaming",), "tasks": (BRIDGE,)}
    alone = same(run(plan_of(**study), tmp_path / "alone"))
    (home / "loaded").unlink()
    assert same(run(plan_of(**study), tmp_path / "run", executor=workers())) == alone
    assert len(numbers(home / "loaded")) == 1


@pytest.mark.parametrize("kind", ["killed", "hang"])
def test_a_policy_process_that_ends_is_started_again_and_the_episodes_go_on(
    tmp_path, home, undisturbed, kind
):
    (home / f"at-5-{kind}").touch()
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers(patience_s=3.0))
    assert same(records) == undisturbed
    assert len(set(numbers(home / "loaded"))) == 2
    assert read_run(tmp_path / "run").superseded == 0


def test_one_that_dies_again_and_again_before_the_first_episode_costs_no_episode(tmp_path, home, undisturbed):
    for number in range(1, 1 + len(PAUSES_S)):
        (home / f"at-{number}-killed").touch()
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers())
    assert same(records) == undisturbed
    assert len(numbers(home / "loaded")) == 1 + len(PAUSES_S)
    assert read_run(tmp_path / "run").superseded == 0


def test_a_request_that_nobody_survives_costs_its_own_episode_and_no_other(tmp_path, home):
    study = {**STUDY, "tasks": (BRIDGE,), "policies": ("dreaming",)}
    for number in (5, 6, 7):
        (home / f"at-{number}-killed").touch()
    first, *others = run(plan_of(**study), tmp_path / "run", executor=workers(1))
    assert first.error is None
    lost, last = others
    assert lost.error is not None
    assert "each of the 3 times that it was asked" in lost.error.message
    assert last.status == "failure"


def test_when_memory_holds_no_batch_requests_are_answered_one_by_one_from_then_on(
    tmp_path, home, undisturbed
):
    (home / "small").touch()
    records = run(plan_of(**STUDY), tmp_path / "run", executor=workers(max_batch=8))
    assert same(records) == undisturbed
    batches = numbers(home / "batches")
    assert batches.count(2) == 1, "the first that did not fit was the last"
    assert len(set(numbers(home / "loaded"))) == 1


def test_a_policy_that_cannot_be_loaded_ends_the_run_in_its_own_words(tmp_path, home):
    (tmp_path / "policies" / "dreaming_policy.py").write_text(
        "from vla_bench.errors import ConventionError, MissingCapabilityError\n"
        "def Made(card, precision):\n    raise ConventionError('no dreams today')\n"
    )
    with pytest.raises(ConventionError, match="no dreams today"):
        run(plan_of(**STUDY), tmp_path / "run", executor=workers())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["serial", "process"])
def test_a_policy_that_is_never_loaded_ends_the_run_in_a_sentence(tmp_path, home, name):
    (home / "slow").touch()
    study = {**STUDY, "policies": ("dreaming",)}
    with pytest.raises(MissingCapabilityError, match=r"dreaming at fp32 did not load within 0\.5 s; --load-"):
        run(plan_of(**study), tmp_path / "run", executor=make_executor(name, Means(load_s=0.5)))
    assert not (tmp_path / "run").exists()


def test_its_latency_is_measured_where_it_computes(tmp_path, home):
    study = {**STUDY, "policies": ("dreaming",), "pacings": ("chunk_sync",), "latencies": ("measured",)}
    (home / "at-9-killed").touch()
    records = run(plan_of(**study), tmp_path / "run", executor=workers())
    assert {record.status for record in records} == {"failure"}
    assert (tmp_path / "run" / "latencies" / "dreaming-fp32.parquet").exists()
    assert len(numbers(home / "loaded")) == 2, "what was measured when its process ended is measured again"


def test_it_says_what_answering_together_changed(home):
    with Hosting([Arm("dreaming")], Means(2), LOOPBACK) as hosting:
        assert hosting.told() == [], "nothing was answered together yet"
        assert set(hosting.here) == {("dreaming", "fp32")}
        address = hosting.here["dreaming", "fp32"].address
        assert address.startswith("127.0.0.1:")
    with pytest.raises(ProcessLookupError):
        os.kill(numbers(home / "loaded")[0], signal.SIG_DFL)


def test_of_one_that_cannot_be_started_again_the_episodes_are_left_and_the_others_go_on(
    tmp_path, home, undisturbed
):
    (home / "at-5-killed").touch()
    (home / "gone").touch()
    with pytest.raises(MissingCapabilityError, match=r"not there any more; the same command plays"):
        run(plan_of(**STUDY), tmp_path / "run", executor=workers(max_batch=1))
    records = read_run(tmp_path / "run").records
    assert sum(record.policy == "noop" for record in records) == 6
    lost = [record for record in records if record.status == "error"]
    assert {record.policy for record in lost} == {"dreaming"}
    assert len(lost) <= 2, "no more than were being played"
    for record in lost:
        assert record.error is not None
        assert "will not come back" in record.error.message
        assert "the checkpoint is not there any more" in record.error.message
    assert len(numbers(home / "loaded")) == 1 + len(PAUSES_S)
    (home / "gone").unlink()
    assert same(run(plan_of(**STUDY), tmp_path / "run", executor=workers(max_batch=1))) == undisturbed


def test_who_waits_for_no_hosted_policy_is_watched_although_there_are_hosted_ones(
    tmp_path, home, monkeypatch
):
    traps = Traps(tmp_path, monkeypatch)
    study = {**STUDY, "tasks": (BRIDGE,), "policies": ("trapped", "dreaming"), "episodes": 1}
    traps.set(Episode(BRIDGE, seed=0), "hang")
    records = run(plan_of(**study), tmp_path / "run", executor=workers(1, patience_s=5.0))
    assert {record.status for record in records} == {"failure"}


@pytest.mark.parametrize(("blow", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_nobody_is_left_of_a_run_that_is_stopped_while_policies_load(tmp_path, home, blow, status):
    (home / "slow").touch()
    ours = subprocess.Popen(
        command_line(
            "run", "--task", BRIDGE, "--policy", "dreaming", "--workers", 2, "--out", tmp_path / "run"
        ),
        env=environment(tmp_path / "policies"), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while ours.poll() is None and not (home / "loaded").exists():
        time.sleep(0.05)
    if blow == signal.SIGINT:
        os.killpg(ours.pid, blow)
    else:
        ours.kill()
    _, said = ours.communicate(timeout=60)  # which ends when everybody has closed the pipe
    assert ours.returncode == status, said
    assert "Traceback" not in said
    try:
        state = Path(f"/proc/{numbers(home / 'loaded')[0]}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        state = "gone"
    assert state in ("gone", "Z"), "whoever inherits the dead may bury them late"
