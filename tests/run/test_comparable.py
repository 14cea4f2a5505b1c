import re

import pytest
from support.records import make_header, make_record, make_session, write_run

from vla_bench.run.records import Assets, incomparable, read_header


def headers(*sessions):
    return [make_header(session=make_session(**fields)) for fields in sessions]


def test_runs_of_one_kind_are_comparable():
    assert incomparable(headers({}, {"device": "another", "git_commit": "d" * 40})) == []
    assert incomparable([]) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"fingerprint": "f1"}, {"fingerprint": "f2"}, "fingerprints differ"),
        ({"fingerprint": "f1-a"}, {"fingerprint": "f1-b"}, "fingerprints differ"),
        (
            {"versions": {"mujoco": "3.3.7"}},
            {"versions": {"mujoco": "3.3.6"}},
            "3.3.7 .* and 3.3.6",
        ),
        (
            {"checkpoints": {"p": {"a.safetensors": "1" * 64}}},
            {"checkpoints": {"p": {"a.safetensors": "2" * 64}}},
            "file p: a.safetensors of a checkpoint is 111111111111 .* and 222222222222",
        ),
        (
            {"assets": Assets(stand_ins=("a",))},
            {"assets": Assets()},
            "stand-ins .*: 1 in x.*, 0 in x",
        ),
    ],
)
def test_a_difference_that_changes_results_is_said(one, other, expected):
    (sentence,) = incomparable(headers(one, other))

    assert re.search(expected, sentence)
    assert len(incomparable(headers(other, one, one))) == 1


def test_a_run_in_which_nothing_looked_is_compared_by_its_physics():
    assert incomparable(headers({"fingerprint": "f1"}, {"fingerprint": "f1-pixels"})) == []
    assert len(incomparable(headers({"fingerprint": "f1"}, {"fingerprint": "f2-pixels"}))) == 1


def test_what_only_one_side_has_is_no_difference():
    sides = {
        "versions": {"torch": "2"},
        "checkpoints": {"p": {"a": "1" * 64}},
        "assets": Assets(stand_ins=("a",)),
    }
    assert incomparable(headers(sides, {"versions": {}})) == []


def test_sessions_of_one_run_are_compared_too(tmp_path):
    header = make_header()
    other = make_session(versions={"numpy": "1"})
    header = header.model_copy(update={"sessions": (*header.sessions, other)})
    (sentence,) = incomparable([header])
    assert sentence.startswith("numpy is 2.4.6")


def test_headers_of_before_checkpoints_and_drivers_are_read(tmp_path):
    folder = write_run(tmp_path / "run", [make_record()])
    text = (folder / "run.json").read_text()
    old = "\n".join(line for line in text.splitlines() if "driver" not in line and "checkpoints" not in line)
    old = old.replace('"loaded": [],', '"loaded": []')
    (folder / "run.json").write_text(old)
    session = read_header(folder).sessions[0]
    assert (session.driver, session.checkpoints) == (None, {})
