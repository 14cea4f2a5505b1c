"""What only a GPU shows of Diffusion Policy: recorded passes answer as plain ones do, again and again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.diffusion import configuration, write_card, write_official

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.bench.measure import bench, with_random_weights
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import build_policy, load_policy, read_card
from vla_bench.policy.diffusion.adapter import DiffusionPolicy
from vla_bench.policy.profile import profile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

LISTED = read_card("diffusion-lift").precisions
SAMPLERS = {"ddpm": {}, "ddim": {"sampler": "ddim", "steps": 5}}


@pytest.fixture(scope="module", autouse=True)
def _cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    path = write_official(tmp_path_factory.mktemp("official") / "latest.ckpt", configuration())
    for sampler, options in SAMPLERS.items():
        for passes in ("recorded", "plain"):
            options = {**options, "passes": passes, "device": "cuda"}
            write_card(folder, f"{sampler}-{passes}", path, options, precisions=list(LISTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(folder))
        yield


def pair(sampler: str, precision: str = "fp32") -> tuple[DiffusionPolicy, DiffusionPolicy]:
    recorded, plain = (load_policy(f"{sampler}-{passes}", precision) for passes in ("recorded", "plain"))
    assert isinstance(recorded, DiffusionPolicy)
    assert isinstance(plain, DiffusionPolicy)
    return recorded, plain


def compared(recorded: DiffusionPolicy, plain: DiffusionPolicy, rows: int, bound: float) -> None:
    """Several scenes in turn, so that a graph that kept an old input would be found out."""
    for scene in (0, 1, 2, 0):
        batch, seeds = histories(recorded.spec, rows, scene), list(range(scene, scene + rows))
        pairs = zip(recorded.act_seeded(batch, seeds), plain.act_seeded(batch, seeds), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours.actions, theirs.actions, rtol=0, atol=bound)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rows", [1, 3])
def test_graphs_give_the_actions_of_plain_passes(sampler, rows):
    recorded, plain = pair(sampler)
    compared(recorded, plain, rows, 1e-3)
    assert recorded.parts.passes.facts() == {"graphs": 2}
    assert plain.parts.passes.facts() == {}


def test_batches_of_several_sizes_take_turns():
    recorded, plain = pair("ddim")
    for rows in (1, 2, 1, 4, 2):
        compared(recorded, plain, rows, 1e-3)
    assert recorded.parts.passes.facts() == {"graphs": 6}


@pytest.mark.parametrize("precision", [name for name in LISTED if name != "fp32"])
def test_at_few_bits_a_pass_is_recorded_or_says_why_not(precision):
    recorded, plain = pair("ddim", precision)
    compared(recorded, plain, 1, 0.05)
    facts = recorded.parts.passes.facts()
    assert facts["graphs"] == 2 - (len(facts) - 1)


@pytest.fixture(scope="module")
def card():
    """The official size with random weights and 16 steps."""
    found = with_random_weights(read_card("diffusion-lift"))
    return found.model_copy(update={"options": {**found.options, "sampler": "ddim", "steps": 16}})


@pytest.fixture(scope="module")
def cell(card):
    (made,) = bench(card, ["fp32"], [1], rounds=30)
    assert made.error is None, made.error
    return made


def test_at_full_size_every_pass_is_a_graph(cell):
    assert cell.facts == {"graphs": 2, "steps": 16}


def test_at_full_size_graphs_give_the_actions_of_plain_passes(card):
    policy = build_policy(card, "fp32")
    assert isinstance(policy, DiffusionPolicy)
    plain = profile(policy).plain
    assert isinstance(plain, DiffusionPolicy)
    compared(policy, plain, 1, 1e-3)


def test_at_full_size_an_inference_takes_at_most_1_3_times_its_parts(cell):
    assert cell.whole_to_parts <= 1.3, (cell.latency_ms, cell.parts_ms)
