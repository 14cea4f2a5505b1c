"""Octo at every precision of its cards: acts, says what share is quantised, and keeps what is narrow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.octo import card_of, write_checkpoint
from torch import nn

from vla_bench import catalog
from vla_bench.errors import MissingCapabilityError
from vla_bench.policy.base import act_batch
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import read_card
from vla_bench.policy.octo.adapter import build
from vla_bench.policy.precision import backend

LISTED = read_card("octo-small").precisions
ON_CPU = [name for name in LISTED if name != "torchao_int4wo"]
FEW_BITS = [name for name in ON_CPU if backend(name).scheme is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")


@pytest.fixture(scope="module")
def policies(folder):
    return {name: build(card_of(folder), name) for name in ON_CPU}


def test_all_cards_list_the_same_precisions():
    family = [card for name in catalog.policy_files() if (card := read_card(name)).family == "octo"]
    assert {card.precisions for card in family} == {LISTED}


@pytest.mark.parametrize("name", ON_CPU)
def test_it_acts_the_same_again_and_again(policies, name):
    policy = policies[name]
    given = histories(policy.spec, 1, 0)[0]
    actions = policy.act(given).actions
    assert actions.shape == (4, 7)
    assert np.isfinite(actions).all()
    np.testing.assert_array_equal(policy.act(given).actions, actions)


@pytest.mark.parametrize("name", FEW_BITS)
def test_the_share_that_is_quantised_is_counted_and_said(policies, name):
    policy, report = policies[name], policies[name].precision_report
    scheme = backend(name).scheme
    layers = [each for each in policy.parts.model.modules() if scheme.is_converted(each)]
    quantised = sum(layer.in_features * layer.out_features for layer in layers)
    whole = sum(p.numel() for part in (policies["fp32"].parts.model, policies["fp32"].parts.head)
                for p in part.parameters())  # fmt: skip
    assert (report.layers, report.parameters_quantised, report.parameters) == (len(layers), quantised, whole)
    assert 0 < report.share == quantised / whole < 1
    assert f"{100 * report.share:.1f} % of the parameters" in str(report)
    assert report.bytes < policies["fp32"].precision_report.bytes


@pytest.mark.parametrize("name", FEW_BITS)
def test_convolutions_the_head_and_t5s_wo_stay_as_they_are(policies, name):
    model, plain = policies[name].parts.model, policies["bf16"].parts.model
    scheme = backend(name).scheme
    linear = {key for key, layer in plain.named_modules() if isinstance(layer, nn.Linear)}
    kept = {key for key in linear if not scheme.is_converted(model.get_submodule(key))}
    assert kept == {key for key in linear if key.endswith(".wo")}
    for key, layer in plain.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.equal(model.get_submodule(key).weight, layer.weight), key
    head = policies[name].parts.head
    assert not any(scheme.is_converted(layer) for layer in head.modules())
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", [name for name in FEW_BITS if backend(name).scheme.batch_independent])
def test_a_batch_gives_what_single_calls_give_where_that_is_promised(policies, name):
    """In bfloat16 and after denoising, whose first step makes differences 31.6 times as large."""
    policy = policies[name]
    batch = histories(policy.spec, 3, 0)
    for row, chunk in enumerate(act_batch(policy, batch, [7, 8, 9])):
        policy.reset("", 7 + row)
        np.testing.assert_allclose(chunk.actions, policy.act(batch[row]).actions, rtol=0, atol=0.05)


def test_what_needs_a_gpu_says_so_before_anything_is_read(folder):
    with pytest.raises(MissingCapabilityError, match="'torchao_int4wo' needs a CUDA GPU"):
        build(card_of(folder / "nowhere", device="cpu"), "torchao_int4wo")
