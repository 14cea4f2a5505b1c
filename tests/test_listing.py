import pytest
from support.worlds import needs_libero, write_suite, write_task

from vla_bench import catalog, listing
from vla_bench.errors import UnknownNameError


@pytest.fixture
def without_libero(tmp_path, monkeypatch):
    monkeypatch.delenv(catalog.LIBERO_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_suite_is_listed_and_says_how_to_get_its_data(without_libero):
    rows = {row["suite"]: row for row in listing.suites()}
    assert list(rows) == list(catalog.suites())
    assert rows["libero_90"]["tasks"] == 90
    assert rows["libero_90"]["data"] == "vla-bench assets libero"
    assert (rows["libero_90"]["budget"], rows["libero_90"]["episodes"]) == ("steps:400", 50)
    assert rows["bridge_base"]["data"] == "here"


@needs_libero
def test_data_that_is_there_is_said_to_be():
    assert {row["data"] for row in listing.suites()} == {"here"}


def test_tasks_are_listed_in_their_suites_order(without_libero):
    rows = listing.tasks(["libero_goal"], [])
    assert [row["task"] for row in rows] == [f"libero_goal/{s}" for s in catalog.suite("libero_goal").stems()]
    assert [row["index"] for row in rows] == list(range(10))
    assert len(listing.tasks([], [])) == sum(len(s.stems()) for s in catalog.suites().values())


def test_tasks_can_be_chosen_by_axis(tmp_path, monkeypatch):
    write_task(write_suite(tmp_path, more='task_axis = "motion"') / "a.bddl")
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    (row,) = listing.tasks(["mine", "libero_goal"], ["motion", "visual"])
    assert (row["task"], row["axis"], row["split"]) == ("mine/a", "motion", "id")
    with pytest.raises(UnknownNameError, match="unknown task axis 'moton'; did you mean 'motion'"):
        listing.tasks([], ["moton"])
    with pytest.raises(UnknownNameError, match="unknown suite 'mne'; did you mean 'mine'"):
        listing.tasks(["mne"], [])


def test_policies_and_studies_are_those_of_the_catalog():
    rows = {row["policy"].partition(":")[0]: row for row in listing.policies()}
    assert set(rows) == set(catalog.policy_files())
    assert rows["replay"]["policy"] == "replay:ACTIONS", "what the name takes is shown"
    assert rows["noop"]["precisions"] == "fp32"
    assert {row["study"]: row["file"] for row in listing.studies()} == {
        name: str(path) for name, path in catalog.studies().items()
    }


def test_latencies_are_listed_with_their_source(tmp_path, monkeypatch):
    (tmp_path / "latencies").mkdir()
    (tmp_path / "latencies" / "mine.parquet").touch()
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    rows = {row["latency"]: row for row in listing.latencies()}
    assert rows["model:openvla-bnb_int8-a5000"]["ms"] == "833.3"
    assert rows["model:openvla-bf16-a5000"]["certainty"] == "assumed", "no rate is printed for it"
    assert rows["trace:mine"]["title"] == str(tmp_path / "latencies" / "mine.parquet")
