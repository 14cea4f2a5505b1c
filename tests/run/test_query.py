import csv
import io
import json
import sys

import pytest
from support.records import make_record, write_run
from support.worlds import vla_bench

from vla_bench.errors import MissingCapabilityError, MissingDataError, VlaBenchError
from vla_bench.run.records import Inferences, RecordWriter, compact
from vla_bench.run.records.query import Answer, find_runs, query

pytest.importorskip("duckdb", reason="the extra 'query' is not installed")

MADE = [
    make_record("success", policy="a", inferences=Inferences(inference_ms=(10.0, 30.0))),
    make_record("failure", policy="a", index=1, inferences=Inferences()),
    make_record("error", policy="a", index=2, inferences=Inferences()),
    make_record("failure", policy="b"),
]
RATES = (
    "select policy, avg(success) as rate, count(*) - count(success) as errors from episodes "
    "group by 1 order by 1"
)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("state", ["lines", "compacted", "appended"])
def test_an_answer_is_the_same_whatever_was_compacted_and_nothing_is_written(tmp_path, state):
    folder = write_run(tmp_path / "run", MADE[: 2 if state == "appended" else 4])
    if state != "lines":
        compact(folder)
    if state == "appended":
        with RecordWriter(folder) as writer:
            for record in MADE[2:]:
                writer.append(record)
    before = contents(folder)
    answer = query(RATES, [folder])
    assert answer == Answer(("policy", "rate", "errors"), (("a", 0.5, 1), ("b", 0.0, 0)))
    assert contents(folder) == before


def test_a_folder_that_cannot_be_written_is_read(tmp_path):
    folder = write_run(tmp_path / "run", MADE)
    folder.chmod(0o500)
    try:
        assert query("select count(*) from episodes", [folder]).rows == ((4,),)
    finally:
        folder.chmod(0o700)


def test_runs_episodes_and_inferences_are_joined_by_run_and_key(tmp_path):
    folders = [write_run(tmp_path / name / "run", MADE[:k]) for name, k in (("x", 1), ("y", 4))]
    sql = (
        "select run, planned, count(distinct key), sum(inference_ms) from runs join episodes using (run) "
        "join inferences using (run, key) group by all order by 2"
    )
    assert query(sql, folders).rows == (
        (str(folders[0]), 1, 1, 40.0),
        (str(folders[1]), 4, 2, 240.0),
    ), "folders of one name are called by their paths"
    assert query("select distinct run from episodes", folders[:1]).rows == (("run",),)


def test_superseded_records_are_not_in_the_views(tmp_path):
    folder = write_run(tmp_path / "run", [make_record("error"), make_record("success")])
    assert query("select status, row from episodes", [folder]).rows == (("success", 1),)
    assert query("select distinct row from inferences", [folder]).rows == ((1,),)


def test_a_name_that_no_row_has_is_no_error(tmp_path):
    folder = write_run(tmp_path / "it's a run [1]*", MADE)
    assert query("select * from episodes where policy = 'nobody'", [folder]).rows == ()
    assert query("select distinct run from runs", [folder]).rows == (("it's a run [1]*",),)
    assert query("select * from steps", [folder]).rows == ()


def test_columns_of_one_name_are_told_apart(tmp_path):
    folder = write_run(tmp_path / "run", MADE)
    assert query("select 1 as x, 2 as x, 3 as x", [folder]).names == ("x", "x_1", "x_2")


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{secret}')", "select * from '{secret}'", "select * from glob('{folder}/*')",
        "copy episodes to '{folder}/out.csv'", "attach '{folder}/x.db'", "install httpfs", "load httpfs",
        "set enable_external_access = true", "reset enable_external_access", "drop view episodes",
        "create table t as select 1", "select 1; drop view episodes", "", "select * from nothing", "selec 1",
        "pragma database_list", "export database '{folder}'",
    ],
)  # fmt: skip
def test_a_statement_sees_and_changes_nothing_but_the_runs(tmp_path, sql):
    folder = write_run(tmp_path / "run", MADE)
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    before = contents(folder)
    with pytest.raises(VlaBenchError):
        query(sql.format(secret=secret, folder=folder), [folder])
    assert contents(folder) == before
    assert secret.read_text() == "a,b\n1,2\n"


def test_without_duckdb_the_way_to_get_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingCapabilityError, match=r"pip install 'vla-bench\[query\]'"):
        query("select 1", [])


def test_runs_are_found_below_a_folder(tmp_path):
    with pytest.raises(MissingDataError, match="holds no run"):
        find_runs(tmp_path)
    folders = [write_run(tmp_path / name, MADE[:1]) for name in ("b", "a/c")]
    assert find_runs(tmp_path) == sorted(folders)


def test_the_command_prints_a_table_json_or_csv(tmp_path):
    write_run(tmp_path / "results" / "one", MADE)
    expected = [{"policy": "a", "rate": 0.5, "errors": 1}, {"policy": "b", "rate": 0.0, "errors": 0}]
    printed = vla_bench("query", RATES, cwd=tmp_path)
    assert printed.stdout.split() == ["policy", "rate", "errors", "a", "0.5", "1", "b", "0.0", "0"]
    assert json.loads(vla_bench("query", RATES, "--json", cwd=tmp_path).stdout) == expected
    rows = list(csv.reader(io.StringIO(vla_bench("query", RATES, "--csv", cwd=tmp_path).stdout)))
    assert rows == [["policy", "rate", "errors"], ["a", "0.5", "1"], ["b", "0.0", "0"]]
    refused = vla_bench("query", "select nothing from episodes", "--folder", "results/one", cwd=tmp_path)
    assert refused.returncode == 2
    assert "nothing" in refused.stderr
    assert "Traceback" not in refused.stderr
