"""The bench of policies: what it measures, compares and refuses; no test asserts on seconds."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from support.openvla import BRIDGE_OPTIONS, write_card, write_checkpoint
from typer.testing import CliRunner

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.cli import app
from vla_bench.errors import MissingCapabilityError, UnknownNameError, VlaBenchError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.bench.measure import Cell, bench, with_random_weights
from vla_bench.policy.bench.report import remarks, rows
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.bench.timing import agreement, quantiles, speedup
from vla_bench.policy.bench.trace import METADATA, write_trace
from vla_bench.policy.cards import read_card
from vla_bench.types import ActionChunk

PHASES = {"preprocess", "inference", "postprocess", "total"}
PARTS = {"inference.vision", "inference.prefill", "inference.decode"}


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """A card of a small checkpoint without weights."""
    folder = tmp_path_factory.mktemp("bench")
    checkpoint = write_checkpoint(folder / "checkpoint")
    (checkpoint / "model.safetensors").unlink()
    write_card(folder / "cards", "tiny", checkpoint, BRIDGE_OPTIONS)
    return folder / "cards"


@pytest.fixture(autouse=True)
def _found(cards, monkeypatch):
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(cards))


@pytest.fixture(scope="module")
def cells(cards):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(cards))
        card = read_card("tiny")
        card = card.model_copy(update={"options": {**card.options, "weights": "random"}})
        return list(bench(card, ["fp32", "torchao_int4wo"], [1, 2], rounds=3))


def test_every_phase_of_every_counted_call_is_there(cells):
    cell = cells[0]
    assert (cell.policy, cell.precision, cell.batch, cell.error) == ("tiny", "fp32", 1, None)
    assert set(cell.latency_ms) == PHASES | PARTS
    assert {name: len(calls) for name, calls in cell.calls.items()} == {"policy": 3, "plain": 3}
    for call in cell.calls["policy"]:
        assert sum(call[name] for name in PHASES - {"total"}) <= call["total"]
        assert sum(call[name] for name in PARTS) <= call["inference"]


def test_frequency_actions_and_shares_follow_from_the_latencies(cells):
    for cell in cells[:2]:
        per_call = cell.latency_ms["total"]["p50"]
        assert cell.policy_hz == pytest.approx(1e3 / per_call)
        assert cell.actions_per_s == pytest.approx(cell.batch * 1e3 / per_call)
        assert cell.ideal_ms["inference"] == pytest.approx(sum(cell.ideal_ms[name] for name in PARTS))
        expected = cell.ideal_ms["inference"] / cell.latency_ms["inference"]["p50"]
        assert cell.of_roofline == pytest.approx(expected)


def test_the_plain_loop_gives_the_same_actions(cells):
    assert [cell.same_actions for cell in cells[:2]] == [1.0, 1.0]
    assert set(cells[0].speedup) == {"total", "inference"}


def test_memory_is_what_the_policy_reports_and_none_where_it_is_not_measured(cells):
    assert cells[0].weights_gb == pytest.approx(cells[1].weights_gb)
    assert cells[0].weights_gb > 0.01
    assert cells[0].peak_gb is None


def test_a_precision_that_is_missing_is_a_row_that_says_so(cells):
    assert [cell.error is None for cell in cells] == [True, True, False, False]
    assert "not at 'torchao_int4wo'" in (cells[2].error or "")
    table = rows(cells)
    assert len({tuple(row) for row in table}) == 1, "all rows have the same columns"
    assert [row["precision"] for row in table] == ["fp32", "fp32", "torchao_int4wo", "torchao_int4wo"]
    assert table[2]["total p50"] == ""
    assert any("GB/s" in line for line in remarks(cells))


def test_a_name_that_is_no_precision_is_a_mistake():
    with pytest.raises(UnknownNameError, match="bf16"):
        list(bench(read_card("tiny"), ["bf61"], [1], rounds=1))


def test_a_policy_that_tells_nothing_is_timed_as_a_whole():
    (cell,) = bench(read_card("noop"), ["fp32"], [1], rounds=2)
    assert cell.error is None
    assert set(cell.latency_ms) >= {"total"}
    assert (cell.plain_ms, cell.ideal_ms, cell.of_roofline, cell.weights_gb) == ({}, {}, None, None)


def test_what_only_a_simulation_has_and_batches_that_are_not_served_are_said():
    (expert,) = bench(read_card("expert"), ["fp32"], [1], rounds=1)
    assert "state of a simulation" in (expert.error or "")
    (noop,) = bench(read_card("noop"), ["fp32"], [4], rounds=1)
    assert "one episode at a time" in (noop.error or "")


def test_a_policy_without_weights_has_none_to_make_up():
    with pytest.raises(MissingCapabilityError, match="'noop' has no weights"):
        with_random_weights(read_card("noop"))
    assert with_random_weights(read_card("tiny")).options["weights"] == "random"


def test_the_same_scene_shows_the_same_and_rows_differ():
    spec = PolicySpec(cameras=("front",), proprio=("robot0_eef_pos",), history=2, image_px=(8, 12))
    first, again = histories(spec, 2, 0), histories(spec, 2, 0)
    assert (len(first), len(first[0])) == (2, 2)
    assert (first[0][0].images["front"] == again[0][0].images["front"]).all()
    assert (first[0][0].images["front"] != first[1][0].images["front"]).any()
    assert first[0][0].images["front"].shape == (8, 12, 3)
    assert first[0][0].proprio["robot0_eef_pos"].shape == (3,)


def test_the_speedup_is_the_median_of_ratios_within_rounds():
    ours = [{"total": 1.0}, {"total": 10.0}, {"total": 2.0}]
    plain = [{"total": 3.0}, {"total": 20.0}, {"total": 8.0}]
    assert speedup({"policy": ours, "plain": plain}) == {"total": 3.0}
    assert quantiles(ours)["total"]["p50"] == 2.0


def test_agreement_is_the_share_of_equal_numbers():
    ours = [ActionChunk([[0.0, 1.0]]), ActionChunk([[2.0, 3.0]])]
    assert agreement(ours, [ActionChunk([[0.0, 1.0]]), ActionChunk([[2.0, 9.0]])]) == 0.75


def test_a_trace_holds_every_call_and_where_it_was_measured(cells, tmp_path):
    path = tmp_path / "trace.parquet"
    assert write_trace(path, cells, {"versions": {"torch": "x"}}) == 12
    table = pq.read_table(path)
    assert {"policy", "precision", "batch", "contender", "call", "total_ms", "inference_vision_ms"} <= set(
        table.column_names
    )
    ours = table.to_pandas().query("contender == 'policy' and batch == 2")
    assert list(ours.total_ms) == [call["total"] for call in cells[1].calls["policy"]]
    told = json.loads((table.schema.metadata or {})[METADATA])
    assert told["versions"] == {"torch": "x"}
    assert told["machines"][0]["bytes_per_s"] > 0
    assert pq.read_table(path)["inference_decode_ms"].null_count == 6, "generate does not tell its steps"


def test_a_trace_of_nothing_is_not_written(tmp_path):
    with pytest.raises(VlaBenchError, match="nothing was measured"):
        write_trace(tmp_path / "t.parquet", [Cell("p", "bf16", 1, error="no")], {})
    assert not list(tmp_path.iterdir())


def test_the_command_prints_json_and_stores_the_trace(tmp_path):
    trace = tmp_path / "trace.parquet"
    flags = [
        "--policy",
        "tiny",
        "--random-weights",
        "--precision",
        "bf16,bnb_int8",
        "--rounds",
        "1",
        "--json",
    ]
    ended = CliRunner().invoke(
        app, ["bench", "policy", *flags, "--option", "decode=speculative", "--save-trace", str(trace)]
    )
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert told["options"] == {**BRIDGE_OPTIONS, "decode": "speculative", "weights": "random"}
    assert [cell["precision"] for cell in told["cells"]] == ["bf16", "bnb_int8"]
    assert "acceptance" in told["cells"][0]["facts"]
    assert "calls" not in told["cells"][0]
    assert pq.read_table(trace).num_rows == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [(["--batch", "1,x"], "--batch 1,x: expected"), (["--option", "decode"], "expected NAME=VALUE")],
)
def test_a_flag_that_cannot_be_read_is_named(flags, words):
    ended = CliRunner().invoke(app, ["bench", "policy", "--policy", "tiny", *flags])
    assert words in str(ended.exception)
