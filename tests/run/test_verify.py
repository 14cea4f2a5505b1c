import dataclasses
import json
import re

import pytest
from support.runs import plan_of, run
from support.worlds import BRIDGE, vla_bench

from vla_bench.run.provenance import header_of
from vla_bench.run.records import Inferences, RecordWriter, compact, encode, read_run
from vla_bench.run.records.audit import audit, differences
from vla_bench.run.runner import run_plan
from vla_bench.run.session import begin_session
from vla_bench.run.verify import verify

STUDY = {"tasks": (BRIDGE,), "policies": ("random", "noop"), "episodes": 2, "budget": {"steps": 6}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four episodes in real time."""
    folder = tmp_path_factory.mktemp("verify") / "run"
    plan = plan_of(**STUDY, pacings=("realtime",), latencies=("constant:130ms",))
    run_plan(plan, folder, header_of(plan, begin_session(plan, ["test"])))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy that may be damaged."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in finished.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(folder, change):
    """Write all records anew, each as `change` makes it; None leaves one out."""
    made = [change(record) for record in read_run(folder).records]
    (folder / "episodes-0.jsonl").write_bytes(b"".join(encode(record) for record in made if record))


def check(folder, sample=0):
    return verify(folder, sample=sample, command=["test"])


def test_a_run_that_was_left_alone_holds_and_comes_out_the_same(folder):
    before = contents(folder)
    verdict = check(folder, sample=3)
    assert (verdict.lines, verdict.replayed, verdict.same, verdict.findings) == (4, 3, 3, ())
    assert contents(folder) == before
    compact(folder)
    assert check(folder).findings == ()


def test_a_sample_larger_than_the_run_plays_all_of_it(folder):
    assert check(folder, sample=100).replayed == 4


def test_a_changed_outcome_with_a_right_checksum_is_found_by_playing(folder):
    rewrite(folder, lambda record: dataclasses.replace(record, path_length_m=0.5))
    assert check(folder).findings == (), "nothing but the simulation knows better"
    verdict = check(folder, sample=1)
    assert (verdict.replayed, verdict.same) == (1, 0)
    assert len(verdict.findings) == 1
    assert "came out differently: path_length_m: 0.5, then " in verdict.findings[0]


def test_a_changed_line_is_found_by_its_checksum_whatever_was_compacted(folder):
    compact(folder)
    path = folder / "episodes-0.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"status":"failure"', b'"status":"success"', 1))
    verdict = check(folder)
    assert any("episodes-0.jsonl:1: is damaged (its checksum does not match)" in f for f in verdict.findings)
    assert any("1 of 4 planned episodes have no record" in finding for finding in verdict.findings)
    assert any("Parquet files are not current" in remark for remark in verdict.remarks)


def test_records_that_were_left_out_or_put_in_are_found(folder):
    left = [True, False, True, True]
    rewrite(folder, lambda record: record if left.pop() else None)
    with RecordWriter(folder) as writer:
        writer.append(dataclasses.replace(read_run(folder).records[0], key="0" * 16))
    findings = check(folder).findings
    assert len(findings) == 2
    assert "1 records are of no planned episode" in findings[0]
    assert "1 of 4 planned episodes have no record" in findings[1]


def test_a_record_under_the_key_of_another_is_found(folder):
    rewrite(folder, lambda r: dataclasses.replace(r, policy="noop", seed=1) if r.seed == 0 else r)
    assert sum("has the key of" in finding for finding in check(folder).findings) == 2


def test_an_episode_that_was_played_twice_differently_is_found(folder):
    record = read_run(folder).records[0]
    with RecordWriter(folder, "again") as writer:
        writer.append(dataclasses.replace(record, wall_s=9.0, worker="again"))
    verdict = check(folder)
    assert verdict.findings == (), "twice alike is twice the same"
    assert any("1 records are superseded" in remark for remark in verdict.remarks)
    with RecordWriter(folder, "again") as writer:
        writer.append(dataclasses.replace(record, ticks=1))
    assert any("played twice, differently: ticks: " in finding for finding in check(folder).findings)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda header: header["study"].update(episodes=3), "has hash .* one of them was changed"),
        (lambda header: header["study"].update(unheard_of=1), "cannot be planned here: .*unheard_of"),
        (lambda header: header.update(plan_hash="0" * 64), "plan is .* here and was 00000000"),
    ],
)
def test_a_header_that_was_changed_is_found(folder, change, finding):
    header = json.loads((folder / "run.json").read_text())
    change(header)
    (folder / "run.json").write_text(json.dumps(header))
    verdict = check(folder, sample=1)
    assert verdict.replayed == 0
    (found,) = verdict.findings
    assert re.search(finding, found)


def test_another_fingerprint_is_said_beside_the_replay(folder):
    rewrite(folder, lambda record: dataclasses.replace(record, fingerprint="mujoco0-numba-0"))
    verdict = check(folder, sample=1)
    assert any("cannot be expected to be equal" in remark for remark in verdict.remarks)
    assert verdict.same == 1


def test_episodes_whose_delays_cannot_be_repeated_are_not_played(tmp_path):
    plan = plan_of(**STUDY, latencies=("zero", "live"), pacings=("realtime",))
    run(plan, tmp_path / "run")
    verdict = check(tmp_path / "run", sample=8)
    assert verdict.replayed == 4
    assert any("latency live cannot come out the same" in remark for remark in verdict.remarks)


def test_latencies_that_were_measured_are_played_again_as_they_were(tmp_path):
    plan = plan_of(**STUDY, latencies=("measured",), pacings=("realtime",))
    run(plan, tmp_path / "run")
    verdict = check(tmp_path / "run", sample=2)
    assert (verdict.replayed, verdict.same) == (2, 2)


def test_delays_belong_to_the_episode_and_measured_phases_to_the_machine(folder):
    record = read_run(folder).records[0]
    columns = dataclasses.asdict(record.inferences)
    slower = {**columns, "inference_ms": [x + 1 for x in columns["inference_ms"]]}
    assert differences(record, dataclasses.replace(record, inferences=Inferences(**slower))) == []
    staler = {**columns, "staleness_ms": [*columns["staleness_ms"][:-1], 99.0]}
    (said,) = differences(record, dataclasses.replace(record, inferences=Inferences(**staler)))
    assert said.startswith(f"staleness_ms of inference {len(columns['staleness_ms']) - 1}: ")
    (said,) = differences(record, dataclasses.replace(record, inferences=Inferences()))
    assert said == f"inferences: {len(columns['inference_ms'])}, then 0"


def test_a_torn_line_is_no_finding(folder):
    with (folder / "episodes-0.jsonl").open("ab") as file:
        file.write(b'{"checksum":"')
    checked = audit(folder)
    assert checked.findings == ()
    assert "torn" in checked.remarks[0]


def test_the_command_says_what_is_wrong_and_fails(folder):
    good = vla_bench("verify", folder, "--sample", "1")
    assert good.returncode == 0, good.stderr
    assert "4 lines read, 1 of 1 replays are the same" in good.stdout
    assert "nothing is wrong" in good.stdout
    rewrite(folder, lambda record: dataclasses.replace(record, steps=5))
    bad = vla_bench("verify", folder, "--sample", "1", "--json")
    assert bad.returncode == 1
    assert "steps: 5, then 6" in json.loads(bad.stdout)["findings"][0]
