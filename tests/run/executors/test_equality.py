"""With `--exact`, who plays, in which order and how fast, changes no byte of what an episode decides."""

import json
import os

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, write_policy

from vla_bench import catalog
from vla_bench.run.executors import Means, make_executor
from vla_bench.run.records import read_run
from vla_bench.run.records.audit import repeatable

OTHER = "bridge_base/stack_the_green_block_on_the_yellow_block"
STUDY = {"tasks": (BRIDGE, OTHER), "policies": ("noop", "sleepy"), "episodes": 2, "budget": {"steps": 4}}
LOCAL = {"slurm_cluster": "local", "timeout_min": 5}
EXECUTORS = {
    "process": Means(2, max_batch=1),
    "ray": Means(2, max_batch=1),
    "slurm": Means(2, max_batch=1, slurm=LOCAL),
}
CODE = """
import time
import numpy as np
from vla_bench import seeding
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec(cameras=("agentview",), image_px=(16, 16), chunk_length=2)

    def __init__(self, card, precision):
        pass

    def reset(self, instruction, seed):
        self.seed = seed

    def act(self, observations):
        return self.act_seeded([observations], [self.seed])[0]

    def act_seeded(self, batch, seeds):
        time.sleep((time.perf_counter_ns() // 1000 % 5) / 50)
        return [self._one(history[-1], seed) for history, seed in zip(batch, seeds)]

    def _one(self, seen, seed):
        noise = seeding.generator("policy", "sleep", seed, seen.time_ns).uniform(-0.5, 0.5, (2, 7))
        return ActionChunk(noise + seen.images["agentview"].mean() / 1000)
"""


@pytest.fixture
def _sleepy(tmp_path, monkeypatch):
    home = tmp_path / "policies"
    write_policy(home, "sleepy", CODE, blind=False, chunk_predicted=2, chunk_executed=2)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(home))
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")]))


def lines(records):
    return [json.dumps(repeatable(record), sort_keys=True).encode() for record in records]


@pytest.mark.usefixtures("_sleepy")
def test_all_executors_write_the_same_bytes(tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("submitit")
    plan = plan_of(**STUDY)
    alone = run(plan, tmp_path / "serial", executor=make_executor("serial", Means(max_batch=1)))
    assert len(alone) == 8
    assert {record.status for record in alone} == {"failure"}
    for name, means in EXECUTORS.items():
        told = []
        several = run(plan, tmp_path / name, told.append, make_executor(name, means))
        assert lines(several) == lines(alone), name
        assert len(told) == 8
        found = read_run(tmp_path / name)
        assert (found.superseded, found.problems) == (0, ())
