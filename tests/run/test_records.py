import dataclasses
import json
import os
import resource
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.any_records import records
from support.records import STUDY_HASH, make_header, make_record, make_session, write_run

from vla_bench.errors import DataError, MissingDataError, VlaBenchError
from vla_bench.run.records import (
    ErrorInfo,
    ExpertRate,
    Inferences,
    Record,
    RecordWriter,
    compact,
    decode,
    done_keys,
    encode,
    open_run,
    read_header,
    read_run,
)
from vla_bench.run.records.reader import statuses
from vla_bench.run.records.writer import check_run


@given(records())
def test_a_record_survives_its_line(record):
    line = encode(record)
    assert decode(line) == record
    assert line.count(b"\n") == 1
    assert json.loads(line)["task_id"] == record.task_id, (
        "other tools read the line without knowing checksums"
    )


@given(records(), st.data())
def test_a_damaged_line_never_passes(record, data):
    line = encode(record)
    at = data.draw(st.integers(0, len(line) - 2))
    damaged = bytearray(line)
    damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        decode(bytes(damaged))


@given(st.lists(records(), min_size=1, max_size=3, unique_by=lambda r: r.key), st.data())
def test_a_file_cut_anywhere_keeps_its_complete_lines(tmp_path_factory, made, data):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, made)
    path = folder / "episodes-0.jsonl"
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    complete = content[:cut].count(b"\n")
    run = read_run(folder)
    assert {r.key for r in run.records} == {r.key for r in made[:complete]}
    assert len(run.problems) == (cut != 0 and content[cut - 1 : cut] != b"\n")
    with RecordWriter(folder) as writer:
        for record in made[complete:]:
            writer.append(record)
    assert path.read_bytes() == content, "continuing after a torn line gives the undisturbed file"


def test_numpy_values_are_plain_values():
    record = make_record(
        score=np.float32(0.5), steps=np.int64(7), success_last=np.True_, drawn={"pos": np.arange(3.0)}
    )
    assert decode(encode(record)) == make_record(score=0.5, steps=7, drawn={"pos": [0.0, 1.0, 2.0]})


def test_values_that_are_not_finite_become_null_or_are_refused():
    read = decode(encode(make_record(jerk_m_s3=np.nan, command_hz=np.inf, drawn={"a": [1.0, -np.inf]})))
    assert (read.jerk_m_s3, read.command_hz, read.drawn) == (None, None, {"a": [1.0, None]})
    with pytest.raises(VlaBenchError, match="s/t#init0 with p,fp32,blocking,zero cannot be recorded: score"):
        encode(make_record(score=float("nan")))
    with pytest.raises(VlaBenchError, match=r"inferences\.inference_ms\.1"):
        encode(make_record(inferences=Inferences(inference_ms=(1.0, float("nan")))))
    with pytest.raises(VlaBenchError, match="not JSON serializable"):
        encode(make_record(drawn={"a": object()}))


def test_undecodable_text_is_recorded():
    assert decode(encode(make_record(instruction="a\udcff"))).instruction == "a\\udcff"


@pytest.mark.parametrize(
    ("status", "fields", "message"),
    [
        ("success", {"seed": 3}, "exactly one of seed = 3 and init_state = 0"),
        ("success", {"success_any": False}, "success_any = False"),
        ("success", {"cause": "horizon"}, "failures have one"),
        ("failure", {"cause": None}, "failures have one"),
        ("error", {"error": None}, "one belongs to the other"),
        ("failure", {"error": ErrorInfo("E", "m")}, "one belongs to the other"),
    ],
)
def test_records_that_contradict_themselves_cannot_be_made(status, fields, message):
    with pytest.raises(ValueError, match=message):
        make_record(status, **fields)


def test_columns_of_inferences_have_one_length():
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        Inferences(preprocess_ms=(1.0,), inference_ms=(1.0, 2.0))
    assert Inferences((1.0, 2.0), (10.0, 20.0)).latencies_ms().tolist() == [11.0, 22.0]
    assert Inferences().latencies_ms().tolist() == []


def test_reading_sorts_whoever_wrote(tmp_path):
    made = [
        make_record(policy=policy, task=f"t{task}", index=index, worker=str((task + index) % 2))
        for task in (0, 2, 10) for index in (0, 9, 10) for policy in ("a", "b")
    ]  # fmt: skip
    run = read_run(write_run(tmp_path / "run", reversed(made)))
    assert run.records == tuple(made)
    assert (run.problems, run.superseded) == ((), 0)


def test_a_damaged_middle_line_is_reported_with_file_and_line_and_the_rest_kept(tmp_path):
    made = [make_record(index=i) for i in range(3)]
    folder = write_run(tmp_path / "run", made)
    path = folder / "episodes-0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"steps":20', b'"steps":21') + b"\xff\n" + lines[2])
    run = read_run(folder)
    assert run.records == (made[0], made[2])
    assert [problem.split(": ")[0] for problem in run.problems] == [
        "episodes-0.jsonl:2",
        "episodes-0.jsonl:3",
    ]
    assert done_keys(folder) == {made[0].key, made[2].key}


def test_the_first_complete_record_of_an_item_counts(tmp_path):
    failed, worked, again = make_record("error"), make_record("success"), make_record("failure")
    folder = write_run(tmp_path / "run", [failed])
    assert done_keys(folder) == set(), "an item that ended in an error runs again"
    with RecordWriter(folder, "1") as writer:
        for record in (failed, worked, again):
            writer.append(record)
    run = read_run(folder)
    assert (run.records, run.superseded) == ((worked,), 3)
    assert done_keys(folder) == {worked.key}


def test_records_of_another_study_are_not_counted(tmp_path):
    folder = write_run(
        tmp_path / "run", [make_record(), dataclasses.replace(make_record(index=1), study_hash="e" * 64)]
    )
    run = read_run(folder)
    assert len(run.records) == 1
    assert "belongs to study eeeeeeee" in run.problems[0]


def test_other_schemas_are_refused_with_a_sentence(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    path = folder / "episodes-0.jsonl"
    newer = {**json.loads(encode(make_record())), "schema_version": 2}
    del newer["checksum"]
    body = json.dumps(newer).encode()
    path.write_bytes(path.read_bytes() + b'{"checksum":"%08x",%b\n' % (zlib.crc32(body), body[1:]))
    with pytest.raises(DataError, match=r"episodes-0\.jsonl:2: .*schema version 2, .*reads 1; update"):
        read_run(folder)
    header = json.loads((folder / "run.json").read_text())
    for version, advice in ((2, "update vla-bench"), (0, "run its study again"), (None, "no vla-bench")):
        (folder / "run.json").write_text(json.dumps({**header, "schema_version": version}))
        with pytest.raises(VlaBenchError, match=f"schema version {version}, .*{advice}"):
            read_run(folder)


def test_headers_of_before_certificates_are_read(tmp_path):
    made = [make_record()]
    certificates = {"s/t|": ExpertRate(n=10, successes=9)}
    folder = write_run(tmp_path / "run", made, certificates=certificates, published={"s/t": "a task"})
    read = read_header(folder)
    assert (read.certificates, read.published) == (certificates, {"s/t": "a task"})
    table = json.loads((folder / "run.json").read_text())
    del table["certificates"], table["published"]
    (folder / "run.json").write_text(json.dumps(table))
    older = read_header(folder)
    assert (older.certificates, older.published) == ({}, {})


def test_a_certificate_cannot_hold_more_successes_than_episodes(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    table = json.loads((folder / "run.json").read_text())
    table["certificates"] = {"s/t|": {"n": 2, "successes": 3}}
    (folder / "run.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match="3 successes of 2 episodes"):
        read_header(folder)


def test_folders_without_a_run_are_said_to_be_none(tmp_path):
    with pytest.raises(MissingDataError, match="is not a results folder"):
        read_run(tmp_path)
    assert done_keys(tmp_path) == set()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        read_run(tmp_path)


def test_continuing_a_run_keeps_everything_and_adds_the_session(tmp_path):
    made = [make_record()]
    folder = write_run(tmp_path / "run", made)
    later = make_session(started_at="2026-01-02T00:00:00+00:00", versions={"numpy": "9"})
    written = open_run(folder, make_header(made, session=later))
    assert read_header(folder) == written
    assert written.sessions == (make_session(), later)
    assert read_run(folder).records == tuple(made)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"study_hash": "e" * 64}, "results of another study .x-55555555, this is x-eeeeeeee"),
        ({"plan_hash": "2" * 64}, "a suite changed since"),
        ({"session": make_session(fingerprint="f2")}, "fingerprint f1, this machine has f2"),
    ],
)
def test_what_does_not_belong_into_a_folder_is_refused_and_nothing_changes(tmp_path, fields, message):
    folder = write_run(tmp_path / "run", [make_record()])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(VlaBenchError, match=message):
        open_run(folder, make_header([make_record()], **fields))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_is_looked_at_before_a_run_without_being_touched(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    header = read_header(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert check_run(folder, "x", header.study_hash, header.plan_hash) == header
    assert check_run(tmp_path / "new" / "run", "x", header.study_hash, header.plan_hash) is None
    for hashes, message in [
        (("e" * 64, header.plan_hash), "another study .* its file or its flags changed since"),
        ((header.study_hash, "2" * 64), "a suite changed since"),
    ]:
        with pytest.raises(VlaBenchError, match=message):
            check_run(folder, "x", *hashes)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_the_status_that_counts_is_found_with_and_without_compaction(tmp_path):
    made = [make_record("error", index=0), make_record(index=0), make_record("failure", index=1),
            make_record("error", index=2)]  # fmt: skip
    folder = write_run(tmp_path / "run", made)
    expected = {made[1].key: "success", made[2].key: "failure", made[3].key: "error"}
    assert statuses(folder) == expected
    compact(folder)
    with RecordWriter(folder) as writer:
        writer.append(make_record("failure", index=2))
    assert statuses(folder) == expected | {made[3].key: "failure"}
    assert done_keys(folder) == set(expected)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(VlaBenchError, match="holds files, but no run"):
        open_run(tmp_path, make_header())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_places_that_cannot_be_written_are_said_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(VlaBenchError, match="cannot hold results: Not a directory"):
        open_run(tmp_path / "file" / "run", make_header())
    with pytest.raises(VlaBenchError, match="cannot be written: No such file"):
        RecordWriter(tmp_path / "absent")
    with pytest.raises(VlaBenchError, match="a worker's name"):
        RecordWriter(tmp_path, "../0")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_is_said_in_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(VlaBenchError, match="Permission denied"):
        open_run(tmp_path / "run", make_header())


def test_a_record_that_does_not_fit_on_the_disk_leaves_the_others_intact(tmp_path):
    made = [make_record(index=i) for i in range(3)]
    folder = write_run(tmp_path / "run", made[:2])
    path = folder / "episodes-0.jsonl"
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordWriter(folder) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        try:
            with pytest.raises(VlaBenchError, match=r"File too large; all records before it are intact"):
                writer.append(made[2])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        writer.append(made[2])
    assert read_run(folder).records == tuple(made)


def test_a_second_writer_of_the_same_file_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    with RecordWriter(folder), pytest.raises(VlaBenchError, match="another process is writing"):
        RecordWriter(folder)
    RecordWriter(folder).close()


def test_a_killed_writer_leaves_every_record_it_appended(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    script = (
        "import os, sys\n"
        "from support.records import make_record\n"
        "from vla_bench.run.records import RecordWriter\n"
        "writer = RecordWriter(sys.argv[1], 'b')\n"
        "for i in range(1, 6): writer.append(make_record(index=i))\n"
        'os.write(writer._file, b\'{"checksum":"\'); os.kill(os.getpid(), 9)\n'
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, "-c", script, str(folder)], env=environment, check=False)
    assert ended.returncode == -9
    run = read_run(folder)
    assert [record.init_state for record in run.records] == list(range(6))
    assert run.problems == (
        "episodes-b.jsonl:6: the last line is torn and was dropped; its episode runs again",
    )


def test_a_record_knows_its_arm_and_episode():
    record = make_record(policy="q", precision="bf16", index=4)
    assert record.arm.key == "q,bf16,blocking,zero"
    assert record.episode.key == "s/t#init4"
    assert (record.budget, record.study_hash) == ("steps:20", STUDY_HASH)
    assert {field.name for field in dataclasses.fields(Record)} >= {
        "schema_version", "task_axis", "split", "variation", "drawn", "pacing", "latency", "fingerprint",
    }  # fmt: skip
