import dataclasses

from support.records import make_header, make_record, write_run

from vla_bench.account.assembly import assemble
from vla_bench.account.provenance import caveat_lines
from vla_bench.run.records import Decided, Run, note_decisions, read_run
from vla_bench.types import Arm

MADE = Decided(
    suite="s", variation="", better=Arm("good"), worse=Arm("bad"), wins=12, losses=0, pairs=12, episodes=12,
    planned=20, p_value=0.001, level=0.05,
)  # fmt: skip


def records_of(count):
    outcomes = {"good": "success", "bad": "failure"}
    return [make_record(outcomes[p], policy=p, index=i) for i in range(count) for p in outcomes]


def table_of(run, name):
    return next((table for table in assemble(run).tables if table.name == name), None)


def test_what_a_run_decided_is_kept_with_it_and_told(tmp_path):
    folder = write_run(tmp_path / "run", records_of(12))
    assert table_of(read_run(folder), "decided") is None
    note_decisions(folder, [MADE], [])
    run = read_run(folder)
    assert run.header.decided == (MADE,)
    table = table_of(run, "decided")
    assert table is not None
    (row,) = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert (row["better"], row["worse"]) == ("good fp32", "bad fp32")
    assert (row["wins"], row["losses"], row["pairs"], row["episodes"]) == ("12", "0", "12", "12/20")
    assert "do not hold after stopping" in " ".join(table.caption)


def test_records_that_were_not_needed_are_not_counted_and_said(tmp_path):
    records = records_of(13)
    folder = write_run(tmp_path / "run", records)
    note_decisions(folder, [MADE], [record.key for record in records[-2:]])
    run = read_run(folder)
    table = table_of(run, "comparison")
    assert table is not None
    assert [row[table.numbers_header.index("n")] for row in table.numbers] == [12, 12]
    assert any("2 records are of episodes that were not needed" in line for line in caveat_lines(run))


def test_an_arm_that_is_limited_to_suites_has_no_row_on_others():
    records = [make_record(policy=p, suite=s) for p, s in (("all", "s"), ("all", "z"), ("one", "z"))]
    header = make_header(records)

    def places(study):
        run = Run(None, header.model_copy(update={"study": study}), tuple(records), (), 0)  # type: ignore[arg-type]
        table = table_of(run, "comparison")
        assert table is not None
        return {(row[0], row[1]) for row in table.numbers}

    assert ("s", "one") in places(header.study)
    limited = {**header.study, "arm": [{"policy": "all"}, {"policy": "one", "suites": ["z"]}]}
    assert places(limited) == {("s", "all"), ("z", "all"), ("z", "one")}


def test_a_drop_with_errors_is_marked():
    records = [
        make_record("error" if v and i == 0 else "success", index=i, variation=v)
        for v in ("", "visual.fog@2")
        for i in range(4)
    ]
    clean = [
        record
        if record.status != "error"
        else dataclasses.replace(record, status="success", success_any=True, error=None)
        for record in records
    ]
    for made, pairs in ((records, "3 †"), (clean, "4")):
        run = Run(None, make_header(made), tuple(made), (), 0)  # type: ignore[arg-type]
        table = table_of(run, "factor_drops")
        assert table is not None
        assert [row[table.header.index("pairs")] for row in table.rows] == [pairs]
