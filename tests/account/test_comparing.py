import csv
import json

import pytest
from support.records import make_record, make_session, write_run
from typer.testing import CliRunner

from vla_bench.account.comparing import compare
from vla_bench.cli import app
from vla_bench.errors import VlaBenchError
from vla_bench.run.records import Assets


def folder_of(path, policy, letters="ssss", start=0, task="t", session=None, **fields):
    """A results folder in which a policy ran one episode a letter: s, f or e."""
    names = {"s": "success", "f": "failure", "e": "error"}
    made = [
        make_record(names[letter], policy=policy, task=task, index=start + i, **fields)
        for i, letter in enumerate(letters)
    ]
    return write_run(path, made, **({"session": session} if session else {}))


def rows_of(report, name):
    (table,) = [table for table in report.tables if table.name == name]
    return [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]


def test_the_same_episodes_of_other_folders_are_pairs(tmp_path):
    made = compare([folder_of(tmp_path / "a", "p", "ssssssss"), folder_of(tmp_path / "b", "q", "ffffffff")])
    (pair,) = rows_of(made, "comparison_pairs")
    assert (pair["pairs"], pair["first_only"], pair["test"]) == (8, 8, "paired: exact McNemar")
    assert pair["p"] == pytest.approx(2 * 0.5**8)
    assert any("8 episodes are in all folders (8 in a, 8 in b)" in line for line in made.header)
    assert made.files == ()


def test_unpaired_runs_are_not_given_to_a_paired_test(tmp_path):
    made = compare([folder_of(tmp_path / "a", "p"), folder_of(tmp_path / "b", "q", "ffff", start=10)])
    (pair,) = rows_of(made, "comparison_pairs")
    assert (pair["pairs"], pair["first_only"], pair["test"]) == (0, None, "unpaired: Boschloo")
    assert any("No episode is in all folders" in line for line in made.header)
    assert "unpaired: Boschloo" in made.text(200)
    assert "Newcombe" in made.text(200)


def test_runs_that_share_no_task_are_set_side_by_side_and_not_compared(tmp_path):
    made = compare([folder_of(tmp_path / "a", "p"), folder_of(tmp_path / "b", "q", task="u")])
    (pair,) = rows_of(made, "comparison_pairs")
    assert (pair["difference"], pair["p"], pair["test"]) == (None, None, "")
    assert "share no task are not compared" in " ".join(made.text(200).split())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"fingerprint": "f2"}, "fingerprints differ"),
        ({"versions": {"mujoco": "3.3.8"}}, "mujoco is 3.3.7"),
        ({"assets": Assets(stand_ins=("a.png",))}, ""),
    ],
)
def test_runs_of_another_world_are_refused_without_an_explicit_word(tmp_path, other, said):
    session = make_session(assets=Assets())
    folders = [
        folder_of(tmp_path / "a", "p", session=session),
        folder_of(tmp_path / "b", "q", session=make_session(**{"assets": Assets(), **other})),
    ]
    with pytest.raises(
        VlaBenchError, match=r"do not belong into one table: .*--despite-differences"
    ) as error:
        compare(folders)
    assert said in str(error.value)
    made = compare(folders, despite_differences=True)
    assert any(line.startswith("NOT OF ONE KIND") for line in made.header)


def test_the_same_arm_on_the_same_episode_twice_is_refused_or_told_apart_by_folder(tmp_path):
    folders = [folder_of(tmp_path / "a", "p"), folder_of(tmp_path / "b", "p", "ffff")]
    with pytest.raises(VlaBenchError, match=r"a and b both hold p,fp32,\S+ on s/t#init0; --by-folder"):
        compare(folders)
    made = compare(folders, by_folder=True)
    assert [row["policy"] for row in rows_of(made, "comparison")] == ["p [a]", "p [b]"]
    (pair,) = rows_of(made, "comparison_pairs")
    assert (pair["pairs"], pair["first_only"]) == (4, 4)


def test_folders_that_continue_each_other_are_one_arm(tmp_path):
    made = compare([folder_of(tmp_path / "a", "p"), folder_of(tmp_path / "b", "p", "ff", start=4)])
    (row,) = rows_of(made, "comparison")
    assert (row["successes"], row["n"]) == (4, 6)


def test_errors_drop_their_pair_in_all_folders_and_are_marked(tmp_path):
    made = compare([folder_of(tmp_path / "a", "p", "ssss"), folder_of(tmp_path / "b", "q", "sses")])
    first, second = rows_of(made, "comparison")
    assert (first["n"], first["dropped"], second["errors"]) == (3, 1, 1)
    text = made.text(200)
    assert "3/3 †" in text
    assert "not to be published" in text
    assert any("1 errors of q,fp32,blocking,zero" in line for line in made.header)


def test_other_budgets_are_said(tmp_path):
    made = compare(
        [folder_of(tmp_path / "a", "p"), folder_of(tmp_path / "b", "q", budget="steps:99")],
    )
    assert any("OTHER BUDGETS" in line and "steps:20 and steps:99" in line for line in made.header)


def test_one_folder_or_the_same_twice_is_nothing_to_compare(tmp_path):
    folder = folder_of(tmp_path / "a", "p")
    with pytest.raises(VlaBenchError, match="at least two different results folders; 1 is given"):
        compare([folder])
    with pytest.raises(VlaBenchError, match="is given more than once"):
        compare([folder, tmp_path / "." / "a"])


def test_folders_of_one_name_are_called_by_more_of_their_path(tmp_path):
    made = compare([folder_of(tmp_path / "x" / "run", "p"), folder_of(tmp_path / "y" / "run", "q")])
    assert made.title == "Comparison of x/run, y/run"


def test_the_command_writes_where_it_is_told_and_speaks_json(tmp_path):
    folders = [str(folder_of(tmp_path / name, name)) for name in "pq"]
    done = CliRunner().invoke(app, ["compare", *folders, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [row["policy"] for row in told["tables"]["comparison"]] == ["p", "q"]
    with (tmp_path / "out" / "tables" / "comparison.csv").open(newline="") as file:
        assert [row["policy"] for row in csv.DictReader(file)] == ["p", "q"]
    assert (tmp_path / "out" / "figures" / "posteriors.pdf").stat().st_size > 1000
