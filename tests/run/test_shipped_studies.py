"""Every study that ships can be planned here, without weights."""

import pytest
from support.worlds import needs_libero

from vla_bench import catalog
from vla_bench.config import read_toml
from vla_bench.run.plan import make_plan
from vla_bench.run.study import load_study
from vla_bench.types import Arm

STUDIES = sorted(catalog.studies())
ON_LIBERO = {"libero_reference", "chunk", "quick_libero"}


def test_the_promised_studies_are_there():
    promised = {"quick", "axes", "table2", "weights_x_latency", "chunk", "libero_reference", "latency_sweep"}
    assert promised <= set(STUDIES)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=needs_libero) if n in ON_LIBERO else n for n in STUDIES]
)
def test_a_shipped_study_can_be_planned_and_says_what_it_answers(name):
    path = catalog.studies()[name]
    assert read_toml(path)["title"]
    plan = make_plan(load_study(name))
    assert len({item.key for item in plan.items}) == len(plan.items) > 0
    assert {item.arm for item in plan.items} == set(plan.study.arms)


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"quick", "quick_libero"}))
def test_a_study_begins_with_the_question_that_it_answers(name):
    lines = catalog.studies()[name].read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    assert comment == lines[: len(comment)]
    assert len(comment) >= 3


def test_table_2_runs_every_precision_with_its_own_latency():
    study = load_study("table2", policies=("octo-small",))
    table = study.crossed
    assert table is not None
    assert {(arm.precision, arm.latency) for arm in study.arms} == {
        *table.latencies.items(), *((precision, "zero") for precision in table.latencies)
    }  # fmt: skip
    assert study.budget is not None
    assert study.budget.steps == 60


def test_the_crossed_study_runs_all_weights_with_all_latencies():
    study = load_study("weights_x_latency", policies=("octo-small",))
    assert study.crossed is not None
    assert {(arm.precision, arm.latency) for arm in study.arms} == {
        (precision, latency)
        for precision in study.crossed.latencies
        for latency in ("zero", *study.crossed.latencies.values())
    }
    assert {arm.precision for arm in load_study("weights_x_latency").arms} == {"fp32"}


def test_the_sweep_is_fine_and_its_phase_is_drawn():
    study = load_study("latency_sweep")
    assert len(study.latencies) >= 12
    assert study.phase == "drawn"


@needs_libero
def test_an_arm_that_names_its_suites_runs_on_no_other():
    plan = make_plan(load_study("libero_reference", episodes=1))
    pairs = {(item.arm.policy, item.episode.task_id.partition("/")[0]) for item in plan.items}
    assert pairs == {
        (f"openvla-7b-libero-{name}", f"libero_{name}") for name in ("spatial", "object", "goal", "10")
    }
    everywhere = load_study("libero_reference")
    tables = [{**table.model_dump(), "suites": ()} for table in everywhere.arm]
    assert load_study("libero_reference", arm=tables).hash != everywhere.hash


def test_an_arm_in_two_tables_runs_where_either_says():
    tables = [{"policy": "noop", "suites": ["a"]}, {"policy": "noop", "suites": ["b"]}, {"policy": "random"}]
    study = load_study(arm=tables)
    noop, random = study.arms
    assert [study.runs(noop, suite) for suite in "abc"] == [True, True, False]
    assert study.runs(random, "c")
    assert load_study(policies=("noop",), arm=tables).runs(Arm("noop"), "c"), "it is crossed as well"
