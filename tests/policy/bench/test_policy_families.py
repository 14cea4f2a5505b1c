"""Every family is timed phase by phase, compared with its parts and with the roofline, and asked offline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import diffusion, octo, openvla
from support.demonstrations import MADE_WITH, numbers, picture
from support.servers import serving
from typer.testing import CliRunner

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.cli import app
from vla_bench.learn.demonstrations import open_demonstrations
from vla_bench.learn.offline import NO_TOKENS, Question, measure
from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.writer import Recording
from vla_bench.policy.bench.measure import Cell, bench
from vla_bench.policy.bench.report import remarks, rows, to_json
from vla_bench.policy.bench.timing import timed_parts, whole_to_parts
from vla_bench.policy.bench.trace import write_trace
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.profile import Part

COMMON = {"preprocess", "inference", "postprocess", "total"}
PHASES = {
    "tiny_octo": {"inference.vision", "inference.transformer", "inference.head"},
    "tiny_diffusion": {"inference.vision", "inference.denoise"},
}
SIZE = (48, 48)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """A small checkpoint of each family."""
    folder = tmp_path_factory.mktemp("families")
    card = octo.card_of(octo.write_checkpoint(folder / "octo"))
    lines = [f"{key} = {json.dumps(getattr(card, key))}" for key in ("title", "family", "adapter", "licence")]
    lines += ['precisions = ["fp32", "bf16", "bnb_nf4"]', f"chunk_predicted = {card.chunk_predicted}"]
    lines += [f"checkpoint.folder = {json.dumps(card.checkpoint.folder)}", "[options]"]
    lines += [f"{key} = {diffusion._toml(value)}" for key, value in card.options.items()]
    (folder / "cards").mkdir()
    (folder / "cards/tiny_octo.toml").write_text("\n".join(lines))
    made = diffusion.write_official(folder / "latest.ckpt")
    diffusion.write_card(folder / "cards", "tiny_diffusion", made, {"control_hz": 5})
    made = openvla.write_checkpoint(folder / "openvla")
    options = {**openvla.BRIDGE_OPTIONS, "image_px": list(SIZE), "control_hz": 5}
    openvla.write_card(folder / "cards", "tiny_openvla", made, options)
    return folder / "cards"


@pytest.fixture(autouse=True)
def _found(cards, monkeypatch):
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(cards))


@pytest.fixture(scope="module")
def cells(cards) -> dict[str, list[Cell]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(cards))
        return {name: list(bench(read_card(name), ["fp32", "bnb_nf4"], [1, 2], rounds=3)) for name in PHASES}


@pytest.mark.parametrize("name", PHASES)
def test_phases_work_and_parts_are_there_at_every_precision_and_batch(cells, name):
    assert [(cell.precision, cell.batch) for cell in cells[name]] == [
        ("fp32", 1), ("fp32", 2), ("bnb_nf4", 1), ("bnb_nf4", 2)
    ]  # fmt: skip
    for cell in cells[name]:
        assert cell.error is None
        assert COMMON | PHASES[name] <= set(cell.latency_ms)
        assert set(cell.parts_ms) == PHASES[name] | {"total"}
        assert set(cell.ideal_ms) == PHASES[name] | {"inference"}
        assert all(ms > 0 for ms in cell.ideal_ms.values())
        assert cell.of_roofline == pytest.approx(
            cell.ideal_ms["inference"] / cell.latency_ms["inference"]["p50"]
        )


@pytest.mark.parametrize("name", PHASES)
def test_the_whole_is_compared_with_its_parts_round_by_round(cells, name):
    for cell in cells[name]:
        pairs = list(zip(cell.calls["policy"], cell.calls["parts"], strict=True))
        assert len(pairs) == 3
        assert cell.whole_to_parts == pytest.approx(
            np.median([whole["total"] / parts["total"] for whole, parts in pairs])
        )


def test_parts_run_as_often_as_they_say_and_add_up():
    ran: list[str] = []
    parts = [Part("a", lambda: ran.append("x")), Part("b", lambda: ran.append("y"), 3),
             Part("a", lambda: ran.append("z"), 2)]  # fmt: skip
    spent = timed_parts(parts, "cpu")
    assert "".join(ran) == "xyyyzz"
    assert list(spent) == ["a", "b", "total"]
    assert spent["total"] == pytest.approx(spent["a"] + spent["b"])


def test_without_parts_there_is_no_ratio():
    assert whole_to_parts({"policy": [{"total": 2.0}]}) is None
    calls = {"policy": [{"total": t} for t in (2.0, 9.0, 4.0)], "parts": [{"total": 2.0}] * 3}
    assert whole_to_parts(calls) == 2.0


@pytest.mark.parametrize("name", PHASES)
def test_the_share_that_is_quantised_is_in_the_table(cells, name):
    table = rows(cells[name])
    assert [row["quantised"] for row in table[:2]] == ["", ""]
    share = cells[name][2].quantised
    assert share is not None
    assert table[2]["quantised"] == f"{100 * share:.0f} %{' (less than half)' if share < 0.5 else ''}"
    assert [row["whole / parts"] for row in table] == [f"{c.whole_to_parts:.2f}" for c in cells[name]]


def test_what_is_made_up_says_so(cells):
    said = "the weights are random: only speed and memory mean anything"
    assert said not in remarks(cells["tiny_octo"])
    card = read_card("tiny_octo")
    card = card.model_copy(update={"options": {**card.options, "weights": "random"}})
    (cell,) = bench(card, ["fp32"], [1], rounds=1)
    assert remarks([cell])[0] == said
    assert to_json(cell)["random_weights"] is True


@pytest.mark.parametrize("name", PHASES)
def test_a_trace_holds_the_parts_beside_the_whole(cells, name, tmp_path):
    path = tmp_path / "trace.parquet"
    assert write_trace(path, cells[name], {}) == 4 * 3 * 2
    table = pq.read_table(path).to_pandas()
    assert set(table.contender) == {"policy", "parts"}
    columns = [f"{phase.replace('.', '_')}_ms" for phase in PHASES[name]]
    assert table[table.contender == "policy"][columns].gt(0).all().all()


@pytest.mark.parametrize("name", PHASES)
def test_the_command_times_made_up_weights(name, tmp_path):
    flags = [
        "--policy",
        name,
        "--random-weights",
        "--rounds",
        "1",
        "--save-trace",
        str(tmp_path / "t.parquet"),
    ]
    ended = CliRunner().invoke(app, ["bench", "policy", *flags])
    assert ended.exit_code == 0, ended.output
    assert "the weights are random" in ended.output
    about = json.loads((pq.read_table(tmp_path / "t.parquet").schema.metadata or {})[b"vla_bench"])
    assert about["options"]["weights"] == "random"


def test_a_policy_behind_a_server_is_timed_too():
    with serving(load_policy("tiny_octo"), "openpi") as address:
        (cell,) = bench(read_card(f"openpi:{address}"), ["as_served"], [1], rounds=2)
    assert cell.error is None
    assert set(cell.latency_ms) >= {"preprocess", "inference", "total"}
    assert (cell.parts_ms, cell.whole_to_parts, cell.of_roofline) == ({}, None, None)


# ── offline ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    """Two demonstrations at 5 Hz."""
    folder = tmp_path_factory.mktemp("demos") / "d"
    layout = Layout(5.0, {"agentview": SIZE}, "lossless")
    with Recording(folder, layout, MADE_WITH) as recording:
        for index in range(2):
            states, actions = numbers(index, 4)
            with recording.draft() as draft:
                for frame in range(4):
                    draft.add({"agentview": picture(10 * index + frame, SIZE)}, states[frame], actions[frame])
                draft.keep(f"mine/task#seed{index}", "mine/task", "open the drawer")
    return folder


@pytest.mark.parametrize("name", ["tiny_openvla", *PHASES])
def test_every_family_answers_stored_observations(demos, name):
    first, second = measure(Question(name, ("fp32", "bf16")), open_demonstrations(demos))
    assert first.observations == second.observations == 8
    assert all(np.isfinite(list(report.to_demonstration.values())).all() for report in (first, second))
    assert first.to_reference is None
    assert second.to_reference is not None
    # tokens round bfloat16 away
    assert (max(second.to_reference.values()) > 0) == (name in PHASES)
    assert first.applied is not None
    assert first.applied.precision == "fp32"
    assert (first.absent is None) == (name == "tiny_openvla")


@pytest.mark.parametrize("name", PHASES)
def test_a_policy_that_draws_noise_is_its_own_reference(demos, name):
    """Noise follows from the episode and the time: asked again, it says the same."""
    data = open_demonstrations(demos)
    one, again = (measure(Question(name, ("fp32",)), data)[0] for _ in range(2))
    assert one.to_demonstration == again.to_demonstration
    assert one.absent == NO_TOKENS


def test_a_policy_behind_a_server_answers_as_it_does_here(demos):
    data = open_demonstrations(demos)
    (here,) = measure(Question("tiny_octo", ("fp32",)), data)
    with serving(load_policy("tiny_octo"), "openpi") as address:
        (there,) = measure(Question(f"openpi:{address}", ("as_served",)), data)
    assert there.to_demonstration == here.to_demonstration


@pytest.mark.parametrize("name", PHASES)
def test_the_offline_command_prints_distances(demos, name):
    flags = ["--demos", str(demos), "--policy", name, "--precision", "fp32,bf16", "--json"]
    ended = CliRunner().invoke(app, ["offline", *flags])
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)
    assert [arm["precision"] for arm in told["arms"]] == ["fp32", "bf16"]
    assert told["arms"][1]["to_reference"]
