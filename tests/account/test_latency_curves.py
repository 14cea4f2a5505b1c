"""Success against latency: which records make a curve, and what is said of it."""

import pytest
from support.timed import MS, counted, of, record_of

from vla_bench.account import latency_curves
from vla_bench.account.figures import write_figure

FALLING = {("fp32", name): "s" * k + "f" * (10 - k) for name, k in zip(MS, (10, 10, 8, 5, 1, 0), strict=True)}


def halves(made, name="latency_half"):
    (table,) = (table for table in latency_curves.tables(made) if table.name == name)
    return table


def test_a_curve_has_a_point_a_latency_and_half_success(tmp_path):
    made = counted(tmp_path, FALLING)
    (figure, by_task) = latency_curves.figures(made)
    points = [(row[4], row[5], row[6]) for row in figure.rows]
    assert points == [(0, 10, 10), (50, 10, 10), (100, 8, 10), (200, 5, 10), (400, 1, 10), (800, 0, 10)]
    assert by_task.name == "latency_curves_s_tasks"
    row = dict(zip(halves(made).numbers_header, halves(made).numbers[0], strict=True))
    assert row["l50_ms"] == pytest.approx(200)
    assert row["low_ms"] <= 200 <= row["high_ms"]


def test_no_claim_is_made_where_too_little_succeeds_without_latency(tmp_path):
    weak = counted(tmp_path / "weak", dict.fromkeys(FALLING, "ssffffffff"))
    assert "no claim: rate at zero latency is 20.0 % (2/10)" in halves(weak).rows[0]
    without = {cell: own for cell, own in FALLING.items() if cell[1] != "zero"}
    assert "no claim: zero latency was not run" in halves(counted(tmp_path / "without", without)).rows[0]


def test_a_rate_of_three_in_ten_is_enough(tmp_path):
    assert halves(counted(tmp_path, dict.fromkeys(FALLING, "sssfffffff"))).rows[0][-2] == "> 800"


def test_still_and_moving_targets_and_tasks_have_their_own_curves(tmp_path):
    records = [
        record_of(
            "failure" if task == "t1" and ms > 150 else "success", "fp32", latency, task=task, index=i
        )
        for latency, ms in MS.items() for task in ("t0", "t1") for i in range(3)
    ]  # fmt: skip
    made = of(tmp_path, records, moving=("s/t1|",))
    assert [row[0] for row in halves(made).rows] == ["s, still targets", "s, moving targets"]
    assert [row[-2] for row in halves(made).rows] == ["> 800", "150"]
    by_task = halves(made, "latency_half_tasks")
    assert by_task.detail
    assert [row[0] for row in by_task.rows] == ["s/t0, still targets", "s/t1, moving targets"]


def test_a_run_that_does_not_say_what_moves_is_one_curve(tmp_path):
    assert [row[0] for row in halves(counted(tmp_path, FALLING, moving=None)).rows] == ["s"]


def test_few_latencies_are_no_curve(tmp_path):
    few = dict(list(FALLING.items())[:3])
    assert not list(latency_curves.tables(counted(tmp_path, few)))
    assert not list(latency_curves.figures(counted(tmp_path / "again", few)))


def test_precisions_and_pacings_have_their_own_lines(tmp_path):
    records = [
        record_of("success", precision, latency, pacing=pacing)
        for latency in MS
        for precision, pacing in (("fp32", "realtime"), ("bf16", "realtime"), ("fp32", "blocking"))
    ]  # fmt: skip
    assert len(halves(of(tmp_path, records)).rows) == 3


def test_the_files_of_a_figure_are_the_same_bytes_again(tmp_path):
    figure = next(latency_curves.figures(counted(tmp_path / "run", FALLING)))
    made = []
    for name in "ab":
        (tmp_path / name).mkdir()
        made.append([path.read_bytes() for path in write_figure(figure, tmp_path / name)])
    assert made[0] == made[1]
