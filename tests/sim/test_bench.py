import json

import pytest
from support.worlds import BRIDGE, needs_libero, vla_bench

from vla_bench import catalog
from vla_bench.sim.bench import Result, describe
from vla_bench.sim.settling import bowl_stays


@pytest.fixture(scope="module")
def result():
    ended = vla_bench("bench", "sim", "--task", BRIDGE, "--rounds", 1, "--no-pictures", "--json")
    assert ended.returncode == 0, ended.stderr
    return Result(**json.loads(ended.stdout))


def test_the_contenders_are_timed_and_compared(result):
    assert (result.task, result.rounds) == (BRIDGE, 1)
    assert {"bare mj_step", "no pictures"} <= set(result.steps_per_s)
    assert "1 camera every step" not in result.steps_per_s
    assert all(rate > 0 for rate in result.steps_per_s.values())
    rates = result.steps_per_s
    ratio = result.ratios["no pictures : bare mj_step"]
    assert ratio == pytest.approx(rates["no pictures"] / rates["bare mj_step"], rel=1e-9), "of one round"
    assert set(result.processes) == {"one", "two", "ratio"}
    assert result.reset_ms < result.construction_ms


def test_a_person_reads_the_same(result):
    text = describe(result)
    for words in (BRIDGE, "no pictures", "bare mj_step", "construction", "one process", "two"):
        assert words in text


def test_an_unknown_task_is_refused_before_anything_is_measured():
    ended = vla_bench("bench", "sim", "--task", "bridge_base/put_the_carot_on_the_plate")
    assert ended.returncode == 2
    assert "did you mean 'bridge_base/put_the_carrot_on_the_plate'" in ended.stderr


@needs_libero
def test_the_bowl_stays_on_the_ramekin_with_this_engine():
    assert bowl_stays(catalog.task("libero_spatial/5"), episodes=2) == (2, 2)
