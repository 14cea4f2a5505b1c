"""Whole runs in real time: plans that cannot be, records, traces, and an expert that comes too late."""

import dataclasses

import pytest
from support.runs import plan_of, run, timeless
from support.worlds import BRIDGE, environment, vla_bench, write_policy, write_suite, write_task

from vla_bench import catalog
from vla_bench.axes.simulation import build_simulation
from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.cards import load_policy
from vla_bench.run.plan import PlanError
from vla_bench.run.records import read_header
from vla_bench.run.rollout import Rollout, play
from vla_bench.types import Budget, Episode

CHUNKY = """\
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk


class Made:
    spec = PolicySpec(chunk_length=8)

    def __init__(self, card, precision): ...
    def reset(self, instruction, seed): ...
    def act(self, observations):
        return ActionChunk(np.tile([0, 0, 0, 0, 0, 0, -1.0], (8, 1)))
"""


@pytest.fixture
def chunky(tmp_path, monkeypatch):
    write_policy(tmp_path / "own", "chunky", CHUNKY, chunk_predicted=8, chunk_executed=4)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "own"))
    monkeypatch.syspath_prepend(str(tmp_path / "own"))


def problem(**keys):
    with pytest.raises(PlanError) as caught:
        plan_of(tasks=[BRIDGE], episodes=1, **keys)
    return str(caught.value)


def test_a_plan_refuses_timing_that_cannot_be(chunky):
    assert "did you mean 'realtime'" in problem(policies=["noop"], pacings=["real_time"])
    assert "expected milliseconds" in problem(policies=["noop"], latencies=["constant:3"])
    assert "policy 'chunky' 4" in problem(policies=["chunky"], pacings=["realtime"])
    plan_of(tasks=[BRIDGE], policies=["chunky"], pacings=["realtime"], chunks=[1])


@pytest.mark.parametrize(
    ("pacing", "ms", "said"),
    [
        ("chunk_async", 800, ""),
        ("chunk_async", 801, "up to 5 policy periods of bridge_base (95 %: 801 ms), so no number of the 8"),
        ("chunk_async@restart", 800, ""),
        ("chunk_async@restart", 801, "so 5 to 8 of the 8 predicted actions"),
        ("chunk_sync", 5000, ""),
        ("blocking", 5000, ""),
    ],
)
def test_a_plan_knows_when_chunks_come_too_late(chunky, pacing, ms, said):
    keys = {"policies": ["chunky"], "pacings": [pacing], "latencies": [f"constant:{ms}ms"]}
    if said:
        assert said in problem(**keys)
    else:
        plan_of(tasks=[BRIDGE], episodes=1, **keys)


@pytest.mark.parametrize(
    ("budget", "pacing", "latency", "said"),
    [
        (
            {"time_s": 0.1},
            "blocking",
            "zero",
            "budget time:0.1 is over before one policy period of bridge_base",
        ),
        ({"time_s": 2}, "realtime", "constant:2000ms", "longer than budget time:2 of bridge_base"),
        ({"steps": 60, "time_s": 2}, "realtime", "constant:2000ms", "the first action comes after 2 s"),
        ({"time_s": 2}, "blocking", "constant:2000ms", ""),
        ({"time_s": 2}, "realtime@free", "constant:2000ms", ""),
        ({"steps": 1}, "realtime", "constant:2000ms", ""),
    ],
)
def test_a_budget_in_which_nothing_can_happen_is_refused(budget, pacing, latency, said):
    keys = {"policies": ["noop"], "pacings": [pacing], "latencies": [latency], "budget": budget}
    if said:
        assert said in problem(**keys)
    else:
        plan_of(tasks=[BRIDGE], episodes=1, **keys)


def test_a_suite_without_a_stale_rule_runs_blocking_only(tmp_path, monkeypatch):
    write_task(write_suite(tmp_path) / "t.bddl")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    plan_of(tasks=["mine/t"], policies=["noop"], episodes=1)
    with pytest.raises(PlanError, match="suite 'mine' does not say what its robot does"):
        plan_of(tasks=["mine/t"], policies=["noop"], episodes=1, pacings=["realtime"])


def test_a_policy_that_cannot_continue_a_chunk_is_refused_before_the_first_episode(chunky, tmp_path):
    plan = plan_of(tasks=[BRIDGE], policies=["chunky"], pacings=["chunk_async@rtc"], episodes=1)
    with pytest.raises(MissingCapabilityError, match="has no act_continuing"):
        run(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_key_changes_with_whatever_changes_the_result(tmp_path, monkeypatch):
    def keys(**more):
        return {item.key for item in plan_of(tasks=[BRIDGE], policies=["noop"], episodes=2, **more).items}

    model = tmp_path / "latencies" / "mine.toml"
    model.parent.mkdir()
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    seen = [keys(), keys(pacings=["realtime"]), keys(phase="drawn")]
    for median_ms in (100, 200):
        model.write_text(f'title = "t"\nsource = "me"\ncertainty = "primary"\nmedian_ms = {median_ms}\n')
        seen.append(keys(latencies=["model:mine"]))
    assert len(set.union(*seen)) == 2 * len(seen)


def test_what_was_measured_once_is_replayed(tmp_path):
    keys = {"tasks": [BRIDGE], "policies": ["random"], "pacings": ["realtime"], "episodes": 2}
    keys |= {"budget": {"steps": 3}, "phase": "drawn"}
    folder = tmp_path / "measured"
    first = run(plan_of(**keys, latencies=["measured"]), folder)
    (trace,) = (folder / "latencies").iterdir()
    before = trace.read_bytes()
    (folder / "episodes-0.jsonl").unlink()
    again = run(plan_of(**keys, latencies=["measured"]), folder)
    assert trace.read_bytes() == before
    replayed = run(plan_of(**keys, latencies=[f"trace:{trace}"]), tmp_path / "replayed")
    own = {"latency", "key", "study_hash"}

    def results(records):
        ages = [list(record.inferences.observation_age_ms) for record in records]
        return [{k: v for k, v in row.items() if k not in own} for row in timeless(records)], ages

    assert results(first) == results(again) == results(replayed)
    assert all(record.status == "failure" for record in first)
    header = read_header(tmp_path / "replayed")
    assert header.stale == {"bridge_base": "goal"}
    assert [used.deterministic for used in header.latencies.values()] == [True]


def test_a_live_latency_is_stamped(tmp_path):
    keys = {"tasks": [BRIDGE], "policies": ["noop"], "pacings": ["realtime"], "latencies": ["live", "zero"]}
    records = run(plan_of(**keys, episodes=1, budget={"steps": 2}), tmp_path / "run")
    assert [record.status for record in records] == ["failure"] * 2
    used = read_header(tmp_path / "run").latencies
    assert {name: latency.deterministic for name, latency in used.items()} == {"live": False, "zero": True}


def test_the_command_line_takes_a_pacing_and_a_latency():
    flags = ["--task", BRIDGE, "--policy", "noop", "--episodes", 1]
    timing = ["--pacing", "blocking,realtime@wait", "--latency", "zero,model:openvla-bnb_int8-a5000*0.5"]
    done = vla_bench("plan", *flags, *timing, env=environment())
    assert done.returncode == 0, done.stderr
    assert "4 episodes to run" in done.stdout
    done = vla_bench("plan", *flags, "--latency", "constant:1s", env=environment())
    assert done.returncode == 2
    assert "for example constant:333ms" in done.stderr


def test_a_late_expert_misses_a_target_that_moves_and_one_that_is_waited_for_does_not():
    task = dataclasses.replace(catalog.task(BRIDGE), budget=Budget(time_s=10.0))
    simulation, expert = build_simulation(task), load_policy("expert", "fp32")

    def outcome(pacing, ms):
        run = Rollout(simulation, expert, delays=lambda call, spent_ns: ms * 1_000_000)
        return play(run, Episode(task.id, "motion.moving_target@5", seed=0), pacing, 0)

    waited, prompt = outcome("blocking", 833), outcome("realtime", 0)
    assert waited["status"] == prompt["status"] == "success"
    for same in ("steps", "ticks", "simulated_s", "path_length_m", "jerk_m_s3"):
        assert waited[same] == prompt[same], same
    assert waited["task_s"] > 3 * prompt["task_s"]
    late = outcome("realtime", 833)
    assert (late["status"], late["cause"]) == ("failure", "time")
    simulation.close()
