"""What an Octo policy tells of its speed: parts that add up to the whole, and work by its sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.octo import card_of, config, spec, write_checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vla_bench.policy.bench.scene import histories
from vla_bench.policy.counting import work_of
from vla_bench.policy.octo.adapter import build
from vla_bench.policy.octo.profiling import RULES, plain_passes
from vla_bench.policy.profile import Work, profile

STEPS = 5
PHASES = ["inference.vision", "inference.transformer", "inference.head"]
BOTH = {"primary": {"camera": "agentview", "crop_area": 0.9}, "wrist": {"camera": "wrist"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def policy(folder, request):
    return build(card_of(folder, cameras=BOTH), request.param)


def modules(policy) -> list[torch.nn.Module]:
    return [policy.parts.model, policy.parts.head]


def works(policy, rows: int = 1) -> dict[str, Work]:
    told = profile(policy)
    assert told.work is not None
    return dict(told.work(histories(policy.spec, rows, 0)))


def test_the_parts_are_the_modules_and_the_head_once_for_each_step(policy):
    parts = plain_passes(policy.parts, histories(policy.spec, 1, 0))
    assert [(part.phase, part.times) for part in parts] == [
        ("inference.vision", 1), ("inference.vision", 1), ("inference.transformer", 1),
        ("inference.transformer", 1), ("inference.head", STEPS),
    ]  # fmt: skip
    found = parts[-1].call()
    assert isinstance(found, torch.Tensor)
    assert torch.isfinite(found).all()
    assert found.is_inference(), "nothing is kept for training"


@pytest.mark.parametrize("rows", [1, 3])
def test_an_answer_multiplies_no_more_than_its_parts(policy, rows):
    """The whole is counted while it acts: nothing in it is computed twice, and texts are encoded once."""
    given = histories(policy.spec, rows, 0)
    policy.act_seeded(given, range(rows))  # encodes the text
    whole = work_of(lambda: policy.act_seeded(given, range(rows)), modules(policy), None, RULES)
    parts = works(policy, rows)
    assert list(parts) == PHASES
    assert whole.flops == sum(work.flops for work in parts.values()) > 0
    assert whole.bytes == sum(work.bytes for work in parts.values())


def test_work_is_what_the_sizes_say(policy):
    """16 tokens of text, then in each of 2 time steps 4 + 1 of pictures, the text again, and a readout."""
    tokens, width, hidden, blocks = 16 + 2 * (4 + 1 + 16 + 1), 32, 64, 2
    found, text = works(policy)["inference.transformer"], 16 * width
    matrices = blocks * (4 * width**2 + 2 * width * hidden)
    assert found.flops == 2 * tokens * matrices + blocks * 4 * tokens**2 * width + 2 * 16 * text
    assert found.bytes == (matrices + text) * policy.parts.model.dtype.itemsize
    head = works(policy)["inference.head"]
    elements = (32 + width + 28) * 16 + 32 * 64 + 64 * 32 + 16 * 64 + 64 * 16 + 16 * 28
    assert (head.flops, head.bytes) == (STEPS * 2 * elements, STEPS * 4 * elements)


def test_operations_beside_attention_are_those_that_torch_counts(folder):
    policy = build(card_of(folder), "fp32")
    given = histories(policy.spec, 2, 0)
    for part in plain_passes(policy.parts, given):
        with FlopCounterMode(display=False) as counter:
            part.call()
        counted = {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}
        products = sum(flops for name, flops in counted.items() if "attention" not in name)
        found = work_of(part.call, modules(policy)).flops
        assert found > 0
        # the frequencies of the head's time are no layer: a product of 1 × 16 numbers
        assert found == pytest.approx(products, rel=0.03), part.phase


def test_a_batch_multiplies_arithmetic_but_reads_weights_once(policy):
    one, four = works(policy), works(policy, 4)
    for phase in PHASES:
        assert four[phase].flops == 4 * one[phase].flops
        assert four[phase].bytes == one[phase].bytes


def of_l1_head() -> dict:
    kwargs = {"readout_key": "obs", "use_map": True, "action_horizon": 4, "action_dim": 7}
    return config(heads={"action": spec("L1ActionHead", "action_heads", **kwargs)})


def of_state() -> dict:
    content = config()
    content["model"]["observation_tokenizers"]["proprio"] = spec(
        "LowdimObsTokenizer", "tokenizers", obs_keys=["proprio"], n_bins=16, discretize=True
    )
    return content


@pytest.mark.parametrize(("content", "options"), [(of_l1_head(), {}), (of_state(), {"state": True})])
def test_models_of_other_parts_tell_them_too(tmp_path, content, options):
    policy = build(card_of(write_checkpoint(tmp_path / "a", content), **options), "fp32")
    given = histories(policy.spec, 1, 0)
    policy.act_seeded(given, [0])
    whole = work_of(lambda: policy.act_seeded(given, [0]), modules(policy), None, RULES)
    assert whole.flops == sum(work.flops for work in works(policy).values())


def test_an_instruction_is_encoded_once(policy):
    given = histories(policy.spec, 1, 0)
    policy.act(given[0])
    encoder = policy.parts.model.text
    calls = []
    hook = encoder.register_forward_hook(lambda *_: calls.append(1))
    for scene in range(3):
        policy.act(histories(policy.spec, 1, scene)[0])
    hook.remove()
    assert not calls


def test_passes_that_are_called_as_they_are_give_the_same_actions(folder):
    recorded, plain = (build(card_of(folder, passes=name), "fp32") for name in ("recorded", "plain"))
    given = histories(recorded.spec, 1, 0)[0]
    np.testing.assert_array_equal(recorded.act(given).actions, plain.act(given).actions)
    assert profile(plain).plain is None


def test_the_noise_of_an_episode_does_not_depend_on_the_batch(folder):
    policy = build(card_of(folder), "fp32")
    batch, seeds = histories(policy.spec, 4, 0), [3, 1, 4, 1]
    together = policy._noise(batch, seeds)
    for row, (history, seed) in enumerate(zip(batch, seeds, strict=True)):
        np.testing.assert_array_equal(policy._noise([history], [seed])[0], together[row])
    assert not np.array_equal(together[0], together[1])
