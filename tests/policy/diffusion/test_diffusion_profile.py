"""What a diffusion policy tells of its speed: parts that add up to the whole, and work as torch counts it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.diffusion import configuration, write_card, write_official
from torch.utils.flop_counter import FlopCounterMode

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import load_policy
from vla_bench.policy.counting import work_of
from vla_bench.policy.diffusion.profiling import plain_passes
from vla_bench.policy.diffusion.unet import TimeConv
from vla_bench.policy.profile import Work, profile

PHASES = ["inference.vision", "inference.denoise"]


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    path = write_official(tmp_path_factory.mktemp("official") / "latest.ckpt", configuration())
    write_card(folder, "tiny", path)
    write_card(folder, "fewer", path, {"sampler": "ddim", "steps": 5})
    write_card(folder, "plain", path, {"passes": "plain"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def policy(cards, request):
    return load_policy("tiny", request.param)


def works(policy, rows: int = 1) -> dict[str, Work]:
    told = profile(policy)
    assert told.work is not None
    return dict(told.work(histories(policy.spec, rows, 0)))


def test_the_parts_are_the_encoder_and_the_network_once_for_each_step(cards):
    for name, steps in (("tiny", 10), ("fewer", 5)):
        policy = load_policy(name)
        parts = plain_passes(policy.parts, histories(policy.spec, 1, 0))
        assert [(part.phase, part.times) for part in parts] == list(zip(PHASES, (1, steps), strict=True))
        assert profile(policy).facts()["steps"] == steps


@pytest.mark.parametrize("rows", [1, 3])
def test_an_answer_multiplies_no_more_than_its_parts(policy, rows):
    """The whole is counted while it acts: nothing in it is computed twice."""
    given = histories(policy.spec, rows, 0)
    whole = work_of(lambda: policy.act_seeded(given, range(rows)), [policy.parts.net])
    parts = works(policy, rows)
    assert list(parts) == PHASES
    assert whole.flops == sum(work.flops for work in parts.values()) > 0
    assert whole.bytes == sum(work.bytes for work in parts.values())


def test_operations_are_those_that_torch_counts(cards):
    policy = load_policy("tiny")
    for part in plain_passes(policy.parts, histories(policy.spec, 2, 0)):
        with FlopCounterMode(display=False) as counter:
            part.call()
        assert work_of(part.call, [policy.parts.net]).flops == counter.get_total_flops() > 0


def test_a_batch_multiplies_arithmetic_but_reads_weights_once(policy):
    one, four = works(policy), works(policy, 4)
    for phase in PHASES:
        assert four[phase].flops == 4 * one[phase].flops
        assert four[phase].bytes == one[phase].bytes


def test_every_step_reads_all_weights_of_the_network(policy):
    layers = [
        each
        for each in policy.parts.net.unet.modules()
        if isinstance(each, torch.nn.Linear | torch.nn.Conv1d | torch.nn.ConvTranspose1d)
    ]
    assert works(policy)["inference.denoise"].bytes == 10 * sum(each.weight.nbytes for each in layers)


def test_passes_that_are_called_as_they_are_give_the_same_actions(cards):
    recorded, plain = load_policy("tiny"), load_policy("plain")
    given = histories(recorded.spec, 1, 0)[0]
    np.testing.assert_array_equal(recorded.act(given).actions, plain.act(given).actions)
    assert profile(plain).plain is None


def test_the_noise_of_an_episode_does_not_depend_on_the_batch(cards):
    policy = load_policy("tiny")
    batch, seeds = histories(policy.spec, 4, 0), [3, 1, 4, 1]
    together = policy._noise(batch, seeds)
    for row, (history, seed) in enumerate(zip(batch, seeds, strict=True)):
        np.testing.assert_array_equal(policy._noise([history], [seed])[:, 0], together[:, row])
    assert not np.array_equal(together[:, 0], together[:, 1])


@pytest.mark.parametrize(("kernel", "rows", "instants"), [(5, 1, 4), (3, 3, 16), (1, 2, 1)])
def test_a_convolution_over_time_is_the_ordinary_one(kernel, rows, instants):
    torch.manual_seed(kernel)
    layer = TimeConv(6, 10, kernel)
    given = torch.randn(rows, 6, instants, requires_grad=True)
    found, expected = layer(given), torch.nn.Conv1d.forward(layer, given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(each.square().sum(), given)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
