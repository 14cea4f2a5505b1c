import csv
import os
import subprocess
import sys

import pytest
from support.records import make_record, make_session, write_run
from support.worlds import ROOT

from vla_bench.account.report import write_report
from vla_bench.errors import MissingDataError, VlaBenchError
from vla_bench.run.records import Assets, ExpertRate, LatencyUsed, RecordWriter


def runs_of(policies, *, suites=("libero_object",), tasks=2, episodes=5):
    """Records where the first policy always succeeds, and the others never."""
    return [
        make_record(
            "success" if policy == policies[0] else "failure",
            policy=policy, suite=suite, task=f"t{task}", index=i, worker=str(i % 2),
        )
        for suite in suites for task in range(tasks) for i in range(episodes) for policy in policies
    ]  # fmt: skip


def read_csv(folder, name):
    with (folder / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_comparison_holds_counts_rates_and_intervals_by_suite_and_task(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("expert", "noop")))
    report = write_report(folder)
    names = {path.relative_to(folder).as_posix() for path in report.files}
    assert {name for name in names if name.startswith("tables/")} == {
        f"tables/{name}.{ending}"
        for name in ("comparison", "comparison_pairs", "comparison_tasks")
        for ending in ("md", "csv", "tex")
    }
    assert {"report.md", "report.tex", "figures/posteriors.pdf", "figures/suite_bars.csv"} <= names
    assert all(path.stat().st_size > 0 for path in report.files)
    expert, noop = read_csv(folder, "comparison")
    assert (expert["policy"], expert["successes"], expert["n"], expert["rate"]) == (
        "expert",
        "10",
        "10",
        "1.0",
    )
    assert (noop["successes"], noop["low"]) == ("0", "0.0")
    assert float(expert["low"]) == pytest.approx(1 - float(noop["high"]))
    by_task = read_csv(folder, "comparison_tasks")
    assert [(row["task"], row["policy"], row["n"]) for row in by_task] == [
        (f"libero_object/t{task}", policy, "5") for task in (0, 1) for policy in ("expert", "noop")
    ]
    (pair,) = read_csv(folder, "comparison_pairs")
    assert (pair["pairs"], pair["first_only"], float(pair["p"])) == ("10", "10", pytest.approx(2 * 0.5**10))
    text = report.text(100)
    for phrase in ("10/10", "100.0", "72.2–100.0", "expert *", "command Hz", "libero_object/t1"):
        assert phrase in text


def test_the_same_records_give_the_same_bytes_whoever_wrote_them_in_whatever_order(tmp_path):
    made = runs_of(("expert", "random", "noop"), suites=("b", "a"))
    one = write_report(write_run(tmp_path / "one", made))
    for worker, record in enumerate(made):
        object.__setattr__(record, "worker", str(worker % 3))
    header = {
        "arms": tuple(dict.fromkeys(record.arm for record in made)),
        "study": {"suites": ["b", "a"], "statistics": {"confidence": 0.95}},
    }
    other = write_report(write_run(tmp_path / "other", reversed(made), **header))
    for first, second in zip(one.files, other.files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    before = [path.read_bytes() for path in one.files]
    assert [path.read_bytes() for path in write_report(tmp_path / "one").files] == before


def test_suites_stand_in_the_order_of_the_study(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("p",), suites=("z", "a")))
    write_report(folder)
    assert [row["suite"] for row in read_csv(folder, "comparison")] == ["z", "a"]


def test_one_arm_is_compared_with_nothing(tmp_path):
    report = write_report(write_run(tmp_path / "run", runs_of(("p",))))
    assert [table.name for table in report.tables] == ["comparison", "comparison_tasks"]


def test_an_unfinished_run_says_how_far_it_is(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("p",)), planned=40)
    assert (
        "10 of 40 planned episodes are recorded; the same run command continues."
        in write_report(folder).header
    )


def test_a_run_without_any_record_has_a_report(tmp_path):
    folder = write_run(tmp_path / "run", [], planned=3)
    report = write_report(folder)
    assert "0 of 3 planned episodes are recorded; the same run command continues." in report.header
    assert read_csv(folder, "comparison") == []


def test_stand_in_assets_are_said_in_every_document(tmp_path):
    assets = Assets(stand_ins=("scenes/a.msh", "b.png"), missing=("c.png",))
    folder = write_run(tmp_path / "run", runs_of(("p",)), session=make_session(assets=assets))
    report = write_report(folder)
    sentence = "2 asset files are stand-ins"
    assert sentence in report.text(300)
    assert "no visual policy can be scored" in report.text(300)
    for path in report.files:
        if path.suffix in (".md", ".tex"):
            assert sentence in path.read_text()
    complete = write_run(tmp_path / "complete", runs_of(("p",)), session=make_session(assets=Assets()))
    assert "stand-in" not in write_report(complete).text(300).lower()


def test_the_header_says_versions_machine_and_fingerprint(tmp_path):
    session = make_session(git_dirty=True, gl_renderer="OSMesa 8")
    text = write_report(write_run(tmp_path / "run", runs_of(("p",)), session=session)).text(300)
    for phrase in (
        "x-55555555", "commit cccccccccccc with uncommitted changes", "mujoco 3.3.7", "Python 3.11.0",
        "policies on a processor", "GL renderer OSMesa 8", "fingerprint f1",
    ):  # fmt: skip
        assert phrase in text


def test_the_header_says_what_a_robot_did_while_it_waited_and_what_cannot_be_repeated(tmp_path):
    timing = {
        "stale": {"bridge_base": "goal"},
        "latencies": {"live": LatencyUsed(deterministic=False), "zero": LatencyUsed()},
    }
    text = write_report(write_run(tmp_path / "run", runs_of(("p",)), **timing)).text(300)
    assert "the robot of bridge_base keeps its last goal (stale = 'goal')" in text
    assert "NOT REPRODUCIBLE: latency live is what inference took" in text
    blocking = write_report(write_run(tmp_path / "blocking", runs_of(("p",)))).text(300)
    assert "stale" not in blocking
    assert "NOT REPRODUCIBLE" not in blocking


def test_a_session_under_other_versions_is_said(tmp_path):
    made = runs_of(("p",))
    folder = write_run(tmp_path / "run", made)
    write_run(folder, [], session=make_session(versions={"mujoco": "3.3.8", "numpy": "2.4.6"}), planned=10)
    header = write_report(folder).header
    (line,) = [line for line in header if "other conditions" in line]
    assert "mujoco: 3.3.7 before, 3.3.8 then" in line
    assert "numpy" not in line


def test_errors_are_listed_and_their_cells_bounded(tmp_path):
    made = runs_of(("expert", "noop"))
    made[1] = make_record("error", policy="noop", suite="libero_object", task="t0", index=0)
    folder = write_run(tmp_path / "run", made)
    report = write_report(folder)
    assert "1 errors of noop,fp32,blocking,zero: RuntimeError: it broke" in report.header
    expert, noop = read_csv(folder, "comparison")
    assert (expert["n"], expert["dropped"], noop["errors"]) == ("9", "1", "1")
    assert (noop["low_errors_fail"], noop["high_errors_succeed"]) == ("0.0", "0.1")
    assert "bounds %" in (folder / "tables" / "comparison.md").read_text()


def test_damage_is_reported(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("p",)))
    with (folder / "episodes-0.jsonl").open("ab") as file:
        file.write(b"torn")
    assert any("episodes-0.jsonl:" in line and "torn" in line for line in write_report(folder).header)


def test_fingerprints_that_differ_are_said(tmp_path):
    made = [make_record(index=i, fingerprint=f"f{i}") for i in range(2)]
    assert any("2 fingerprints (f0, f1)" in line for line in write_report(write_run(tmp_path, made)).header)


def test_columns_that_vary_are_shown_and_others_are_in_the_caption(tmp_path):
    one = write_report(write_run(tmp_path / "one", runs_of(("p", "q"))))
    assert "chunk" not in one.tables[0].header
    assert "all arms: pacing blocking, latency zero" in one.tables[0].caption[0]
    made = [make_record(precision=p, chunk_executed=c) for p in ("bf16", "fp32") for c in (4, 8)]
    two = write_report(write_run(tmp_path / "two", made))
    assert two.tables[0].header[:4] == ("suite", "policy", "precision", "chunk")


def test_hard_names_reach_the_documents_escaped(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("a|b & 50%_{$#~^\\", "q")))
    report = write_report(folder)
    assert (
        r"a\textbar{}b \& 50\%\_\{\$\#\textasciitilde{}\textasciicircum{}\textbackslash{}"
        in (folder / "tables" / "comparison.tex").read_text()
    )
    assert r"a\|b \& 50%\_{\$#\~^\\" in (folder / "tables" / "comparison.md").read_text()
    assert "a|b & 50%_{$#~^\\ *" in report.text(200)


def test_folders_that_hold_no_run_or_cannot_be_written_are_said(tmp_path):
    with pytest.raises(MissingDataError, match="is not a results folder"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "run", runs_of(("p",)))
    (folder / "tables" / "comparison.md").mkdir(parents=True)
    with pytest.raises(VlaBenchError, match=r"comparison\.md cannot be written"):
        write_report(folder)


def test_a_report_can_be_made_while_the_run_writes(tmp_path):
    folder = write_run(tmp_path / "run", runs_of(("p",)), planned=11)
    with RecordWriter(folder, "0") as writer:
        assert "10 of 11" in write_report(folder).header[1]
        writer.append(make_record(policy="p", suite="libero_object", task="t9"))
        assert write_report(folder).header[1] == "11 of 11 planned episodes are recorded."


def test_accounting_imports_no_simulator_and_no_model():
    heavy = (
        "mujoco", "gymnasium", "torch", "transformers", "vla_bench.sim", "vla_bench.policy", "scipy",
        "statsmodels", "pandas",
    )  # fmt: skip
    script = f"import sys, vla_bench.account.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_varied_episodes_never_enter_the_rate_of_the_unchanged_task(tmp_path):
    plain = [make_record("success", policy="a", index=i) for i in range(4)]
    varied = [make_record("failure", policy="a", index=i, variation="visual.fog@3") for i in range(4)]
    folder = write_run(tmp_path / "run", [*varied, *plain])
    write_report(folder)
    assert [(row["suite"], row["successes"]) for row in read_csv(folder, "comparison")] == [("s", "4")]
    assert [(row["task"], row["successes"]) for row in read_csv(folder, "comparison_tasks")] == [("s/t", "4")]
    (row,) = read_csv(folder, "variations")
    assert (row["suite"], row["successes"], row["n"]) == ("s with visual.fog@3", "0", "4")
    (row,) = read_csv(folder, "variations_tasks")
    assert (row["task"], row["successes"]) == ("s/t with visual.fog@3", "0")


def varied_run(folder, **header):
    """Two policies on two tasks of two axes, under factors at levels and a composition."""
    variations = ("", "visual.fog@2", "visual.fog@4", "visual.blur@2", "physical.mass@1",
                  "visual.fog@2+physical.mass@1")  # fmt: skip
    made = [
        make_record(
            "failure" if (i + len(variation)) % 3 == 0 or policy == "b" else "success",
            policy=policy, task=f"t{task}", index=i, variation=variation, task_axis=axis,
        )
        for policy in "ab" for task, axis in enumerate(("visual", "motion")) for i in range(4)
        for variation in variations
    ]  # fmt: skip
    return write_run(folder, made, **header)


def test_a_varied_run_has_rollups_and_curves_beside_the_comparison(tmp_path):
    report = write_report(varied_run(tmp_path / "run"))
    assert [table.name for table in report.tables] == [
        "comparison", "task_axes", "factor_axes", "factors", "compositions", "factor_drops",
        "axis_effects", "comparison_pairs", "comparison_tasks", "variations", "variations_pairs",
        "variations_tasks",
    ]  # fmt: skip
    names = {path.name for path in report.files}
    assert {
        "robustness_visual.pdf",
        "robustness_visual.png",
        "robustness_physical.pdf",
        "robustness_visual.csv",
    } <= names
    text = report.text(140)
    assert "Success by factor and level\n  policy" in text
    assert "Success by suite and variation: 10 rows, in variations.md" in text, "the factors' table says it"
    assert text.count("Errors are not failures") == 1, "what captions share is said once"


def test_long_tables_are_named_on_the_terminal_and_written_in_full(tmp_path):
    made = [make_record(task=f"t{i}") for i in range(200)]
    report = write_report(write_run(tmp_path / "run", made))
    assert "Success by task: 200 rows, in comparison_tasks.md" in report.text(100)
    assert len(read_csv(tmp_path / "run", "comparison_tasks")) == 200


def test_varied_runs_give_the_same_bytes_again_in_any_process(tmp_path):
    folder = varied_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in write_report(folder).files}
    script = f"from vla_bench.account.report import write_report; write_report({str(folder)!r})"
    style = tmp_path / "matplotlibrc"
    style.write_text("font.size: 21\npdf.fonttype: 3\n")
    environment = {**os.environ, "PYTHONHASHSEED": "1", "MATPLOTLIBRC": str(style)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=ROOT)
    assert {path: path.read_bytes() for path in before} == before


def test_runs_that_hold_only_varied_episodes_have_a_report(tmp_path):
    made = [make_record(variation="visual.fog@3", index=i) for i in range(3)]
    report = write_report(write_run(tmp_path / "run", made))
    assert [table.name for table in report.tables] == [
        "factor_axes", "factors", "variations", "variations_tasks",
    ]  # fmt: skip
    assert not any(path.name.startswith("robustness") for path in report.files), "one level is no curve"


def test_certificates_stand_below_the_arms_of_their_task(tmp_path):
    certificates = {f"s/t{task}|": ExpertRate(n=5, successes=4 + task) for task in (0, 1)}
    folder = varied_run(tmp_path / "run", certificates=certificates)
    report = write_report(folder)
    rows = [(row["task"], row["policy"], row["successes"]) for row in read_csv(folder, "comparison_tasks")]
    assert rows[2::3] == [
        ("s/t0", "scripted expert (certificate)", "4"), ("s/t1", "scripted expert (certificate)", "5")
    ]  # fmt: skip
    (table,) = [table for table in report.tables if table.name == "comparison_tasks"]
    assert any("no upper bound" in sentence for sentence in table.caption)
    (table,) = [table for table in report.tables if table.name == "comparison"]
    assert not any("upper bound" in sentence for sentence in table.caption)
