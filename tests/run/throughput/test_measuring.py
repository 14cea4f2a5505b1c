"""Demand, supply and overhead, of real simulators and of a policy in a process; no word about seconds."""

import dataclasses
import json
import os
import sys

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.errors import MissingCapabilityError, VlaBenchError
from vla_bench.policy.base import PolicySpec
from vla_bench.run.executors import Means
from vla_bench.run.executors.undecided import Undecided
from vla_bench.run.throughput.bench import Turns, bench_throughput
from vla_bench.run.throughput.demand import Look, measure_demand
from vla_bench.run.throughput.looking import doubling, horizon
from vla_bench.run.throughput.overhead import POLICY, RENDERING, SIMULATION, measure_overhead
from vla_bench.run.throughput.report import describe

STUDY = {"tasks": (BRIDGE,), "policies": ("noop",), "episodes": 2, "budget": {"steps": 6}}
SHOWN = PolicySpec(cameras=("agentview",), image_px=(24, 32), chunk_length=3)
SERVED = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec(cameras=("agentview",), image_px=(16, 16), chunk_length=2)

    def __init__(self, card, precision):
        pass

    def reset(self, instruction, seed):
        pass

    def act(self, observations):
        return self.act_batch([observations])[0]

    def act_batch(self, batch):
        if len(batch) > 4:
            raise MemoryError(f"a batch of {len(batch)}")
        return [ActionChunk(np.full((2, 7), seen[-1].images["agentview"].mean() / 500)) for seen in batch]
"""


@pytest.fixture
def served(tmp_path, monkeypatch):
    folder = tmp_path / "policies"
    write_policy(folder, "seeing", SERVED, blind=False, chunk_predicted=2, chunk_executed=2)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "seeing_policy", raising=False)
    return {**STUDY, "policies": ("seeing",)}


def test_demand_is_measured_with_the_pictures_that_a_policy_wants():
    plan = plan_of(**STUDY)
    found = measure_demand(Look(plan.items, SHOWN, 3), [2, 1, 2], rounds=2, turn_s=0.1)
    assert [each.workers for each in found.by_workers] == [1, 2]
    assert found.by_workers[0].ratio == 1.0
    assert all(each.requests_per_s > 0 and each.ratio > 0 for each in found.by_workers)
    assert [seen.images["agentview"].shape for seen in found.history] == [(24, 32, 3)]
    assert found.history[0].instruction == plan.items[0].task().instruction


def test_episodes_that_begin_during_a_turn_are_timed_apart():
    plan = plan_of(**STUDY)
    found = measure_demand(Look(plan.items, PolicySpec(), 1), [1], rounds=1, turn_s=1.0)
    assert found.start_s > 0


def test_a_task_that_does_not_show_what_is_wanted_is_no_measurement():
    wanted = PolicySpec(cameras=("bird",))
    with pytest.raises(VlaBenchError, match="bird"):
        measure_demand(Look(plan_of(**STUDY).items, wanted, 1), [1], rounds=1, turn_s=0.1)


def test_overhead_is_what_is_left_of_a_whole_run():
    found = measure_overhead(plan_of(**STUDY), SHOWN)
    assert (found.episodes, found.errors) == (2, 0)
    assert set(found.spent_s) == {SIMULATION, RENDERING, POLICY}
    assert 0 < found.share < 1
    assert 0 < found.disk_s < found.wall_s - sum(found.spent_s.values())
    blind = measure_overhead(plan_of(**STUDY))
    assert set(blind.spent_s) == {SIMULATION, POLICY}, "nobody wants a picture of noop's"


def test_histories_are_shown_too():

    found = measure_overhead(plan_of(**STUDY), dataclasses.replace(SHOWN, history=2, history_stride_s=0.2))
    assert found.errors == 0
    assert horizon(plan_of(**STUDY).items[0]) == 6


def test_a_policy_of_its_own_process_is_timed_there_up_to_what_memory_holds(served):
    found = bench_throughput(
        plan_of(**served), workers=[1, 2], batches=[2, 8], turns=Turns(rounds=1, turn_s=0.1, calls=2)
    )
    assert [each.batch for each in found.supplies] == [1, 2], "8 are more than its memory holds"
    assert {each.device for each in found.supplies} == {"cpu"}
    assert found.chunk_executed == 2
    assert found.demands.history[-1].images["agentview"].shape == (16, 16, 3)
    assert found.proposal.batch in (1, 2)
    table = json.loads(json.dumps(found.to_json()))
    assert [row["workers"] for row in table["demands"]] == [1, 2]
    assert table["overhead"]["share"] == found.overhead.share
    assert f"--workers {found.proposal.workers} --batch {found.proposal.batch}" in describe(found)


def test_a_run_that_chooses_its_workers_writes_the_same_records(served, tmp_path, caplog):
    plan = plan_of(**served)
    alone = run(plan, tmp_path / "alone")
    with caplog.at_level("INFO", logger="vla_bench.run"):
        chosen = run(plan, tmp_path / "chosen", executor=Undecided(Means(max_batch=2)))
    assert {(r.key, r.status, r.path_length_m) for r in chosen} == {
        (r.key, r.status, r.path_length_m) for r in alone
    }
    assert "--workers" in caplog.text


def test_without_a_policy_of_its_own_process_nothing_is_measured(tmp_path, caplog):
    with caplog.at_level("INFO", logger="vla_bench.run"):
        records = run(plan_of(**STUDY), tmp_path / "run", executor=Undecided(Means()))
    assert len(records) == 2
    assert "cores" in caplog.text


def test_no_more_workers_than_memory_holds(monkeypatch):
    from vla_bench.run.executors import memory

    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * memory.WORKER_BYTES)
    assert memory.most_workers() == 3
    with pytest.raises(MissingCapabilityError, match="--workers 3"):
        measure_demand(Look(plan_of(**STUDY).items, PolicySpec(), 1), [4], rounds=1, turn_s=0.1)


def test_sizes_double_up_to_the_last():
    assert [doubling(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
