"""Weights × latency: the split of what a precision changes, and when nothing is claimed."""

import pytest
from support.timed import counted, of, record_of

from vla_bench.account import crossed

FAST, SLOW = "constant:100ms", "constant:400ms"
TABLE = {"reference": "bf16", "latencies": {"bf16": FAST, "bnb_int8": SLOW}, "cells": "all"}
CELLS = {
    ("bf16", "zero"): "ssssssssss",
    ("bf16", FAST): "sssssssssf",
    ("bf16", SLOW): "sssssfffff",
    ("bnb_int8", FAST): "sssssssfff",
    ("bnb_int8", SLOW): "ssssffffff",
}


def tables(made):
    return {table.name: table for table in crossed.tables(made)}


def effects(made):
    """Those of the episodes; models have `test_effects.py`."""
    table = tables(made)["crossed_effects"]
    rows = [dict(zip(table.numbers_header, row, strict=True)) for row in table.numbers]
    found = {(row["place"], row["policy"], row["precision"], row["effect"]): row for row in rows}
    return {key: row for key, row in found.items() if key[-1] != crossed.MODELLED}


def test_a_change_is_split_into_weights_timing_and_interaction(tmp_path):
    found = effects(counted(tmp_path, CELLS, crossed=TABLE))
    split = {key[-1]: row["difference"] for key, row in found.items() if key[2] == "bnb_int8"}
    assert split == {
        "weights": pytest.approx(0.7 - 0.9), "timing": pytest.approx(0.5 - 0.9),
        "interaction": pytest.approx(0.4 - 0.7 - 0.5 + 0.9), "total": pytest.approx(0.4 - 0.9),
        "timing, from zero": pytest.approx(0.5 - 1.0),
    }  # fmt: skip
    assert sum(split[kind] for kind in ("weights", "timing", "interaction")) == pytest.approx(split["total"])
    for row in found.values():
        assert row["low"] <= row["difference"] <= row["high"]
        assert 0 < row["p"] <= row["p_holm"] <= 1
        assert row["episodes"] == 10
    assert found["s, still targets", "p", "bnb_int8", "timing"]["p"] == pytest.approx(0.125)


def test_intervals_of_effects_in_which_few_episodes_differ_are_marked(tmp_path):
    cells = {cell: own * 2 for cell, own in CELLS.items()}
    table = tables(counted(tmp_path, cells, crossed=TABLE))["crossed_effects"]
    marked = {row[4]: "‡" in row[7] for row in table.rows if row[3] == "bnb_int8"}
    assert (marked["weights"], marked["timing"]) == (True, False)  # 4 and 8 of 20 episodes
    told = {
        row["effect"]: row["warning"]
        for row in effects(counted(tmp_path / "b", cells, crossed=TABLE)).values()
    }
    assert told["weights"].startswith("arms differ in 4 episodes, fewer than 8")
    assert told["timing"] == ""
    assert sum(sentence.startswith("‡: the arms differ") for sentence in table.caption) == 1


def test_the_grid_has_the_counts_of_every_cell(tmp_path):
    grid = tables(counted(tmp_path, CELLS, crossed=TABLE))["crossed"]
    assert [row[3:] for row in grid.rows] == [
        ("bf16", "10/10 (100.0)", "9/10 (90.0)", "5/10 (50.0)"),
        ("bnb_int8", "-", "7/10 (70.0)", "4/10 (40.0)"),
    ]


def test_nothing_is_claimed_of_what_hardly_succeeds_without_latency(tmp_path):
    weak = counted(tmp_path / "weak", {**CELLS, ("bf16", "zero"): "ssffffffff"}, crossed=TABLE)
    (row,) = tables(weak)["crossed_effects"].rows
    assert "no claim: rate at zero latency is 20.0 % (2/10)" in row
    assert effects(weak) == {}
    unknown = {cell: own for cell, own in CELLS.items() if cell[1] != "zero"}
    (row,) = tables(counted(tmp_path / "unknown", unknown, crossed=TABLE))["crossed_effects"].rows
    assert "no claim: zero latency was not run" in row


def test_a_policy_with_one_set_of_weights_changes_by_timing_alone_and_the_table_says_so(tmp_path):
    own = {("fp32", latency): letters for (weights, latency), letters in CELLS.items() if weights == "bf16"}
    made = counted(tmp_path, own, crossed=TABLE)
    assert {key[2:] for key in effects(made)} == {
        ("bnb_int8", "timing"), ("bf16", "timing, from zero"), ("bnb_int8", "timing, from zero")
    }  # fmt: skip
    for table in tables(made).values():
        assert "p was run with one set of weights: all that changes is timing." in table.caption


def test_precisions_at_their_own_latency_alone_have_a_total(tmp_path):
    diagonal = {cell: own for cell, own in CELLS.items() if cell not in (("bf16", SLOW), ("bnb_int8", FAST))}
    found = effects(counted(tmp_path, diagonal, crossed=TABLE))
    assert {key[2:]: row["difference"] for key, row in found.items()} == {
        ("bnb_int8", "total"): pytest.approx(-0.5), ("bf16", "timing, from zero"): pytest.approx(-0.1)
    }  # fmt: skip


def test_still_and_moving_targets_are_apart(tmp_path):
    places = (("t0", "", False), ("t1", "", True), ("t0", "m@1", True), ("t0", "v@1", False))
    records = [
        record_of("success" if not (moves and latency == SLOW) else "failure", "fp32", latency, task=task,
                  variation=variation, index=i)
        for latency in ("zero", FAST, SLOW)
        for task, variation, moves in places
        for i in range(3)
    ]  # fmt: skip
    found = effects(of(tmp_path, records, crossed=TABLE, moving=("s/t1|", "s/t0|m@1")))
    lost = {key[0]: (row["difference"], row["episodes"]) for key, row in found.items() if key[3] == "timing"}
    assert lost == {
        "s, still targets": (0, 3), "s with v@1, still targets": (0, 3), "s, moving targets": (-1, 6),
    }  # fmt: skip


def test_an_episode_with_an_error_counts_for_no_cell(tmp_path):
    broken = {**CELLS, ("bnb_int8", SLOW): "esssffffff"}
    grid = tables(counted(tmp_path, broken, crossed=TABLE))["crossed"]
    assert {row[grid.numbers_header.index("n")] for row in grid.numbers} == {9}


def test_the_same_records_give_the_same_numbers(tmp_path):
    first, again = (tables(counted(tmp_path / name, CELLS, crossed=TABLE)) for name in "ab")
    assert first == again


def test_a_study_without_a_crossed_table_has_no_split(tmp_path):
    assert tables(counted(tmp_path, CELLS)) == {}
