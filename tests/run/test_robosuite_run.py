"""robosuite's tasks under the ordinary runner, to the end of their budget.

`VLA_BENCH_LONG=1` runs their whole horizon of 400 steps.
"""

from __future__ import annotations

import os

import pytest
from support.runs import plan_of, run

from vla_bench import catalog
from vla_bench.errors import MissingCapabilityError
from vla_bench.sim.robosuite_import import import_robosuite

STEPS = 400 if os.environ.get("VLA_BENCH_LONG") else 6
STEMS = {"lift", "pick_place_can", "nut_assembly_square"}


@pytest.fixture(scope="module", autouse=True)
def _robosuite():
    try:
        import_robosuite()
    except MissingCapabilityError as error:
        pytest.skip(str(error))


def test_every_task_runs_to_its_last_step(tmp_path):
    plan = plan_of(suites=["robosuite"], policies=["random"], episodes=1, budget={"steps": STEPS})
    records = run(plan, tmp_path / "r")
    assert {record.stem for record in records} == STEMS
    for record in records:
        assert (record.status, record.cause, record.error) == ("failure", "horizon", None)
        assert (record.steps, record.budget_ended) == (STEPS, "steps")
        assert record.simulated_s == pytest.approx(0.05 * STEPS)


def test_a_policy_that_looks_runs_to_the_last_step(tmp_path, monkeypatch):
    """A small diffusion policy with drawn weights: a picture, the state, and four actions at a time."""
    from support.diffusion import write_card, write_official

    path = write_official(tmp_path / "latest.ckpt")
    write_card(tmp_path / "cards", "looks", path, {"weights": "random"}, chunk_executed=4)
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    stems = ["lift"] if STEPS < 400 else sorted(STEMS)
    tasks = [f"robosuite/{stem}" for stem in stems]
    plan = plan_of(tasks=tasks, policies=["looks"], episodes=1, budget={"steps": STEPS})
    for record in run(plan, tmp_path / "r"):
        assert (record.status, record.cause, record.error) == ("failure", "horizon", None)
        assert record.steps == STEPS
        assert len(record.inferences.inference_ms) == -(-STEPS // 4)
