"""Diffusion Policy at every precision of its cards: acts, and says how little of it is quantised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.diffusion import configuration, write_card, write_official
from torch import nn

from vla_bench import catalog
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.base import act_batch
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.diffusion.model import NOT_QUANTISED
from vla_bench.policy.precision import backend

LISTED = read_card("diffusion-lift").precisions
FEW_BITS = [name for name in LISTED if backend(name).scheme is not None]


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards")
    path = write_official(tmp_path_factory.mktemp("official") / "latest.ckpt", configuration())
    write_card(folder, "tiny", path, precisions=list(LISTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(folder))
        return {name: load_policy("tiny", name) for name in LISTED}


def test_all_cards_list_the_same_precisions():
    family = [card for name in catalog.policy_files() if (card := read_card(name)).family == "diffusion"]
    assert {card.precisions for card in family} == {LISTED}


@pytest.mark.parametrize("name", LISTED)
def test_it_acts_the_same_again_and_again(policies, name):
    policy = policies[name]
    given = histories(policy.spec, 1, 0)[0]
    actions = policy.act(given).actions
    assert actions.shape == (7, 7)
    assert np.isfinite(actions).all()
    np.testing.assert_array_equal(policy.act(given).actions, actions)


@pytest.mark.parametrize("name", FEW_BITS)
def test_the_share_that_is_quantised_is_counted_and_said_to_be_little(policies, name):
    net, report = policies[name].parts.net, policies[name].precision_report
    scheme = backend(name).scheme
    layers = [each for each in net.modules() if scheme.is_converted(each)]
    quantised = sum(layer.in_features * layer.out_features for layer in layers)
    whole = sum(parameter.numel() for parameter in policies["fp32"].parts.net.parameters())
    assert (report.layers, report.parameters_quantised, report.parameters) == (len(layers), quantised, whole)
    assert 0 < report.share < 0.5
    assert f"{100 * report.share:.1f} % of the parameters (less than half)" in str(report)


@pytest.mark.parametrize("name", FEW_BITS)
def test_only_the_networks_conditions_are_quantised(policies, name):
    net, plain = policies[name].parts.net, policies["bf16"].parts.net
    scheme = backend(name).scheme
    taken = {key for key, layer in net.named_modules() if scheme.is_converted(layer)}
    linear = {key for key, layer in plain.named_modules() if isinstance(layer, nn.Linear)}
    assert taken == {key for key in linear if not key.startswith(NOT_QUANTISED)}
    assert all("cond_encoder" in key for key in taken)
    for key, layer in plain.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d):
            assert torch.equal(net.get_submodule(key).weight, layer.weight), key


@pytest.mark.parametrize("name", [name for name in FEW_BITS if backend(name).scheme.batch_independent])
def test_a_batch_gives_what_single_calls_give_where_that_is_promised(policies, name):
    policy = policies[name]
    batch = histories(policy.spec, 3, 0)
    for row, chunk in enumerate(act_batch(policy, batch, [7, 8, 9])):
        policy.reset("", 7 + row)
        np.testing.assert_allclose(chunk.actions, policy.act(batch[row]).actions, rtol=0, atol=0.05)
