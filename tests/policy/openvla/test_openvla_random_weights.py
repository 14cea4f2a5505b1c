"""A made-up checkpoint has the sizes of a real one, and runs without any file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.openvla import BRIDGE_OPTIONS, picture, write_card, write_checkpoint

from vla_bench import catalog
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import MissingDataError
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.openvla.checkpoint import Source, config_of
from vla_bench.policy.openvla.conventions import read_conventions
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.prompts import EMPTY, PromptTokenizer, prompt
from vla_bench.policy.openvla.random_weights import random_source
from vla_bench.types import Observation

CPU = torch.device("cpu")
FAMILY = [name for name in catalog.policy_files() if read_card(name).family == "openvla"]


def test_without_a_folder_it_is_openvla_7b_to_the_byte():
    source = random_source(None, ["bridge_orig"], CPU)
    stored = source.weights()
    assert len(stored) == 982
    sizes = (torch.Size(tensor.shape).numel() * tensor.dtype.itemsize for tensor in stored.values())
    assert sum(sizes) == 15_082_474_368
    assert list(config_of(source).statistics) == ["bridge_orig"]


def test_its_prompts_are_about_as_long_as_llamas():
    source = random_source(None, [], CPU)
    text = prompt("put the carrot on the plate", "openvla")
    ids = PromptTokenizer(source.holding("tokenizer.json"))(text)
    # Llama's tokenizer: the beginning, 20 tokens, the lone word boundary
    assert 20 <= len(ids) <= 24
    assert ids[-1] == EMPTY


def test_weights_are_the_same_every_time_and_of_moderate_size(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    first, second = (random_source(folder, [], CPU).weights() for _ in range(2))
    assert list(first) == list(OpenVla.on_meta(config_of(Source(folder))).state_dict())
    for name in list(first)[:12]:
        drawn = first[name].read()
        assert torch.equal(drawn, second[name].read())
        assert drawn.dtype == torch.bfloat16
        assert drawn.float().abs().mean() < 2.0


def test_what_was_made_up_goes_with_the_source():
    source = random_source(None, [], CPU)
    folder = source.folder
    assert folder.is_dir()
    source.held.cleanup()
    assert not folder.exists()


@pytest.mark.parametrize("head", ["tokens", "l1", "diffusion", "discrete"])
def test_every_head_runs_with_random_weights(head, tmp_path, monkeypatch):
    # sizes from a folder without weights; nothing else is read
    folder = write_checkpoint(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"norm_stats": {', '"norm_stats": {"x": {"action": '
        '{"q01": [-1, -1, -1, -1, -1, -1, -1], "q99": [1, 1, 1, 1, 1, 1, 1]}, "proprio": '
        '{"q01": [-1, -1, -1, -1, -1, -1, -1, -1], "q99": [1, 1, 1, 1, 1, 1, 1, 1]}}, ')
    )  # fmt: skip
    options = {**BRIDGE_OPTIONS, "head": head, "weights": "random", "unnorm_key": "x"}
    if head == "l1":
        options |= {"state": True, "film": True, "cameras": ["agentview", "robot0_eye_in_hand"]}
    if head == "diffusion":
        options["diffusion_steps"] = 2
    write_card(tmp_path / "cards", "tiny", folder, options, chunk_predicted=1 if head == "tokens" else 8)
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    policy = load_policy("tiny", "bf16")
    images = {"agentview": picture(0), "robot0_eye_in_hand": picture(1)}
    sizes = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
    proprio = {name: np.full(size, 0.5) for name, size in sizes.items()}
    chunk = policy.act([Observation(images, proprio, "lift it", 0)])
    assert chunk.actions.shape == (policy.spec.chunk_length, 7)
    assert np.isfinite(chunk.actions).all()


@pytest.mark.parametrize("name", FAMILY)
def test_every_card_says_whose_sizes_it_has_unless_they_are_not_known(name):
    assert (read_conventions(read_card(name)).architecture == "openvla-7b") == ("v01" not in name)


def test_random_weights_need_sizes(tmp_path, monkeypatch):
    write_card(tmp_path, "lost", tmp_path / "nowhere", {**BRIDGE_OPTIONS, "weights": "random"})
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(MissingDataError, match=r"random weights need a checkpoint folder .* 'architecture'"):
        load_policy("lost", "bf16")
