"""A new checkpoint of OpenVLA's architecture: it is small, and the loader of official ones reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.openvla import BRIDGE, picture, write_card

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import DataError, UnknownNameError
from vla_bench.learn.architecture import read_architecture
from vla_bench.learn.training.openvla.new_model import new_openvla, question_tokenizer
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.prompts import TEMPLATES, PromptTokenizer, prompt
from vla_bench.policy.tensors import SINGLE
from vla_bench.types import Observation

STATISTICS = {"bridge_base": BRIDGE}


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    return new_openvla(read_architecture("nano-openvla"), folder, STATISTICS)


def test_the_loader_of_official_checkpoints_makes_a_policy_of_it(nano, tmp_path, monkeypatch):
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path))
    write_card(tmp_path, "untrained", nano, dict(read_architecture("nano-openvla").options))
    policy = load_policy("untrained", "fp32")
    seen = Observation({"agentview": picture(0, 224, 224)}, {}, "put the carrot on the plate", 0)
    told = policy.explain([seen])
    assert policy.parts.tokens.vocabulary == policy.parts.model.config.vocabulary == 576
    assert told.chunk.actions.shape == (1, 7)
    assert np.isfinite(told.chunk.actions).all()


def test_any_text_is_spelled_and_the_question_is_not():
    tokenizer = question_tokenizer("openvla")
    encoded = tokenizer.encode(
        "In: What action should the robot take to Ünïcode 🥕?\nOut:", add_special_tokens=False
    )
    assert "<unk>" not in encoded.tokens
    assert tokenizer.decode(encoded.ids).startswith("In: What action should the robot take to Ünïcode 🥕")
    assert "Ġaction" in encoded.tokens
    assert not any("carrot" in token for token in tokenizer.get_vocab())


def test_the_vocabulary_has_room_for_the_action_tokens_behind_all_words(nano):
    used = PromptTokenizer(nano)(prompt("".join(map(chr, range(32, 1000))), "openvla"))
    assert max(used) < 576 - 256
    assert used[0] == 1
    assert question_tokenizer("openvla").id_to_token(used[-1]) == "▁"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_tokenizer_is_the_same_every_time(template):
    assert question_tokenizer(template).to_str() == question_tokenizer(template).to_str()


def test_initial_weights_belong_to_their_seed(nano, tmp_path):
    architecture, first = read_architecture("nano-openvla"), load_file(nano / SINGLE)
    same = load_file(new_openvla(architecture, tmp_path / "same", STATISTICS) / SINGLE)
    other = load_file(new_openvla(architecture, tmp_path / "other", STATISTICS, seed=1) / SINGLE)
    head = "language_model.lm_head.weight"
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first[head], other[head])


def test_mistakes_name_what_exists(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'nano-openvla'"):
        read_architecture("nano-opnvla")
    with pytest.raises(UnknownNameError, match="prompt"):
        question_tokenizer("llava")
    broken = read_architecture("nano-openvla").model_copy(update={"dino": {"embed_dims": 64}})
    with pytest.raises(DataError, match="embed_dim"):
        new_openvla(broken, tmp_path, STATISTICS)
