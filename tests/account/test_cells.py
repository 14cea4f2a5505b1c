import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.boards import suite_of
from support.records import make_record

from vla_bench.account.cells import REFERENCE, by_task, certified, outcomes, summarise
from vla_bench.run.records import ExpertRate, Inferences
from vla_bench.types import Arm

STATUSES = st.sampled_from(["success", "failure", "error", "absent"])


def summary(found, variation=""):
    return summarise("s", variation, found, by_task(found), 0.95)


def cells_of(table):
    found = outcomes(suite_of(table), [Arm(policy) for policy in table])
    return {cell.arm.policy: cell for cell in summary(found)[0]}


def test_an_error_drops_the_episode_from_every_arm():
    cells = cells_of({"a": "ssfs", "b": "esff", "c": "fsse"})
    assert {p: (c.successes, c.n, c.errors, c.dropped) for p, c in cells.items()} == {
        "a": (1, 2, 0, 2),
        "b": (1, 2, 1, 1),
        "c": (2, 2, 1, 1),
    }


def test_bounds_count_all_sound_episodes_of_an_arm_and_its_errors_both_ways():
    cell = cells_of({"a": "ssfs", "b": "esff"})["b"]
    assert cell.bounds is not None
    assert (cell.bounds.low, cell.bounds.high) == (1 / 4, 2 / 4)


def test_an_arm_that_only_errs_takes_nothing_from_the_others():
    cells = cells_of({"a": "ssf", "b": "eee"})
    assert (cells["a"].successes, cells["a"].n, cells["a"].dropped) == (2, 3, 0)
    assert (cells["b"].n, cells["b"].errors, cells["b"].rate, cells["b"].interval) == (0, 3, None, None)


def test_a_missing_record_is_no_failure_and_drops_nothing():
    cells = cells_of({"a": "ssf", "b": "s  "})
    assert (cells["a"].n, cells["b"].n, cells["b"].successes) == (3, 1, 1)


@given(st.lists(st.tuples(*[STATUSES] * 3), max_size=12))
def test_every_record_is_counted_dropped_or_an_error_once(rows):
    policies = ("a", "b", "c")
    records = [
        make_record(status, policy=policy, task=f"t{i % 2}", index=i)
        for i, row in enumerate(rows)
        for policy, status in zip(policies, row, strict=True)
        if status != "absent"
    ]
    found = outcomes(records, [Arm(policy) for policy in policies])
    for arm, own in found.items():
        mine = [record for record in records if record.arm == arm]
        sorted_out = [*own.counted.values(), *own.dropped, *own.errors]
        assert sorted(r.key for r in sorted_out) == sorted(r.key for r in mine)
    of_suite, of_tasks = summary(found)
    for position, cell in enumerate(of_suite):
        parts = [task_cells[position] for task_cells in of_tasks.values()]
        for quantity in ("n", "successes", "errors", "dropped"):
            assert sum(getattr(part, quantity) for part in parts) == getattr(cell, quantity)
        assert all(part.arm == cell.arm for part in parts)


def test_tasks_come_in_the_order_of_their_suite():
    records = [make_record(task=f"t{i}") for i in (10, 2, 0)]
    assert list(by_task(outcomes(records, []))) == ["s/t0", "s/t2", "s/t10"]


def test_frequencies_are_pooled_over_calls_and_seconds():
    slow = Inferences(preprocess_ms=(10.0,), inference_ms=(80.0,), postprocess_ms=(10.0,))
    fast = Inferences(inference_ms=(20.0, 20.0, 20.0))
    records = [
        make_record(index=0, inferences=slow, command_hz=2.0, task_s=30.0),
        make_record(index=1, inferences=fast, command_hz=8.0, task_s=10.0),
        make_record(index=2, inferences=Inferences(), command_hz=None),
    ]
    (cell,) = summary(outcomes(records, []))[0]
    assert cell.policy_hz == pytest.approx(50.0), "the median call takes 20 ms"
    assert cell.command_hz == pytest.approx(3.5), "140 commands in 40 s"
    silent = [dataclasses.replace(records[2])]
    (cell,) = summary(outcomes(silent, []))[0]
    assert (cell.policy_hz, cell.command_hz) == (None, None)


def test_cells_of_varied_places_say_the_variation():
    found = outcomes([make_record(variation="visual.fog@3")], [])
    (of_suite,), of_tasks = summary(found, "visual.fog@3")
    assert of_suite.place == "s with visual.fog@3"
    assert {task: cell.place for task, (cell,) in of_tasks.items()} == {"s/t": "s/t with visual.fog@3"}


def test_a_certificate_is_a_cell_without_frequencies():
    cell = certified("s/t", ExpertRate(n=10, successes=9), 0.95)
    assert (cell.arm, cell.rate, cell.policy_hz, cell.bounds) == (REFERENCE, 0.9, None, None)
    assert cell.interval is not None
    assert cell.interval.low < 0.9 < cell.interval.high
