import pytest
from support.records import make_record, make_session, write_run

from vla_bench.account.counted import count
from vla_bench.account.tables import references
from vla_bench.run.records import Assets, read_run
from vla_bench.run.records.header import PublishedRate


def published(value=85.0, **fields):
    return PublishedRate(
        **{"suite": "s", "metric": "success_percent", "value": value, "source": "x", **fields}
    )


def episodes(successes, n=500, **fields):
    return [
        make_record("success" if i < successes else "failure", task=f"t{i % 10}", index=i // 10, **fields)
        for i in range(n)
    ]


def verdicts(tmp_path, made, *numbers, **header):
    """(verdict, because) of every published number."""
    run = read_run(write_run(tmp_path / "run", made, references={"p": numbers}, **header))
    (table,) = references.tables(count(run))
    rows = [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
    return [(row["verdict"], str(row["because"])) for row in rows]


@pytest.mark.parametrize(
    ("successes", "n", "word"),
    [(850, 1000, "reproduced"), (500, 1000, "not reproduced"), (17, 20, "inconclusive")],
)
def test_a_verdict_comes_from_a_test_that_is_named(tmp_path, successes, n, word):
    ((found, because),) = verdicts(tmp_path, episodes(successes, n), published(trials=1500))
    assert found == word
    assert "margin 5 points" in because
    assert "score test" in because


def test_a_number_without_trials_is_taken_as_known_and_said_so(tmp_path):
    ((word, because),) = verdicts(tmp_path, episodes(850, 1000), published())
    assert word == "reproduced"
    assert "taken as known" in because


def test_what_is_not_of_one_thing_is_not_compared(tmp_path):
    some = episodes(8, 10)
    ((word, because),) = verdicts(tmp_path / "a", some, published(metric="score_percent"))
    assert (word, "score percent" in because) == ("not comparable", True)
    late = episodes(8, 10, pacing="realtime")
    assert (
        verdicts(tmp_path / "b", late, published())[0][1]
        == "published with a world that waits for the policy"
    )
    session = make_session(assets=Assets(stand_ins=("a.png",)))
    assert "stand-in" in verdicts(tmp_path / "c", some, published(), session=session)[0][1]
    study = {"suites": [], "tasks": ["s/t1"], "statistics": {"confidence": 0.95}}
    assert "only some tasks" in verdicts(tmp_path / "d", some, published(), study=study)[0][1]
    mixed = [*episodes(8, 10, fingerprint="f1")[:5], *episodes(8, 10, fingerprint="f2")[5:]]
    assert "several fingerprints" in verdicts(tmp_path / "e", mixed, published())[0][1]
    broken = [*some, make_record("error", task="t0", index=9)]
    assert "1 episodes ended in errors" in verdicts(tmp_path / "f", broken, published())[0][1]


def test_each_number_is_a_row_and_says_its_source(tmp_path):
    run = read_run(
        write_run(
            tmp_path / "run", episodes(8, 10),
            references={"p": (published(source="A, table 1", note="3 seeds"), published(80.0, source="B"))},
        )
    )  # fmt: skip
    (table,) = references.tables(count(run))
    caption = " ".join(table.caption)
    assert "[1] A, table 1 (3 seeds)." in caption
    assert "[2] B." in caption
    assert [row[table.header.index("source")] for row in table.rows] == ["[1]", "[2]"]


def test_numbers_of_other_suites_and_policies_are_not_shown(tmp_path):
    header = {"references": {"p": (published(suite="other"),), "q": (published(),)}}
    assert list(references.tables(count(read_run(write_run(tmp_path, episodes(1, 2), **header))))) == []
