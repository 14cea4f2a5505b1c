"""What only a GPU shows of Octo: recorded passes answer as plain ones do, again and again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.octo import card_of, config, spec, write_checkpoint

from vla_bench.policy.bench.measure import bench, with_random_weights
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import read_card
from vla_bench.policy.octo.adapter import OctoPolicy, build
from vla_bench.policy.profile import profile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

BOTH = {"primary": {"camera": "agentview", "crop_area": 0.9}, "wrist": {"camera": "wrist"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")


def built(folder, passes: str, precision: str = "fp32", **options) -> OctoPolicy:
    return build(card_of(folder, device="cuda", passes=passes, cameras=BOTH, **options), precision)


def compared(recorded: OctoPolicy, plain: OctoPolicy, rows: int, bound: float) -> None:
    """Several scenes in turn, so that a graph that kept an old input would be found out."""
    for scene in (0, 1, 2, 0):
        batch, seeds = histories(recorded.spec, rows, scene), list(range(scene, scene + rows))
        pairs = zip(recorded.act_seeded(batch, seeds), plain.act_seeded(batch, seeds), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours.actions, theirs.actions, rtol=0, atol=bound)


@pytest.mark.parametrize("rows", [1, 3])
def test_graphs_give_the_actions_of_plain_passes(folder, rows):
    recorded, plain = built(folder, "recorded"), built(folder, "plain")
    compared(recorded, plain, rows, 1e-3)
    assert recorded.parts.passes.facts() == {"graphs": 3}
    assert plain.parts.passes.facts() == {}


def test_batches_of_several_sizes_take_turns(folder):
    recorded, plain = built(folder, "recorded"), built(folder, "plain")
    for rows in (1, 2, 1, 4, 2):
        compared(recorded, plain, rows, 1e-3)
    assert recorded.parts.passes.facts() == {"graphs": 9}


def test_a_short_first_window_has_graphs_of_its_own(folder):
    recorded, plain = (built(folder, passes, first_window="short") for passes in ("recorded", "plain"))
    first = histories(recorded.spec, 1, 0)[0][:1] * 2
    for given in (first, histories(recorded.spec, 1, 1)[0], first):
        np.testing.assert_allclose(
            recorded.act_seeded([given], [5])[0].actions, plain.act_seeded([given], [5])[0].actions,
            rtol=0, atol=1e-3,
        )  # fmt: skip
    assert recorded.parts.passes.facts() == {"graphs": 5}, "the head reads one step in both"


@pytest.mark.parametrize("name", ["DiscreteActionHead", "L1ActionHead"])
def test_other_heads_and_the_robots_state_are_recorded_too(tmp_path, name):
    kwargs = {"readout_key": "obs", "use_map": True, "action_horizon": 4, "action_dim": 7}
    kwargs |= {"vocab_size": 16} if name == "DiscreteActionHead" else {}
    content = config(heads={"action": spec(name, "action_heads", **kwargs)})
    content["model"]["observation_tokenizers"]["proprio"] = spec(
        "LowdimObsTokenizer", "tokenizers", obs_keys=["proprio"], n_bins=16, discretize=True
    )
    made = write_checkpoint(tmp_path / "a", content)
    recorded, plain = (built(made, passes, state=True) for passes in ("recorded", "plain"))
    compared(recorded, plain, 2, 1e-3)
    assert recorded.parts.passes.facts() == {"graphs": 3}


@pytest.mark.parametrize("precision", ["bf16", "bnb_int8", "bnb_nf4", "torchao_int8wo", "torchao_fp8"])
def test_at_few_bits_a_pass_is_recorded_or_says_why_not(folder, precision):
    recorded, plain = (built(folder, passes, precision) for passes in ("recorded", "plain"))
    # float32 noise predictions of a bfloat16 readout: whatever differs is 31.6 times as large at the end
    compared(recorded, plain, 1, 0.05)
    facts = recorded.parts.passes.facts()
    assert facts["graphs"] == 3 - (len(facts) - 1)


@pytest.fixture(scope="module")
def cell():
    """octo-small at its full size with random weights, one episode."""
    (made,) = bench(with_random_weights(read_card("octo-small")), ["fp32"], [1], rounds=30)
    assert made.error is None, made.error
    return made


def test_at_full_size_every_pass_is_a_graph(cell):
    assert cell.facts["graphs"] == 3
    assert not [name for name in cell.facts if name.startswith("no graph")]


def test_at_full_size_graphs_give_the_actions_of_plain_passes():
    policy = build(with_random_weights(read_card("octo-small")), "fp32")
    plain = profile(policy).plain
    assert isinstance(plain, OctoPolicy)
    compared(policy, plain, 1, 5e-3)


def test_at_full_size_an_inference_takes_at_most_1_3_times_its_parts(cell):
    assert cell.whole_to_parts <= 1.3, (cell.latency_ms, cell.parts_ms)
