"""Octo with made-up weights has the published sizes, runs without any file, and says what it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.octo import card_of, write_checkpoint

from vla_bench import catalog
from vla_bench.errors import MissingDataError
from vla_bench.policy.bench.measure import with_random_weights
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import read_card
from vla_bench.policy.octo.adapter import build
from vla_bench.policy.octo.checkpoint import HEAD, modules_of
from vla_bench.policy.octo.config import read_config
from vla_bench.policy.octo.conventions import read_conventions
from vla_bench.policy.octo.random_weights import random_checkpoint

CPU = torch.device("cpu")
FAMILY = [name for name in catalog.policy_files() if read_card(name).family == "octo"]
# published: millions of parameters without T5's encoder, which has 109.6
MILLIONS = {"octo-small": 27, "octo-base": 93, "octo-small-1.5": 27, "octo-base-1.5": 93}


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_sizes_are_the_published_ones(name, millions):
    source = random_checkpoint(name, ["bridge_dataset"], CPU)
    stored = source.tensors(read_config(source.folder))
    sizes = {each: math.prod(tensor.shape) for each, tensor in stored.items()}
    text = sum(size for each, size in sizes.items() if each.startswith("text."))
    assert text == pytest.approx(109.6e6, rel=1e-3)
    assert sum(sizes.values()) - text == pytest.approx(1e6 * millions, rel=0.03)
    model, head = modules_of(read_config(source.folder), stored, source.folder)
    assert set(stored) == {*model.state_dict(), *(HEAD + each for each in head.state_dict())}


@pytest.mark.parametrize("name", FAMILY)
def test_every_card_says_whose_sizes_made_up_weights_have(name):
    conventions = read_conventions(read_card(name))
    assert conventions.architecture == name
    source = random_checkpoint(name, [], CPU)
    config = read_config(source.folder)
    assert config.repeat_task == config.correct_attention == name.endswith("-1.5")


def test_weights_are_the_same_every_time_and_of_moderate_size():
    first, second = (random_checkpoint("octo-small", [], CPU) for _ in range(2))
    config = read_config(first.folder)
    pairs = zip(first.tensors(config).items(), second.tensors(config).values(), strict=True)
    for (name, one), other in list(pairs)[:40]:
        drawn = one.read()
        assert torch.equal(drawn, other.read()), name
        assert drawn.abs().mean() < 2.0, name


def test_what_was_made_up_goes_with_the_checkpoint():
    source = random_checkpoint("octo-base", [], CPU)
    assert source.folder.is_dir()
    source.held.cleanup()
    assert not source.folder.exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")


def test_a_checkpoint_that_is_there_says_the_sizes(folder):
    card = with_random_weights(card_of(folder))
    policy, other = build(card, "fp32"), build(card_of(folder), "fp32")
    given = histories(policy.spec, 1, 0)[0]
    actions = policy.act(given).actions
    assert actions.shape == (4, 7)
    assert np.isfinite(actions).all()
    assert not np.array_equal(actions, other.act(given).actions)
    np.testing.assert_array_equal(build(card, "fp32").act(given).actions, actions)


def test_the_report_says_that_the_weights_are_random(folder):
    card = card_of(folder)
    assert build(with_random_weights(card), "fp32").precision_report.settings["weights"] == "random"
    assert "weights" not in build(card, "fp32").precision_report.settings


def test_without_a_checkpoint_the_card_must_say_whose_sizes_are_meant(folder):
    lost = folder / "nowhere"
    with pytest.raises(MissingDataError, match=r"random weights need a checkpoint .* 'architecture'"):
        build(with_random_weights(card_of(lost)), "fp32")
    # a folder that the user named is not replaced by something else
    card = card_of(folder, architecture="octo-small")
    card.options["checkpoint"] = str(lost)
    with pytest.raises(MissingDataError, match="no such folder"):
        build(with_random_weights(card), "fp32")
