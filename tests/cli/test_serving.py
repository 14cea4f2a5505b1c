"""`serve`, and runs whose policy is behind a server: a server that is lost ends its episodes alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import threading

import pytest
from support.runs import plan_of, run
from support.servers import Looks, Remembers, card_of, nobody, serving
from support.worlds import BRIDGE, command_line, environment, vla_bench

from vla_bench import catalog
from vla_bench.errors import ConventionError, MissingCapabilityError

STUDY = {"tasks": [BRIDGE], "episodes": 2, "budget": {"steps": 3}}
BLIND = {"cameras": (), "proprio": ("robot0_eef_pos",)}


@contextlib.contextmanager
def server(*arguments: object):
    """`vla-bench serve …` on a free port; gives its address and the process."""
    process = subprocess.Popen(
        command_line("serve", *arguments, "--port", 0), env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().rpartition(" at ")[2].strip(), process
    finally:
        process.kill()
        process.communicate()


def test_a_run_over_our_own_server_is_the_run_in_this_process(tmp_path):
    with server("--policy", "random") as (address, process):
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["policy"] == "random at fp32"
        plan = plan_of(**STUDY, policies=("random", f"remote:vla-eval@{address}"))
        records = run(plan, tmp_path / "run")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "answered " in out
    ours, theirs = ([r for r in records if r.arm.policy.startswith(name)] for name in ("random", "remote:"))
    assert len(ours) == len(theirs) == 2
    for here, there in zip(ours, theirs, strict=True):
        assert (here.status, here.cause, here.steps) == (there.status, there.cause, there.steps)
        assert (here.path_length_m, here.jerk_m_s3) == (there.path_length_m, there.jerk_m_s3), (
            "to the last bit"
        )
    assert {r.arm.precision for r in theirs} == {"as_served"}


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(folder))
    card_of(folder, "quick", like="vla-eval")
    return folder


class Dies(Looks):
    """Takes its server down at an observation."""

    def __init__(self, after, **spec):
        super().__init__(**spec)
        self.left, self.stop = after, threading.Event()

    def act_batch(self, batch):
        self.left -= 1
        if self.left == 0:
            self.stop.set()
            raise OSError("the machine is gone")
        return super().act_batch(batch)


def test_a_server_that_dies_ends_its_cell_as_errors_and_the_study_goes_on(tmp_path, cards):
    served = Dies(5, **BLIND)  # one observation before the first episode, three in it
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving(served, "vla-eval"))
        plan = plan_of(**{**STUDY, "episodes": 4}, policies=(f"quick:{address}", "noop"))
        records = run(plan, tmp_path / "run", lambda record: stack.close() if served.stop.is_set() else None)
    by_policy = {name: [r for r in records if r.arm.policy.startswith(name)] for name in ("quick", "noop")}
    assert [r.status for r in by_policy["noop"]] == ["failure"] * 4
    assert [r.status for r in by_policy["quick"]] == ["failure", "error", "error", "error"]
    first, *rest = (r.error for r in by_policy["quick"][1:])
    assert (first.type, "OSError: the machine is gone" in first.message) == ("AnswerError", True)
    assert {e.type for e in rest} == {"LostServerError"}
    assert all(f"the vla-eval server at {address}" in e.message for e in (first, *rest))


def test_a_server_that_was_never_there_is_an_error_of_its_episodes_as_long_as_others_run(tmp_path, cards):
    address = nobody()
    records = run(plan_of(**STUDY, policies=(f"quick:{address}", "noop")), tmp_path / "run")
    statuses = sorted((r.arm.policy.partition(":")[0], r.status) for r in records)
    assert statuses == [("noop", "failure")] * 2 + [("quick", "error")] * 2
    with pytest.raises(MissingCapabilityError, match=f"server at {address} cannot be reached"):
        run(plan_of(**STUDY, policies=(f"quick:{address}",)), tmp_path / "alone")


def test_a_policy_that_does_not_fit_the_task_is_found_before_the_first_episode(tmp_path, cards):
    for spec, message in (
        ({"cameras": ("side",), "proprio": ()}, r"needs cameras \['side'\], the task has"),
        ({"cameras": (), "proprio": ("joints",)}, r"needs proprioception \['joints'\], the task has"),
        ({**BLIND, "action_size": 14}, r"actions have shape \(T, 14\), the task takes \(T, 7\)"),
        (
            {**BLIND, "action_convention": "joints"},
            "action_convention is delta_pose, the policy declares joints",
        ),
    ):
        with serving(Looks(**spec), "vla-eval") as address, pytest.raises(ConventionError, match=message):
            run(plan_of(**STUDY, policies=(f"quick:{address}",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_none_are_the_policys_failure(tmp_path, cards):
    class Nan(Remembers):
        def act(self, observations):
            chunk = super().act(observations)
            chunk.actions[:] = float("nan") if self.count > 1 else 0.0
            return chunk

    with serving(Nan(**BLIND), "vla-eval") as address:
        records = run(plan_of(**STUDY, policies=(f"quick:{address}",)), tmp_path / "run")
    assert [(r.status, r.cause) for r in records] == [("failure", "policy_nan")] * 2


def test_what_cannot_be_served_is_said_in_a_sentence():
    ended = vla_bench("serve", "--policy", "expert", "--port", 0)
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith(
        "policy 'expert' sees the state of the simulation, which is not sent to servers"
    )
    assert "Traceback" not in ended.stderr
