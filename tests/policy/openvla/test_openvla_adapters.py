"""Low-rank adapters, merged while reading, against PEFT's own merge."""

from __future__ import annotations

import re

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from support.openvla import random_state, write_checkpoint, write_json

from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.policy.openvla.checkpoint import Source, load_model
from vla_bench.policy.openvla.config import read_config
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.precision import backend

CPU, FP32 = torch.device("cpu"), backend("fp32")
# every linear layer and the patch convolutions, as "all-linear" gives for OpenVLA
TARGETS = r".*\.(qkv|proj|fc1|fc2|fc3|q|kv|[qkvo]_proj|gate_proj|up_proj|down_proj)"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("base"))


def randomise(module: torch.nn.Module, seed: int) -> None:
    """PEFT begins with B = 0, which would change nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("place", [".", "lora_adapter"])
def test_an_adapter_is_merged_as_peft_merges_it(base, tmp_path, rslora, place):
    model = load_model(Source(base), FP32, CPU)
    config = LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS, use_rslora=rslora)
    wrapped = get_peft_model(torch.nn.ModuleDict(dict(model.named_children())), config)
    randomise(wrapped, seed=3)
    wrapped.save_pretrained(tmp_path / place)
    expected = wrapped.merge_and_unload().state_dict()
    found = load_model(Source(tmp_path, base), FP32, CPU).state_dict()
    plain = load_model(Source(base), FP32, CPU).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)
    changed = [name for name in found if not torch.equal(found[name], plain[name])]
    assert sorted(changed) == sorted(n for n in found if re.fullmatch(TARGETS + r"\.weight", n))


def test_an_adapter_beside_whole_weights_is_already_in_them(base, tmp_path):
    for file in base.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "lora_adapter").mkdir()
    write_json(tmp_path / "lora_adapter/adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 2})
    assert Source(tmp_path).adapter is None
    assert load_model(Source(tmp_path), FP32, CPU)


def test_an_adapter_without_its_model_says_what_to_name(tmp_path, base):
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 2})
    (tmp_path / "config.json").symlink_to(base / "config.json")
    with pytest.raises(MissingDataError, match="option 'base'"):
        load_model(Source(tmp_path), FP32, CPU)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (
            {"peft_type": "LORA", "r": 4, "lora_alpha": 2},
            MissingDataError,
            r"adapter_model\.safetensors: missing",
        ),
        ({"peft_type": "IA3"}, DataError, "expected 'LORA', found 'IA3'"),
        ({"peft_type": "LORA", "r": 4}, DataError, "expected r and lora_alpha"),
        (
            {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "use_dora": True},
            MissingCapabilityError,
            "use_dora",
        ),
    ],
)
def test_an_adapter_that_cannot_be_used_says_why(base, tmp_path, config, error, words):
    write_json(tmp_path / "adapter_config.json", config)
    with pytest.raises(error, match=words):
        load_model(Source(tmp_path, base), FP32, CPU)


def test_a_pickled_adapter_is_refused(base, tmp_path):
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA", "r": 4, "lora_alpha": 2})
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match="refused"):
        load_model(Source(tmp_path, base), FP32, CPU)


@pytest.mark.parametrize("stated", [True, False])
def test_film_towers_with_adapters_replace_the_plain_ones(base, tmp_path, stated):
    """OFT writes the towers with PEFT's layers in them; rank and alpha stand in the adapter beside them."""
    for file in base.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = read_config(base)
    state = {
        k: v.float()
        for k, v in random_state(config, 5, film=True).items()
        if k.startswith("vision_backbone.")
    }
    vision = OpenVla(config, film=True).vision_backbone
    vision.load_state_dict({k.removeprefix("vision_backbone."): v for k, v in state.items()})
    rank, alpha = (8, 4) if stated else (32, 16)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS), vision)
    randomise(vision, seed=7)
    wrapped = {
        re.sub(r"(blocks\.\d+\.)(?!scale\.|shift\.)", r"\1block.", k): v
        for k, v in vision.state_dict().items()
    }
    assert any("base_layer" in name for name in wrapped)
    named = {f"module.vision_backbone.{k}": v for k, v in wrapped.items()}
    torch.save(named, tmp_path / "vision_backbone--9_checkpoint.pt")
    if stated:
        (tmp_path / "lora_adapter").mkdir()
        write_json(
            tmp_path / "lora_adapter/adapter_config.json",
            {"peft_type": "LORA", "r": rank, "lora_alpha": alpha},
        )
    model = load_model(Source(tmp_path), FP32, CPU, film=True)
    pixels = torch.randn(2, 6, 224, 224, generator=torch.Generator().manual_seed(1))
    language = torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(
            model.vision_backbone(pixels, language), vision(pixels, language), rtol=0, atol=1e-4
        )
