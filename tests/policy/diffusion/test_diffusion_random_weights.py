"""A diffusion policy with made-up weights: the published design, without any file, and it says what it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.diffusion import observation, write_card, write_official

from vla_bench import catalog
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy.base import precision_report
from vla_bench.policy.bench.measure import with_random_weights
from vla_bench.policy.cards import build_policy, read_card
from vla_bench.policy.diffusion.checkpoint import Trained
from vla_bench.policy.diffusion.conventions import agreed, read_conventions
from vla_bench.policy.diffusion.design import Design
from vla_bench.policy.diffusion.model import NOT_QUANTISED, DiffusionNet
from vla_bench.policy.diffusion.random_weights import made_up
from vla_bench.policy.precision import backend
from vla_bench.policy.quantization.scheme import choose

CPU = torch.device("cpu")
FAMILY = [name for name in catalog.policy_files() if read_card(name).family == "diffusion"]


def design_of(name: str) -> Design | None:
    return read_conventions(read_card(name)).design


DECLARED = [name for name in FAMILY if design_of(name) is not None]


def policy_trained(name: str) -> Trained:
    card = read_card(name)
    design = design_of(name)
    assert design is not None
    return made_up(design, card.source, CPU)


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_design_fits_the_rest_of_its_card(name):
    card, trained = read_card(name), policy_trained(name)
    design = agreed(card, read_conventions(card), trained)
    # as published: 16 actions from two observations, of which 8 are executed; 100 steps
    assert (design.history, design.horizon, design.executed) == (2, 16, card.chunk_executed)
    assert (design.diffusion.trained, design.diffusion.steps) == (100, 100)
    assert (design.vision.backbone, design.network.widths) == ("resnet18", (512, 1024, 2048))
    cut = DiffusionNet.on_meta(design).state_dict()
    assert {each: tensor.shape for each, tensor in trained.weights.items()} == {
        each: tuple(tensor.shape) for each, tensor in cut.items()
    }


def test_all_but_one_card_declare_a_design():
    assert set(FAMILY) - set(DECLARED) == {"diffusion-tool-hang"}, "whose crop is not known here"


def test_the_official_size_is_about_280_million_parameters():
    """Two ResNet-18 with 11.2 M each, and a U-Net of 255 M."""
    weights = policy_trained("diffusion-lift").weights
    vision = sum(math.prod(t.shape) for n, t in weights.items() if n.startswith("encoder"))
    unet = sum(math.prod(t.shape) for n, t in weights.items() if n.startswith("unet"))
    assert vision == pytest.approx(2 * 11.2e6, rel=0.02)
    assert unet == pytest.approx(255e6, rel=0.02)


@pytest.mark.parametrize("name", DECLARED)
def test_every_precision_of_a_card_quantises_something(name):
    card, design = read_card(name), design_of(name)
    assert design is not None
    for precision in card.precisions:
        scheme = backend(precision).scheme
        if scheme is not None:
            assert choose(DiffusionNet.on_meta(design), scheme, NOT_QUANTISED), precision
    scheme = backend("torchao_int4wo").scheme
    assert scheme is not None
    assert "torchao_int4wo" not in card.precisions
    assert not choose(DiffusionNet.on_meta(design), scheme, NOT_QUANTISED), "or it could be listed"


@pytest.fixture
def cards(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    return folder


def test_a_checkpoint_that_is_there_says_what_it_is_made_of(cards, tmp_path):
    path = write_official(tmp_path / "latest.ckpt")
    write_card(cards, "tiny", path)
    card = read_card("tiny")
    seen = [observation(0), observation(1, time_ns=50_000_000)]
    real, random = (
        build_policy(card, "fp32"),
        build_policy(card.model_copy(update={"options": {**card.options, "weights": "random"}}), "fp32"),
    )
    first, other = real.act(seen).actions, random.act(seen).actions
    assert first.shape == other.shape
    assert np.isfinite(other).all()
    assert not np.array_equal(first, other)
    said = [(precision_report(policy) or pytest.fail("no report")).settings for policy in (real, random)]
    assert [settings.get("weights") for settings in said] == [None, "random"]


def test_without_a_checkpoint_the_card_must_say_a_design(cards, tmp_path):
    with pytest.raises(MissingDataError, match=r"random weights need a checkpoint .* 'design'"):
        build_policy(with_random_weights(read_card("diffusion-tool-hang")), "fp32")
    # one that the user named is not replaced by something else
    named = read_card(f"diffusion-lift:{tmp_path / 'nowhere.ckpt'}")
    with pytest.raises(MissingDataError, match=r"nowhere\.ckpt: no such folder"):
        build_policy(with_random_weights(named), "fp32")


def test_a_design_that_does_not_fit_its_card_is_refused():
    card = read_card("diffusion-lift")
    card = card.model_copy(update={"chunk_predicted": 12})
    with pytest.raises(ConventionError, match="chunk_predicted is 12, the checkpoint's 15"):
        build_policy(with_random_weights(card), "fp32")


@pytest.mark.parametrize("name", FAMILY)
def test_published_numbers_are_of_several_checkpoints_and_never_tested_as_a_rate(name):
    for number in read_card(name).reference:
        assert number.metric == "best_checkpoint_percent"
        assert "last 10 checkpoints" in number.note
        assert number.trials == 150
    assert read_card(name).reference
