"""The table of certificates: what it refuses, and what makes an entry void."""

import dataclasses

import pytest

from vla_bench import catalog
from vla_bench.axes import certificates
from vla_bench.axes.certificates import Certificate, content_digest, lower, read, refused, write
from vla_bench.errors import DataError

TASK = "bridge_base/lift_the_carrot"
FOG, MASS = "visual.fog@1", "physical.mass@2"


def certificate(variation=FOG, **changes):
    task = catalog.task(TASK)
    given = {
        "task": TASK, "variation": variation, "n": 9, "solved": 9, "seen": 9, "target_px": 300,
        "goal": "same", "reason": "", "fingerprint": "engine", "content": content_digest(task, variation),
    }  # fmt: skip
    return Certificate(**{**given, **changes})


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Writes certificates into a user's folder, which comes before the shipped one."""
    monkeypatch.setenv(catalog.TASKS_DIR_VARIABLE, str(tmp_path))
    path = tmp_path / certificates.FOLDER / "bridge_base.csv"
    return lambda *rows: write(path, rows) or path


@pytest.mark.parametrize(
    ("solved", "n", "enough"), [(9, 9, True), (8, 8, False), (14, 15, True), (13, 15, False), (19, 21, True)]
)
def test_a_cell_is_certified_from_a_lower_bound_of_70_percent(solved, n, enough):
    assert certificate(solved=solved, n=n, seen=n).certified is enough
    assert certificate(solved=n, n=n, seen=solved).certified is enough
    assert (lower(solved, n) >= 0.7) is enough


def test_a_wrong_goal_is_never_certified():
    assert certificate(goal="declared").certified
    assert not certificate(goal="'put it there' names ['pot'], wanted ['plate']").certified


def test_files_are_read_as_they_were_written(store):
    rows = [certificate(), certificate(MASS, solved=3, reason="6 horizon after grasped, 1 no feasible draw")]
    assert list(read(store(*rows)).values()) == rows


def test_the_unvaried_task_needs_no_certificate(store):
    store()
    assert refused(catalog.task(TASK), "") is None


def test_what_was_never_tried_or_not_solved_or_of_other_files_is_refused(store):
    task = catalog.task(TASK)
    store(certificate(), certificate(MASS, solved=3, reason="6 horizon"))
    assert refused(task, FOG) is None
    assert refused(task, MASS) == "the expert solves 3 of 9 (6 horizon)"
    assert refused(task, f"{FOG}+{MASS}") == "no certificate"
    store(certificate(content="00000000"))
    assert refused(task, FOG) == "its certificate is of other files than these"


def test_another_level_or_another_task_file_is_other_content(tmp_path):
    task = catalog.task(TASK)
    copy = tmp_path / task.bddl.name
    copy.write_text(task.bddl.read_text() + "\n")
    digests = {
        content_digest(task, FOG), content_digest(task, "visual.fog@2"), content_digest(task, MASS),
        content_digest(task, f"{FOG}+{MASS}"), content_digest(dataclasses.replace(task, source=copy), FOG),
    }  # fmt: skip
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("solved", "sloved"), "has columns"),
        (lambda text: text.replace(",9,9,9,", ",9,many,9,"), ":2: solved: Input should be a valid integer"),
    ],
)
def test_a_broken_file_names_file_line_and_column(store, damage, said):
    path = store(certificate())
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_written_stays_as_it_was(store, monkeypatch):
    path = store(certificate())
    before = path.read_bytes()

    def full(self, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_text", full)
    with pytest.raises(DataError, match="No space left on device"):
        write(path, [certificate(MASS)])
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
