import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.runs import timeless
from support.worlds import (
    BRIDGE,
    ROOT,
    STACKED,
    command_line,
    environment,
    needs_libero,
    vla_bench,
    write_policy,
    write_suite,
    write_task,
)

from vla_bench import __version__, catalog, cli
from vla_bench.run.records import read_run

STUDY = ["--task", BRIDGE, "--policy", "noop,random"]
SMALL = [*STUDY, "--episodes", "2", "--budget", "steps:2"]
LONGER = [*STUDY, "--episodes", "15", "--budget", "steps:20"]


@pytest.fixture
def call(monkeypatch, capfd):
    """Run `vla-bench …` in this process; returns exit code, output and errors."""
    before = set(os.environ)

    def calling(*arguments):
        monkeypatch.setattr(sys, "argv", ["vla-bench", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        told = capfd.readouterr()
        return code, told.out, told.err

    yield calling
    for name in os.environ.keys() - before:  # --tasks-dir sets one for worker processes
        del os.environ[name]


# ── what it prints ─────────────────────────────────────────────────────────────────────────────────────


def test_help_and_version(call):
    assert call("--version") == (0, f"{__version__}\n", "")
    code, out, _ = call("--help")
    assert code == 0
    for command in ("list", "plan", "run", "report", "bench", "assets", "doctor"):
        assert command in out


@pytest.mark.parametrize("kind", ["suites", "tasks", "policies", "studies"])
def test_lists_are_for_people_and_for_programs(call, kind):
    code, out, err = call("list", kind, "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert rows
    code, table, _ = call("list", kind)
    assert code == 0
    name = next(iter(rows[0]))
    assert all(str(row[name]) in table for row in rows)


def test_a_plan_is_printed_and_nothing_runs(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("plan", *SMALL, "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "")
    assert [item["arm"]["policy"] for item in plan["items"]] == ["noop", "random"] * 2
    assert {item["episode"]["task_id"] for item in plan["items"]} == {BRIDGE}
    code, out, _ = call("plan", *SMALL)
    assert "4 episodes to run" in out
    assert list(tmp_path.iterdir()) == []


@needs_libero
def test_the_state_of_liberos_data_is_printed(call):
    code, out, _ = call("assets", "libero", "--check", "--json")
    assert code == 0
    assert {"root", "missing", "standins", "altered", "digest"} == set(json.loads(out))
    assert str(catalog.libero_root()) in call("assets", "libero", "--check")[1]


def test_a_reader_that_goes_away_is_no_error():
    pipe = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$0" -m vla_bench.cli list tasks | head -n 1', sys.executable],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (pipe.returncode, pipe.stderr) == (0, "")


# ── what it refuses ────────────────────────────────────────────────────────────────────────────────────

PLAN = ["plan", "--task", BRIDGE, "--policy", "noop"]
REFUSED = {
    "kind": (["list", "suite"], "unknown kind of thing 'suite'; did you mean 'suites'"),
    "axis": (["list", "tasks", "--task-axis", "visul"], "unknown task axis 'visul'; did you mean 'visual'"),
    "suite": (["plan", "--suite", "brigde_base", "--policy", "noop"], "did you mean 'bridge_base'"),
    "task": (
        ["plan", "--task", "bridge_base/lift_carrot", "--policy", "noop"],
        "'bridge_base/lift_the_carrot'",
    ),
    "policy": (["plan", "--task", BRIDGE, "--policy", "nop"], "unknown policy 'nop'; did you mean 'noop'"),
    "precision": ([*PLAN, "--precision", "int3"], "policy 'noop' runs at fp32, not at 'int3'"),
    "pacing": ([*PLAN, "--pacing", "blokcing"], "unknown pacing 'blokcing'; did you mean 'blocking'"),
    "budget": ([*PLAN, "--budget", "10"], "--budget 10: expected steps:N, time:S, or both joined by +"),
    "budget twice": ([*PLAN, "--budget", "steps:1+steps:2"], "--budget steps:1+steps:2: expected steps:N"),
    "number": ([*PLAN, "--budget", "steps:ten"], "--budget steps:ten: expected steps:N"),
    "study": (["run", "quik"], "unknown study 'quik'; did you mean 'quick'"),
    "study's file": (["run", "none.toml"], "none.toml: no such file"),
    "nothing": (["run", "--policy", "noop"], "it names no suite and no task"),
    "no policy": (["run", "--suite", "bridge_base"], "it names no policy"),
    "folder": (["report", "/nonexistent"], "/nonexistent is not a results folder: it holds no run.json"),
    "tracker": (["run", *STUDY, "--track", "wandbb"], "unknown tracker 'wandbb'; did you mean 'wandb'"),
    "no Ray": (
        ["run", *STUDY, "--executor", "ray", "--address", "127.0.0.1:1"],
        "no Ray cluster answers at 127.0.0.1:1",
    ),
    "workers": (["run", *STUDY, "--workers", "100000"], "100000 workers need about 35000.0 GB of memory"),
    "no folder": (
        ["run", *STUDY, "--out", "/dev/null/run"],
        "/dev/null/run cannot hold results: Not a directory",
    ),
    "tasks": (["--tasks-dir", "/nonexistent", "list"], "/nonexistent, which is not a folder"),
    "bench": (["bench", "sim", "--task", "bridge_base/none"], "unknown task 'bridge_base/none'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_ends_in_one_sentence_and_code_2(call, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = REFUSED[case]
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("vla-bench: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_or_command_ends_in_code_2(call):
    for arguments in (["plan", "--polcy", "noop"], ["rnu"], ["run", "--episodes", "many"]):
        code, _, err = call(*arguments)
        assert code == 2
        assert arguments[-1] in err or arguments[0] in err


def test_whatever_is_wrong_with_a_study_is_said_at_once(call):
    code, _, err = call("plan", "--suite", "brigde", "--policy", "nop,random", "--pacing", "realtme")
    assert code == 2
    assert all(name in err for name in ("'brigde'", "'nop'", "'realtme'"))


# ── the line ───────────────────────────────────────────────────────────────────────────────────────────


def run(folder, *arguments, **settings):
    ended = vla_bench("run", *arguments, "--out", folder, **settings)
    assert ended.returncode == 0, ended.stderr
    return read_run(folder).records


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, *SMALL)
    return folder


def test_plan_run_report(call, finished):
    items = json.loads(call("plan", *SMALL, "--json")[1])["items"]
    records = read_run(finished).records
    assert sorted(record.key for record in records) == sorted(item["key"] for item in items)
    code, out, err = call("report", finished, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["tables"]
    code, out, _ = call("report", finished)
    assert code == 0
    assert "0/2" in out
    assert BRIDGE in out
    (told,) = [line for line in out.splitlines() if line.startswith(f"written to {finished}: ")]
    assert all(name in told for name in ("report.md", "report.tex", "tables/", "figures/"))
    assert {path.suffix for path in (finished / "tables").iterdir()} == {".md", ".csv", ".tex"}


def test_two_runs_differ_in_nothing_but_the_clock(finished, tmp_path):
    assert timeless(run(tmp_path / "again", *SMALL)) == timeless(read_run(finished).records)


def test_a_study_file_and_the_same_flags_are_the_same_run(tmp_path, finished):
    study = tmp_path / "mine.toml"
    study.write_text(
        f'tasks = ["{BRIDGE}"]\npolicies = ["noop", "random"]\nepisodes = 2\nbudget = {{ steps = 2 }}\n'
    )
    ended = vla_bench("run", study, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "results").iterdir()
    header = read_run(folder).header
    assert folder.name == f"mine-{header.study_hash[:8]}"
    assert header.study_hash == read_run(finished).header.study_hash
    assert f"vla-bench report {folder.relative_to(tmp_path)}" in ended.stdout
    assert timeless(read_run(folder).records) == timeless(read_run(finished).records)


def test_the_folder_of_another_study_is_refused(call, finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    code, _, err = call("run", *STUDY, "--episodes", 1, "--budget", "steps:2", "--out", finished)
    assert code == 2
    assert "holds results of another study" in err
    assert "choose another --out" in err
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


FOREIGN = {
    "newer schema": (
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        "run.json has schema version 2, this vla-bench reads 1; update vla-bench to read it",
    ),
    "older schema": (
        lambda text: text.replace('"schema_version": 1', '"schema_version": 0'),
        "run.json has schema version 0, this vla-bench reads 1; run its study again",
    ),
    "no schema": (lambda text: "[]", "run.json has schema version None, this vla-bench reads 1; no vla"),
    "damaged": (lambda text: text[:50], "run.json: cannot be read: "),
    "changed suite": (
        lambda text: re.sub(r'"plan_hash": "[^"]*"', '"plan_hash": "0"', text),
        "holds results of this study with other tasks, budgets or lengths: a suite changed since",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_folder_that_cannot_be_continued_is_refused_before_policies_and_nothing_is_overwritten(
    call, finished, tmp_path, case
):
    change, message = FOREIGN[case]
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "run.json").write_text(change((folder / "run.json").read_text()))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    code, out, err = call("run", *SMALL, "--out", folder)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_study_whose_file_changed_after_its_run_began_is_refused_in_its_folder(call, tmp_path):
    study, folder = tmp_path / "mine.toml", tmp_path / "run"
    text = f'tasks = ["{BRIDGE}"]\npolicies = ["noop"]\nepisodes = 1\nbudget = {{ steps = 1 }}\n'
    study.write_text(text)
    assert call("run", study, "--out", folder)[0] == 0
    study.write_text(text.replace("steps = 1", "steps = 2"))
    code, _, err = call("run", study, "--out", folder)
    assert code == 2
    assert "its file or its flags changed since); nothing was changed; choose another --out" in err
    assert err.count("\n") == 1
    assert len(read_run(folder).records) == 1


FRAGILE = """
import pathlib
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec()
    def __init__(self, card, precision): self.episodes = 0
    def reset(self, instruction, seed): self.episodes += 1
    def act(self, observations):
        if self.episodes == 2 and not pathlib.Path({healed!r}).exists():
            raise OSError("the server is gone")
        return ActionChunk(np.zeros((1, 7)))
"""


def test_errors_have_a_status_of_their_own_and_the_same_command_runs_them_again(tmp_path):
    healed, folder = tmp_path / "healed", tmp_path / "run"
    write_policy(tmp_path / "policies", "fragile", FRAGILE.format(healed=str(healed)))
    env = environment(tmp_path / "policies", **{catalog.POLICIES_DIR_VARIABLE: tmp_path / "policies"})
    arguments = [
        "run",
        "--task",
        BRIDGE,
        "--policy",
        "noop,fragile",
        "--episodes",
        "2",
        "--budget",
        "steps:2",
    ]
    ended = vla_bench(*arguments, "--out", folder, env=env)
    assert ended.returncode == 3, ended.stderr
    assert "1 errors; the same command runs those with errors again" in ended.stderr
    healed.touch()
    again = vla_bench(*arguments, "--out", folder, "--quiet", env=env)
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == f"{folder}: 4 of 4 episodes are recorded; 0 succeeded, 4 failed, 0 errors\n"
    assert {record.status for record in read_run(folder).records} == {"failure"}


def interrupted(folder, how, after=3):
    """Start a run, stop it when some records are written; returns its exit code and errors."""
    process = subprocess.Popen(
        command_line("run", *LONGER, "--out", folder), env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    records, deadline = folder / "episodes-0.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if records.read_bytes().count(b"\n") >= after:
                process.send_signal(how)
                break
        time.sleep(0.005)
    _, errors = process.communicate(timeout=60)
    return process.returncode, " ".join(errors.split())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return timeless(run(tmp_path_factory.mktemp("undisturbed") / "run", *LONGER))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_a_run_that_was_stopped_is_continued_by_the_same_command(tmp_path, undisturbed, how):
    folder = tmp_path / "run"
    code, errors = interrupted(folder, how)
    half = read_run(folder)
    assert 3 <= len(half.records) < len(undisturbed), "it was stopped on the way"
    assert half.problems == ()
    assert [row for row in undisturbed if row in timeless(half.records)] == timeless(half.records)
    assert code == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        assert "the same command continues" in errors
        assert "Traceback" not in errors
    assert timeless(run(folder, *LONGER)) == undisturbed
    whole = read_run(folder)
    assert (whole.superseded, whole.problems, len(whole.header.sessions)) == (0, (), 2)


def test_a_suite_of_ones_own_is_listed_and_run(tmp_path):
    folder = write_suite(tmp_path / "tasks", budget="{ steps = 4 }", more='task_axis = "motion"')
    write_task(folder / "put_it_there.bddl", init=STACKED)
    ended = vla_bench("--tasks-dir", tmp_path / "tasks", "list", "tasks", "--suite", "mine", "--json")
    assert json.loads(ended.stdout)[0]["task"] == "mine/put_it_there"
    options = ["--suite", "mine", "--policy", "noop", "--episodes", "2", "--out", tmp_path / "run"]
    ended = vla_bench("--tasks-dir", tmp_path / "tasks", "run", *options)
    assert ended.returncode == 0, ended.stderr
    records = read_run(tmp_path / "run").records
    assert [(r.task_id, r.task_axis, r.status) for r in records] == [
        ("mine/put_it_there", "motion", "success")
    ] * 2


WRONG = """
import numpy as np
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk

class Made:
    spec = PolicySpec()
    def __init__(self, card, precision): pass
    def reset(self, instruction, seed): pass
    def act(self, observations): return ActionChunk(np.zeros((1, 8)))
"""


def test_actions_of_a_wrong_shape_end_in_a_sentence_with_both_shapes_before_anything_runs(tmp_path):
    write_policy(tmp_path / "policies", "wrong", WRONG)
    env = environment(tmp_path / "policies", **{catalog.POLICIES_DIR_VARIABLE: tmp_path / "policies"})
    ended = vla_bench("run", "--task", BRIDGE, "--policy", "noop,wrong", "--out", tmp_path / "run", env=env)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("vla-bench: policy 'wrong': actions have shape (1, 8);")
    assert "shape (1, 7) is expected" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_the_commands_of_the_readme_exist(call):
    text = (ROOT / "README.md").read_text()
    commands = [line.split("#")[0].split()[1:] for line in text.splitlines() if line.startswith("vla-bench ")]
    assert commands
    for arguments in commands:
        words = [arguments[0]] + ([arguments[1]] if arguments[0] in ("bench", "assets") else [])
        assert call(*words, "--help")[0] == 0, words
