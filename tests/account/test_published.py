import csv
import io

import pytest
from support.boards import board_of, certificate, records_of
from support.mirrored import published_numbers
from support.runs import plan_of

from vla_bench.account.formats import to_csv
from vla_bench.account.tables.published import published_table
from vla_bench.run.provenance import describe_session, header_of


@pytest.fixture(scope="module")
def mirrored():
    plan = plan_of(suites=("bridge",), policies=("noop",), episodes=1)
    return header_of(plan, describe_session(["x"])).published


def stems(mirrored):
    return [task.partition("/")[2] for task in mirrored]


def test_the_twenty_files_of_bridge_mirror_exactly_the_papers_seventeen_tasks(mirrored):
    assert len(mirrored) == 20
    assert set(published_numbers("bridge")) == set(mirrored.values())
    assert len(published_numbers("bridge")) == 17


def test_the_rows_add_up_to_the_means_that_the_paper_prints():
    rows = published_numbers("bridge").values()
    trials = sum(task.n for task in rows)
    means = {
        policy: round(100 * sum(task.successes[policy] for task in rows) / trials, 1)
        for policy in ("RT-1-X", "Octo", "RT-2-X", "OpenVLA")
    }
    assert trials == 170
    assert means == {"RT-1-X": 18.5, "Octo": 20.0, "RT-2-X": 50.6, "OpenVLA": 70.6}


def test_the_table_has_the_papers_rows_and_pools_the_prompts_of_a_pair(mirrored):
    board = board_of(
        records_of(tasks=stems(mirrored), letters="sfs", suite="bridge"),
        records_of("visual.fog@2", tasks=stems(mirrored), letters="fff", suite="bridge"),
        suite="bridge",
    )
    table = published_table(board, mirrored, 0.95)
    assert table is not None
    assert len(table.rows) == 17 + 1
    rows = {row[1]: row[2:] for row in table.rows}
    assert rows["Flip Pot Upright"] == ("67 [21–94] 2/3", "2/10", "6/10", "5/10", "8/10")
    pair = rows["Put {Eggplant, Red Bottle} into Pot"]
    assert pair == ("67 [30–90] 4/6", "2.5/10", "4/10", "8.5/10", "7.5/10")
    assert rows["17 tasks"][0].endswith("40/60")
    assert rows["17 tasks"][-1] == "120/170"
    assert any("another world" in sentence for sentence in table.caption)


def test_a_suite_of_groups_has_a_row_for_each_of_them():
    names = {"s/t0": "flip_pot_upright_id", "s/t1": "cover_object_id", "s/t2": "cover_object_id"}
    board = board_of(records_of(tasks=["t0", "t1", "t2"], letters="sf", suite="franka"), suite="franka")
    mirrored = {task.replace("s/", "franka/"): name for task, name in names.items()}
    table = published_table(board, mirrored, 0.95)
    assert table is not None
    assert table.header[0] == "group"
    assert [(row[0], row[1], row[2].split()[-1]) for row in table.rows] == [
        ("narrow id", "Flip Pot Upright (ID)", "1/2"),
        ("diverse id", "Cover <object> with Towel (ID)", "2/4"),
        ("narrow id", "1 task", "1/2"), ("diverse id", "1 task", "2/4"), ("all", "2 tasks", "3/6"),
    ]  # fmt: skip


def test_ours_and_the_papers_numbers_are_marked_apart_in_the_csv(mirrored):
    board = board_of(records_of(tasks=["flip_pot_upright"], letters="s", suite="bridge"), suite="bridge")
    table = published_table(board, mirrored, 0.95)
    assert table is not None
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["world"] for row in rows if row["task"] == "Flip Pot Upright"] == [
        "simulation", *["published"] * 4
    ]  # fmt: skip
    assert [(row["low"] != "", row["high"] != "") for row in rows[:2]] == [(True, True), (False, False)]
    openvla = next(row for row in rows if row["policy"] == "OpenVLA")
    assert (openvla["successes"], openvla["n"], openvla["precision"]) == ("8.0", "10", "")


def test_only_tasks_that_ran_have_a_row(mirrored):
    board = board_of(records_of(tasks=["lift_eggplant"], suite="bridge"), suite="bridge")
    table = published_table(board, mirrored, 0.95)
    assert table is not None
    assert [row[1] for row in table.rows] == ["Lift Eggplant", "1 task"]


def test_the_expert_stands_between_where_it_is_certified(mirrored):
    board = board_of(
        records_of(tasks=stems(mirrored), suite="bridge"),
        suite="bridge",
        certificates=certificate(stems(mirrored)[:19], suite="bridge"),
    )
    table = published_table(board, mirrored, 0.95)
    assert table is not None
    assert table.header[3] == "scripted expert (certificate)"
    assert [row[3] for row in table.rows].count("-") == 2, "the task that lacks one, and all together"


@pytest.mark.parametrize("names", [{}, {"s/t0": "flip_pot_upright"}])
def test_suites_that_mirror_nothing_have_no_table(names):
    assert published_table(board_of(records_of()), names, 0.95) is None
