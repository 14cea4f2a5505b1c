import pytest
from support.records import make_record, write_run

from vla_bench.account.cells import by_task, outcomes, summarise
from vla_bench.account.counted import count
from vla_bench.account.pace import pace_of
from vla_bench.account.tables import pace
from vla_bench.run.records import Inferences, read_run
from vla_bench.types import Arm

LATE = Arm("p", "fp32", "realtime", "constant:500ms")


def late(index, status="success", **fields):
    """An episode of two seconds with two inferences of half a second each, in a suite that acts at 5 Hz."""
    inferences = Inferences(
        inference_ms=(1.0, 3.0), delay_ms=(500.0, 500.0), observed_ms=(0.0, 500.0),
        observation_age_ms=(500.0, 500.0), staleness_ms=(500.0, 300.0),
    )  # fmt: skip
    values = {
        "pacing": "realtime", "latency": "constant:500ms", "simulated_s": 2.0, "inferences": inferences,
        "jerk_m_s3": 1.0 + index, "steps": 2,
    }  # fmt: skip
    return make_record(status, index=index, **{**values, **fields})


def paced(records, period_s: float | None = 0.2):
    found = outcomes(records, [])
    (cells, _) = summarise("s", "", found, by_task(found), 0.95)
    return pace_of(cells[0], found[LATE], period_s)


def test_staleness_age_and_lateness_are_those_of_the_clock():
    made = paced([late(0), late(1, "failure")])
    # before the first answer .5 s, before the second .3, and after its action, which is fresh for .2 s, .8
    assert made.stale_share == pytest.approx(1.6 / 2)
    assert (made.age_p50_ms, made.age_p95_ms, made.delay_p95_ms) == (500.0, 500.0, 500.0)
    assert (made.late_share, made.success_s, made.score) == (1.0, 2.0, 0.5)
    assert made.jerk_m_s3 == 1.5
    assert made.cell.policy_hz == pytest.approx(500), "what was computed is another matter"


def test_a_robot_that_never_had_an_answer_was_stale_all_the_time():
    made = paced([late(0, "failure", inferences=Inferences(), steps=0)])
    assert made.stale_share == 1.0
    assert (made.age_p50_ms, made.late_share, made.success_s) == (None, None, None)


@pytest.mark.parametrize(("steps", "stale_s"), [(5, 1.6), (9, 0.8), (13, 0.7)])
def test_all_actions_of_the_last_chunk_are_fresh(steps, stale_s):
    # two chunks at .5 and 1.5 s; of the first 4 actions were executed, of the second those that are left
    chunks = Inferences(
        delay_ms=(500.0, 200.0), observed_ms=(0.0, 1300.0), observation_age_ms=(500.0, 200.0),
        staleness_ms=(500.0, 200.0),
    )  # fmt: skip
    made = late(0, inferences=chunks, steps=steps, simulated_s=2.6)
    assert paced([made]).stale_share == pytest.approx(stale_s / 2.6)


def test_without_a_period_nothing_is_late_and_nothing_stale_is_known():
    made = paced([late(0)], None)
    assert (made.late_share, made.stale_share) == (None, None)


def test_the_table_is_made_where_a_pacing_does_not_wait(tmp_path):
    waits = [make_record(index=i) for i in range(2)]
    assert list(pace.tables(count(read_run(write_run(tmp_path / "waits", waits))))) == []
    run = read_run(write_run(tmp_path / "both", [*waits, late(2), late(3)], periods_s={"s": 0.2}))
    (table,) = pace.tables(count(run))
    rows = [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
    assert [(row["pacing"], row["stale_share"], row["late_share"]) for row in rows] == [
        ("blocking", 0.0, None), ("realtime", 0.8, 1.0)
    ]  # fmt: skip
