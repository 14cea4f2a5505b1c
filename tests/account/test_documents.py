import os
import shutil
import subprocess

import pytest
from support.records import make_record, write_run

from vla_bench.account.report import write_report
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import ErrorInfo, Inferences
from vla_bench.run.records.header import PublishedRate

HARD = ("a|b & 50%_{$#~^\\", "<script>alert(1)</script> $x^2$ 碗")


def hard_run(folder):
    """Names, errors and sources that every format would stumble over, in all kinds of tables."""
    broken = ErrorInfo("E\\x", "it <b>broke</b> 100% & \\input{x}")
    inferences = Inferences(inference_ms=(50.0,), delay_ms=(300.0,), observed_ms=(0.0,))
    made = [
        make_record(
            "error" if (policy, i, variation) == (HARD[0], 1, "") else "success" if i % 2 else "failure",
            policy=policy, suite="su_ite", task=f"t{task}", index=i, variation=variation, pacing="realtime",
            task_axis=("visual", "motion")[task], inferences=inferences,
            instruction="put <b>it</b> & $\\frac$ there",
            **({"error": broken} if (policy, i, variation) == (HARD[0], 1, "") else {}),
        )
        for variation in ("", "visual.fog@1", "visual.fog@3") for task in range(2) for i in range(4)
        for policy in HARD
    ]  # fmt: skip
    number = PublishedRate(suite="su_ite", metric="success_percent", value=60.0, source="A & B_{c} \\cite{x}")
    return write_run(folder, made, references={HARD[0]: (number,)}, periods_s={"su_ite": 0.2})


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_document_compiles_whatever_names_say(tmp_path):
    write_report(hard_run(tmp_path))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"], cwd=tmp_path,
        capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip
    assert done.returncode == 0, [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
    assert "Missing character" not in done.stdout


def test_the_documents_hold_every_table_and_figure(tmp_path):
    report = write_report(hard_run(tmp_path))
    text, source = (tmp_path / "report.md").read_text(), (tmp_path / "report.tex").read_text()
    for table in report.tables:
        assert f"\\input{{tables/{table.name}}}" in source
        assert (tmp_path / "tables" / f"{table.name}.tex").exists()
    for figure in report.figures:
        assert f"figures/{figure.name}.png" in text
        assert f"{{figures/{figure.name}}}" in source
    assert "<script>" not in text.replace("\\<", "")


def test_what_was_written_is_told_in_a_line(tmp_path):
    report = write_report(hard_run(tmp_path))
    line = report.written()
    assert "\n" not in line
    assert line.startswith(f"written to {tmp_path}: report.md, report.tex, figures/, tables/ (")
    assert f"{len(report.tables)} tables" in line
    assert {path.parent.name for path in report.files} == {"figures", "tables", tmp_path.name}


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    folder = hard_run(tmp_path / "run")
    (folder / "figures").write_text("in the way")
    with pytest.raises(VlaBenchError, match=r"figures cannot be written"):
        write_report(folder)
