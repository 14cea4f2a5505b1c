"""Every road through the model gives the tokens of the plain one: static cache, drafts, generate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.openvla import write_checkpoint

from vla_bench.errors import ConventionError
from vla_bench.policy.openvla.checkpoint import Source, load_model
from vla_bench.policy.openvla.engine import Generating, Plain
from vla_bench.policy.openvla.fast import Fast
from vla_bench.policy.openvla.parallel import assemble
from vla_bench.policy.openvla.speculative import Speculative
from vla_bench.policy.precision import backend

CPU, STEPS = torch.device("cpu"), 7
SINGLE = [[1, 5, 6, 7, 29871]]
RAGGED = [[1, 5, 6, 29871], [1, 7, 8, 9, 10, 11, 29871], [1, 29871]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    loaded = load_model(
        Source(write_checkpoint(tmp_path_factory.mktemp("model"), seed=3)), backend("fp32"), CPU
    )
    # a model this small repeats one token for ever unless what it just said weighs more than the pictures
    loaded.language_model.model.embed_tokens.weight.data.mul_(8.0)
    return loaded


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((3, 6, 224, 224), dtype=np.float32))


@pytest.fixture(scope="module")
def expected(model, pixels):
    return {len(ids): Plain(model).tokens(pixels[: len(ids)], ids, STEPS) for ids in (SINGLE, RAGGED)}


def test_the_model_of_these_tests_says_different_things(expected):
    assert len(set(expected[3].tokens.flatten().tolist())) > STEPS, "else equal tokens would mean little"


@pytest.mark.parametrize("prompts", [SINGLE, RAGGED], ids=["one", "ragged"])
@pytest.mark.parametrize("engine", [Fast, Generating, Speculative])
def test_every_engine_gives_the_tokens_of_the_plain_one(model, pixels, expected, engine, prompts):
    road = engine(model)
    for _ in range(2):  # what a second call finds in the cache is no longer valid
        found = road.tokens(pixels[: len(prompts)], prompts, STEPS)
        torch.testing.assert_close(found.tokens, expected[len(prompts)].tokens, rtol=0, atol=0)
        torch.testing.assert_close(found.logits, expected[len(prompts)].logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", [Plain, Fast, Generating])
def test_an_end_of_text_token_does_not_end_the_action(tmp_path, pixels, engine):
    model = load_model(Source(write_checkpoint(tmp_path / "m", seed=3)), backend("fp32"), CPU)
    first = int(Plain(model).tokens(pixels[:1], SINGLE, 1).tokens[0, 0])
    head = model.language_model.lm_head.weight.data
    head[[first, 2]] = head[[2, first]]
    found = engine(model).tokens(pixels[:1], SINGLE, STEPS)
    assert found.tokens[0, 0] == 2
    assert found.tokens.shape == (1, STEPS)


def test_a_batch_of_equal_lengths_needs_no_mask_and_gives_the_same(model, pixels):
    prompts = SINGLE * 3
    found = Fast(model).tokens(pixels, prompts, STEPS)
    for i in range(3):
        alone = Plain(model).tokens(pixels[i : i + 1], SINGLE, STEPS)
        torch.testing.assert_close(found.tokens[i : i + 1], alone.tokens, rtol=0, atol=0)


def test_an_earlier_longer_prompt_leaves_nothing_behind(model, pixels, expected):
    road = Fast(model)
    road.tokens(pixels[1:2], [[1, *range(40, 70), 29871]], STEPS)
    found = road.tokens(pixels[:1], SINGLE, STEPS)
    torch.testing.assert_close(found.tokens, expected[1].tokens, rtol=0, atol=0)


@settings(max_examples=25)
@given(data=st.data())
def test_any_draft_gives_the_tokens_of_greedy_decoding(data, model, pixels, expected):
    prompts = data.draw(st.sampled_from([SINGLE, RAGGED]))
    right = expected[len(prompts)].tokens
    road = Speculative(model)
    keep = data.draw(st.lists(st.booleans(), min_size=right.numel(), max_size=right.numel()))
    noise = data.draw(
        st.lists(st.integers(0, 32063), min_size=right.numel(), max_size=right.numel()), label="noise"
    )
    road.draft = torch.where(torch.tensor(keep).view_as(right), right, torch.tensor(noise).view_as(right))
    found = road.tokens(pixels[: len(prompts)], prompts, STEPS)
    torch.testing.assert_close(found.tokens, right, rtol=0, atol=0)
    torch.testing.assert_close(found.logits, expected[len(prompts)].logits, rtol=0, atol=1e-4)
    assert 1 <= road.passes <= STEPS


def test_a_right_draft_needs_one_pass_and_a_wrong_first_token_costs_one(model, pixels, expected):
    road, right = Speculative(model), expected[1].tokens
    road.draft = right.clone()
    road.tokens(pixels[:1], SINGLE, STEPS)
    assert (road.passes, road.accepted, road.drafted) == (1, STEPS - 1, STEPS - 1)
    road.draft = right.clone()
    road.draft[0, 0] += 1
    road.tokens(pixels[:1], SINGLE, STEPS)
    assert road.passes == 3
    assert road.facts()["passes per action"] == 1.5
    assert road.facts()["acceptance"] == pytest.approx((road.drafted - 1) / road.drafted)


def test_a_new_episode_has_no_draft(model, pixels, expected):
    road = Speculative(model)
    road.tokens(pixels[:1], SINGLE, STEPS)
    torch.testing.assert_close(road.draft, expected[1].tokens)
    road.reset()
    assert road.draft is None


@pytest.mark.parametrize("prompts", [SINGLE, RAGGED], ids=["one", "ragged"])
@torch.inference_mode()
def test_a_pass_in_both_directions_is_the_plain_one(model, pixels, prompts):
    plain, fast = Plain(model), Fast(model)
    two = torch.cat([pixels, pixels.flip(0)], dim=1)[: len(prompts)]  # two pictures each
    seen = fast.see(two)
    torch.testing.assert_close(seen, plain.see(two), rtol=0, atol=1e-5)
    inputs = assemble(model, prompts, seen, 2 * STEPS)
    torch.testing.assert_close(fast.hidden(inputs, 14), plain.hidden(inputs, 14), rtol=0, atol=1e-5)


def test_the_time_of_a_call_is_told_by_pass(model, pixels):
    road = Fast(model)
    road.watch.restart()
    road.tokens(pixels[:1], SINGLE, STEPS)
    parts = {name: ms for name, ms in road.watch.timings_ms.items() if name != "inference"}
    assert set(parts) == {"inference.vision", "inference.prefill", "inference.decode"}
    assert sum(parts.values()) == pytest.approx(road.watch.timings_ms["inference"])


def test_moving_weights_together_keeps_them_and_their_names(tmp_path):
    source = Source(write_checkpoint(tmp_path / "m"))
    model = load_model(source, backend("bf16"), CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Fast(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    attention = model.language_model.model.layers[0].self_attn
    shared = {p.weight.untyped_storage().data_ptr() for p in (attention.q_proj, attention.v_proj)}
    assert len(shared) == 1, "one copy of the weights"


def test_a_prompt_beyond_the_models_positions_is_refused(model, pixels):
    with pytest.raises(ConventionError, match="need 2264 positions, the model has 2048"):
        Fast(model).tokens(pixels[:1], [[1] * 2001], STEPS)
