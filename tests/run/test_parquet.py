import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.any_records import records
from support.records import make_record, write_run

from vla_bench.errors import MissingDataError, VlaBenchError
from vla_bench.run.records import (
    ErrorInfo,
    Inferences,
    RecordWriter,
    compact,
    decode,
    done_keys,
    encode,
    read_compaction,
    read_header,
    read_run,
)
from vla_bench.run.records import parquet as module

PARQUET = {"runs.parquet", "episodes.parquet", "inferences.parquet"}


def both(folder):
    """What the folder's lines alone say, and what they say with the compaction; the latter must be used."""
    hidden = [path.rename(path.with_suffix(".hidden")) for path in folder.glob("*.parquet")]
    lines = read_run(folder), done_keys(folder)
    for path in hidden:
        path.rename(path.with_suffix(".parquet"))
    return lines, (read_run(folder), done_keys(folder))


@given(st.lists(records(), max_size=5), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_compacted_folder_reads_as_its_lines(tmp_path_factory, made, split):
    folder = tmp_path_factory.mktemp("run")
    made = [dataclasses.replace(record, worker="ab"[i % 2]) for i, record in enumerate(made)]
    write_run(folder, made[:split])
    compact(folder)
    for record in made[split:]:
        with RecordWriter(folder, record.worker) as writer:
            writer.append(record)
    lines, compacted = both(folder)
    assert compacted == lines


def test_what_was_compacted_is_not_read_as_lines_again(tmp_path, monkeypatch):
    made = [make_record(index=i, policy=p) for i in range(3) for p in "ab"]
    folder = write_run(tmp_path / "run", made[:4])
    assert compact(folder).is_current(folder)
    decoded = []
    monkeypatch.setattr(
        "vla_bench.run.records.files.decode",
        lambda line: decoded.append(line) or decode(line),
    )
    assert read_run(folder).records == tuple(made[:4])
    assert decoded == []
    with RecordWriter(folder) as writer:
        writer.append(made[4])
    assert not read_compaction(folder).is_current(folder)
    assert read_run(folder).records == tuple(made[:5])
    assert done_keys(folder) == {record.key for record in made[:5]}
    assert decoded == [encode(made[4])] * 2, "only the newer line"


def test_damage_of_before_and_after_compaction_is_reported_with_file_and_line(tmp_path):
    made = [make_record(index=i) for i in range(4)]
    folder = write_run(tmp_path / "run", made)
    path = folder / "episodes-0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"steps":20', b'"steps":21')
    path.write_bytes(b"".join(lines) + b'{"checksum":"')
    compact(folder)
    before = read_run(folder)
    assert [problem.split(": ")[0] for problem in before.problems] == [
        "episodes-0.jsonl:2",
        "episodes-0.jsonl:5",
    ]
    lines[2] = lines[2].replace(b'"steps":20', b'"steps":22')
    path.write_bytes(b"".join(lines))
    after = read_run(folder)
    assert [problem.split(": ")[0] for problem in after.problems] == [
        "episodes-0.jsonl:2",
        "episodes-0.jsonl:3",
    ], "the lines are the truth, whatever was compacted"
    assert after.records == (made[0], made[3])


def test_superseded_records_are_the_same_ones_either_way(tmp_path):
    failed, worked, again = make_record("error"), make_record("success"), make_record("failure")
    folder = write_run(tmp_path / "run", [failed])
    with RecordWriter(folder, "1") as writer:
        for record in (failed, worked, again):
            writer.append(record)
    assert compact(folder).superseded == (0, 1, 3)
    lines, compacted = both(folder)
    assert compacted == lines
    assert (compacted[0].records, compacted[0].superseded) == ((worked,), 3)
    # a first record in an earlier file counts, also when it came after the compaction
    folder = write_run(tmp_path / "two", [dataclasses.replace(again, worker="1")])
    compact(folder)
    with RecordWriter(folder, "0") as writer:
        writer.append(worked)
    assert both(folder)[0] == both(folder)[1]
    assert read_run(folder).records == (worked,)


def test_a_file_of_lines_that_is_gone_takes_its_records_along(tmp_path):
    made = [make_record(index=i, worker=str(i)) for i in range(3)]
    folder = write_run(tmp_path / "run", made)
    compact(folder)
    (folder / "episodes-1.jsonl").unlink()
    assert both(folder)[0] == both(folder)[1]
    assert read_run(folder).records == (made[0], made[2])


@pytest.mark.parametrize("name", sorted(PARQUET))
def test_damaged_parquet_is_passed_over(tmp_path, name):
    folder = write_run(tmp_path / "run", [make_record(index=i) for i in range(50)])
    compact(folder)
    path = folder / name
    content = path.read_bytes()
    for at in range(4, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        lines, compacted = both(folder)
        assert compacted == lines
    path.write_bytes(content[: len(content) // 2])
    assert both(folder)[0] == both(folder)[1]


def test_parquet_files_of_different_compactions_are_not_used_together(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    compact(folder)
    old = (folder / "inferences.parquet").read_bytes()
    with RecordWriter(folder) as writer:
        writer.append(make_record(index=1))
    compact(folder)
    (folder / "inferences.parquet").write_bytes(old)
    assert read_compaction(folder) is None
    assert len(read_run(folder).records) == 2


def test_parquet_holds_one_row_a_record_a_call_and_a_run(tmp_path):
    calls = Inferences(inference_ms=(10.0, 20.0), staleness_ms=(0.0, 5.0))
    made = [
        make_record(inferences=calls, drawn={"x": [1, 2.5]}, stages=("reach", "lift")),
        make_record("failure", index=1, inferences=Inferences()),
        make_record("error", index=2, error=ErrorInfo("E", "m", "t"), inferences=Inferences()),
    ]
    folder = write_run(tmp_path / "run", made)
    compact(folder)
    assert {path.name for path in folder.glob("*.parquet")} == PARQUET
    rows = pq.read_table(folder / "episodes.parquet").to_pylist()
    assert [row["success"] for row in rows] == [1, 0, None], "an error is no failure"
    assert [row["calls"] for row in rows] == [2, 0, 0]
    assert json.loads(rows[0]["drawn"]) == {"x": [1, 2.5]}
    assert rows[0]["stages"] == ["reach", "lift"]
    assert rows[2]["error_message"] == "m"
    said = pq.read_table(folder / "inferences.parquet").to_pylist()
    assert [(row["row"], row["call"], row["inference_ms"], row["staleness_ms"]) for row in said] == [
        (0, 0, 10.0, 0.0),
        (0, 1, 20.0, 5.0),
    ]
    assert {row["preprocess_ms"] for row in said} == {None}
    assert {row["key"] for row in said} == {made[0].key}
    (run,) = pq.read_table(folder / "runs.parquet").to_pylist()
    assert (run["planned"], run["recorded"], run["fingerprint"]) == (3, 3, "f1")
    assert json.loads(run["header"]) == read_header(folder).model_dump(mode="json")


def test_compacting_many_records_takes_many_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    calls = [Inferences(inference_ms=tuple(map(float, range(i % 3)))) for i in range(11)]
    made = [make_record(index=i, inferences=calls[i]) for i in range(11)]
    folder = write_run(tmp_path / "run", made)
    compact(folder)
    assert pq.ParquetFile(folder / "episodes.parquet").num_row_groups == 3
    assert read_run(folder).records == tuple(made)


def test_compaction_goes_elsewhere_where_the_folder_cannot_be_written(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    compact(folder, into=tmp_path)
    assert {path.name for path in tmp_path.glob("*.parquet")} == PARQUET
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_compacted_is_said_in_a_sentence(tmp_path):
    with pytest.raises(MissingDataError, match="is not a results folder"):
        compact(tmp_path)
    folder = write_run(tmp_path / "run", [make_record()])
    with pytest.raises(VlaBenchError, match=r"cannot be compacted into .*absent: .*No such file"):
        compact(folder, into=tmp_path / "absent")
    with RecordWriter(folder) as writer:
        writer.append(make_record(index=1, steps=2**70))
    with pytest.raises(VlaBenchError, match="cannot be compacted"):
        compact(folder)
    assert not list(folder.glob(".*")), "drafts are gone"
