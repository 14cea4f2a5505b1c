import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.boards import STATUS, board_of, certificate, records_of
from support.records import make_header, make_record

from vla_bench.account.assembly import assemble
from vla_bench.account.boards import Tally, factors_of
from vla_bench.account.cells import REFERENCE
from vla_bench.account.rollups import (
    by_composition,
    by_factor,
    by_factor_axis,
    by_group,
    by_task_axis,
    drops,
    uneven_axes,
)
from vla_bench.run.records import Run
from vla_bench.types import Arm


def cells(rollup, policy="p"):
    """{place: {column: (successes, n)}} of one policy."""
    return {
        line.place: {c: (tally.successes, tally.n) for c, tally in line.cells.items() if tally.n}
        for line in rollup.lines
        if line.arm.policy == policy
    }


def test_a_variation_is_read_as_factors_at_levels():
    assert factors_of("") == ()
    assert factors_of("visual.fog@3+physical.mass@2") == (("visual.fog", 3), ("physical.mass", 2))


def test_task_axes_pool_the_unvaried_episodes_of_their_tasks():
    board = board_of(records_of(letters="ssf"), records_of("visual.fog@1", letters="fff"))
    rollup = by_task_axis([board])
    assert rollup.columns == ("visual", "motion"), "axes that no task tests have no column"
    assert cells(rollup) == {"s": {"visual": (4, 6), "motion": (2, 3)}}


def test_suites_without_task_axes_have_no_line():
    board = board_of([make_record()])
    assert by_task_axis([board]).lines == ()


def test_groups_and_splits_of_a_suite_that_tells_its_tasks_apart_are_pooled():
    made = [
        make_record(status, task=task, index=i, task_group=group, split=split)
        for task, group, split in (("t0", "narrow", "id"), ("t1", "narrow", "ood"), ("t2", "narrow", "ood"))
        for i, status in enumerate(("success", "failure"))
    ]
    plain = board_of(records_of(suite="plain"), suite="plain")
    rollup = by_group([board_of(made), plain])
    assert rollup.columns == ("narrow id", "narrow ood")
    assert cells(rollup) == {"s": {"narrow id": (1, 2), "narrow ood": (2, 4)}}, "plain tells nothing apart"


def test_level_0_is_the_unvaried_episodes_of_the_tasks_that_the_factor_varied():
    board = board_of(
        records_of(tasks=("t0",), letters="ss"),
        records_of(tasks=("t1",), letters="ff"),
        records_of("visual.fog@2", tasks=("t0",)),
        records_of("visual.blur@2", tasks=("t0", "t1")),
    )
    assert cells(by_factor([board])) == {
        "visual.blur": {"0": (2, 4), "2": (2, 4)},
        "visual.fog": {"0": (2, 2), "2": (1, 2)},
    }


def test_factors_stand_in_canonical_order_and_levels_ascend():
    names = ("language.synonyms@4", "visual.fog@2", "motion.relocation@1", "visual.blur@5", "visual.fog@1")
    rollup = by_factor([board_of(*(records_of(name) for name in names))])
    assert [line.place for line in rollup.lines] == [
        "visual.blur", "visual.fog", "motion.relocation", "language.synonyms"
    ]  # fmt: skip
    assert rollup.columns == ("1", "2", "4", "5"), "level 0 was not run"


def test_an_axis_pools_its_factors_and_counts_an_unvaried_episode_once():
    board = board_of(
        records_of(), records_of("visual.fog@1", letters="ss"), records_of("visual.blur@1", letters="ff")
    )
    assert cells(by_factor_axis([board])) == {"visual": {"0": (3, 6), "1": (6, 12)}}
    assert uneven_axes([board]) == []


def test_axes_whose_factors_were_run_on_different_tasks_are_named():
    board = board_of(
        records_of("visual.fog@1"), records_of("visual.blur@1", tasks=("t0",)), records_of("physical.mass@1")
    )
    assert uneven_axes([board]) == ["visual"]


def test_compositions_stand_apart_beside_the_unvaried_episodes_of_their_tasks():
    both = "visual.fog@3+physical.mass@2"
    board = board_of(records_of(), records_of(both, tasks=("t2",), letters="ff"))
    assert cells(by_composition([board])) == {both: {"unvaried": (1, 2), "varied": (0, 2)}}
    assert by_factor([board]).lines == ()


def test_errors_drop_a_pair_only_under_the_variation_where_they_happened():
    fog = [
        *records_of("visual.fog@1", policy="p", letters="ss"),
        *records_of("visual.fog@1", policy="q", letters="es"),
    ]
    plain = [*records_of(policy="p", letters="ss"), *records_of(policy="q", letters="ss")]
    lines = {line.arm.policy: line.cells for line in by_factor([board_of(plain, fog)]).lines}
    tasks = frozenset(f"s/t{i}" for i in range(3))
    assert lines["p"]["0"] == Tally(6, 6, 0, 0, tasks)
    assert lines["p"]["1"] == Tally(3, 3, 0, 3, tasks)
    assert lines["q"]["1"] == Tally(3, 3, 3, 0, tasks)


def test_several_suites_are_not_pooled():
    boards = [board_of(records_of("visual.fog@1", suite=name), suite=name) for name in ("a", "b")]
    assert list(cells(by_factor(boards))) == ["visual.fog, a", "visual.fog, b"]
    assert list(cells(by_factor_axis(boards))) == ["visual, a", "visual, b"]


def test_the_reference_counts_where_each_task_has_a_certificate():
    certificates = certificate(("t0", "t1", "t2")) | certificate(("t0", "t1"), "visual.fog@2")
    board = board_of(records_of(), records_of("visual.fog@2"), certificates=certificates)
    rolled = cells(by_factor([board]), REFERENCE.policy)
    assert rolled == {"visual.fog": {"0": (27, 30)}}, "t2 is not certified under fog"
    assert cells(by_task_axis([board]), REFERENCE.policy) == {"s": {"visual": (18, 20), "motion": (9, 10)}}
    assert [line.arm.policy for line in by_factor([board]).lines] == ["p", REFERENCE.policy]


def test_an_axis_has_its_reference_only_where_every_factor_has_one():
    certificates = certificate(("t0",), "visual.fog@1") | certificate(("t0",), "visual.fog@2")
    certificates |= certificate(("t0",), "visual.blur@2", successes=5)
    made = [records_of(f"visual.{f}@{level}", tasks=("t0",)) for f in ("fog", "blur") for level in (1, 2)]
    rolled = cells(by_factor_axis([board_of(*made, certificates=certificates)]), REFERENCE.policy)
    assert rolled == {"visual": {"2": (14, 20)}}


def test_without_certificates_there_is_no_reference():
    board = board_of(records_of(), records_of("visual.fog@2"))
    for rollup in (by_task_axis([board]), by_factor_axis([board]), by_factor([board])):
        assert {line.arm for line in rollup.lines} == {Arm("p")}


def test_drops_pair_each_episode_with_itself_unvaried():
    board = board_of(records_of(letters="ssfe"), records_of("visual.fog@2", letters="fssse"))
    (drop,) = drops([board], 0.95)
    assert drop.result is not None
    assert (drop.place, drop.result.n) == ("visual.fog@2", 9), "the fourth has no partner that counts"
    assert (drop.result.first_only, drop.result.second_only, drop.result.difference) == (3, 3, 0.0)


def test_drops_are_corrected_over_the_variations_of_an_arm():
    varied = [records_of(f"visual.fog@{level}", letters="ffff") for level in (1, 2)]
    both = records_of("visual.fog@1+physical.mass@1", letters="ssff")
    found = drops([board_of(records_of(letters="ssss"), *varied, both)], 0.95)
    assert [drop.place for drop in found] == [
        "visual.fog@1", "visual.fog@2", "visual.fog@1+physical.mass@1"
    ]  # fmt: skip
    p = [0.5**11, 0.5**11, 0.5**5]
    assert [drop.p_holm for drop in found] == pytest.approx([3 * p[0], 3 * p[0], p[2]])


def test_without_unvaried_episodes_there_are_no_drops():
    assert drops([board_of(records_of("visual.fog@1"))], 0.95) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("sfe")), max_size=25))
def test_levels_of_a_factor_hold_every_episode_once(episodes):
    made = [
        make_record(STATUS[letter], task=f"t{task}", index=i, variation=f"visual.fog@{level}")
        for i, (task, level, letter) in enumerate(episodes)
    ]
    rollup = by_factor([board_of(made)])
    totals = [line.total for line in rollup.lines]
    assert sum(total.n + total.errors + total.dropped for total in totals) == len(episodes)
    assert sum(total.successes for total in totals) == sum(letter == "s" for *_, letter in episodes)


def test_the_time_of_assembling_grows_no_faster_than_the_records(tmp_path):
    def run_of(episodes):
        made = tuple(
            make_record(("success", "failure")[i % 2], policy=policy, task=f"t{task}", index=i,
                        variation=variation, task_axis="visual")
            for policy in "pq" for task in range(5) for i in range(episodes)
            for variation in ("", "visual.fog@1", "visual.fog@2", "visual.blur@1")
        )  # fmt: skip
        return Run(tmp_path, make_header(made), made, (), 0)

    few, many = run_of(10), run_of(80)
    assemble(few)  # imports
    seconds = {id(run): [] for run in (few, many)}
    for _ in range(5):
        for run in (few, many):
            before = time.perf_counter()
            assemble(run)
            seconds[id(run)].append(time.perf_counter() - before)
    assert min(seconds[id(many)]) < 2 * 8 * min(seconds[id(few)])
