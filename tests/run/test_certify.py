"""Certification is deterministic, does not play what is the same twice, and counts what cannot be played."""

import dataclasses

import pytest
from support.worlds import BRIDGE

from vla_bench import catalog
from vla_bench.axes.certificates import lower
from vla_bench.run import certify
from vla_bench.run.certification import Register, examine, missing
from vla_bench.run.certify import LOOKS, Examiner, certify_probability, decided

VARIATIONS = ("", "visual.fog@3", "physical.mass@2", "language.typing_errors@2")


@pytest.fixture(scope="module")
def examiner():
    made = Examiner(catalog.task(BRIDGE))
    yield made
    made.close()


def test_what_only_changes_looks_or_words_is_not_played_twice(examiner, monkeypatch):
    unvaried = examiner.examine("", 9)
    monkeypatch.setattr(certify, "play", None)  # would fail
    for variation in ("visual.fog@3", "visual.lighting@5", "language.typing_errors@2", "semantic.concepts@1"):
        found = examiner.examine(variation, 9)
        assert (found.n, found.solved, found.target_px) == (9, unvaried.solved, unvaried.target_px)


def test_what_changes_physics_is_played(examiner, monkeypatch):
    examiner.examine("", 9)
    monkeypatch.setattr(certify, "play", None)
    for variation in ("physical.mass@2", "motion.object_position@2", "motion.relocation@1"):
        with pytest.raises(TypeError):
            examiner.examine(variation, 9)


def test_cameras_change_what_is_counted_and_not_what_is_played(examiner, monkeypatch):
    unvaried = examiner.examine("", 9)
    monkeypatch.setattr(certify, "play", None)
    moved = examiner.examine("visual.field_of_view@5", 9)
    assert moved.solved == unvaried.solved
    assert moved.target_px != unvaried.target_px


def test_a_target_that_the_camera_does_not_show_is_not_seen(examiner, monkeypatch):
    monkeypatch.setattr(certify, "_LEAST_PX", 10**6)
    monkeypatch.setattr(certify, "_HIDDEN", 1e6)
    found = examiner.examine("visual.fog@1", 9)
    assert (found.seen, found.certified) == (0, False)
    assert "9 hidden" in found.reason


def test_another_goal_is_certified_as_declared():
    pair = Examiner(catalog.task("bridge/put_eggplant_into_pot"))
    assert pair.examine("semantic.targets_swapped@1", 1).goal == "declared"
    assert pair.examine("visual.fog@1", 1).goal == "same"
    pair.close()


def test_the_number_of_processes_changes_nothing_and_what_is_known_is_not_measured_again(tmp_path):
    task = catalog.task(BRIDGE)
    units = missing([task], VARIATIONS, 2, {})
    assert [unit.variations for unit in units] == [(variation,) for variation in VARIATIONS]
    alone = [row for rows in examine(units, 1) for row in rows]
    pair = [row for rows in examine(units, 2) for row in rows]
    assert sorted(alone, key=str) == sorted(pair, key=str)
    register = Register(["bridge_base"], tmp_path)
    register.add(alone)
    assert Register(["bridge_base"], tmp_path).known == {(row.task, row.variation): row for row in alone}
    assert missing([task], VARIATIONS, 2, register.known) == []
    assert [unit.seeds for unit in missing([task], VARIATIONS, 21, register.known)] == [21] * 4
    stale = {cell: dataclasses.replace(row, content="old") for cell, row in register.known.items()}
    assert len(missing([task], VARIATIONS, 2, stale)) == len(VARIATIONS)


def test_looks_make_certificates_only_a_little_easier():
    """Looking several times lets 8.7 % of cells through whose true rate is exactly the limit."""
    assert certify_probability(0.7, 9) == pytest.approx(0.7**9)
    assert certify_probability(0.7, LOOKS[-1]) == pytest.approx(0.087, abs=0.001)
    assert certify_probability(1.0, 9) == pytest.approx(1.0)
    assert certify_probability(0.98, 21) > 0.99
    assert lower(9, 9) >= 0.7 > lower(8, 8)


@pytest.mark.parametrize(
    ("n", "solved", "seeds", "known"),
    [
        (9, 9, 21, True),
        (9, 8, 21, False),
        (9, 6, 21, True),
        (15, 12, 21, True),
        (15, 13, 21, False),
        (21, 0, 21, True),
    ],
)
def test_a_cell_is_decided_when_it_is_certified_or_can_no_longer_be(n, solved, seeds, known):
    assert decided(n, solved, n, seeds) is known
    assert decided(n, n, solved, seeds) is known
