"""Vision towers of the single-backbone variants against independent implementations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from vla_bench.policy.openvla.config import TOWERS, Tower
from vla_bench.policy.openvla.vit import VisionTransformer

SMALL = {"width": 64, "depth": 4, "heads": 4, "image_px": 56}
CLIP = replace(TOWERS["vit_large_patch14_clip_224.openai"], activation="quick_gelu", **SMALL)


def random_tower(tower: Tower) -> VisionTransformer:
    torch.manual_seed(0)
    made = VisionTransformer(tower).eval()
    for parameter in made.parameters():
        parameter.data = 0.2 * torch.randn_like(parameter) + (
            parameter.data.mean() if parameter.ndim == 1 else 0
        )
    return made


def test_clip_is_that_of_transformers():
    ours = random_tower(CLIP)
    theirs = CLIPVisionModel(
        CLIPVisionConfig(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
                         image_size=56, patch_size=14, hidden_act="quick_gelu")
    ).eval()  # fmt: skip
    state = {
        "embeddings.class_embedding": ours.cls_token[0, 0],
        "embeddings.patch_embedding.weight": ours.patch_embed.proj.weight,
        "embeddings.position_embedding.weight": ours.pos_embed[0],
        "pre_layrnorm.weight": ours.norm_pre.weight, "pre_layrnorm.bias": ours.norm_pre.bias,
    }  # fmt: skip
    for i, block in enumerate(ours.blocks):
        layer = f"encoder.layers.{i}"
        for kind in ("weight", "bias"):
            for name, part in zip("qkv", getattr(block.attn.qkv, kind).chunk(3), strict=True):
                state[f"{layer}.self_attn.{name}_proj.{kind}"] = part
            state[f"{layer}.self_attn.out_proj.{kind}"] = getattr(block.attn.proj, kind)
            for theirs_name, module in (("layer_norm1", block.norm1), ("layer_norm2", block.norm2),
                                        ("mlp.fc1", block.mlp.fc1), ("mlp.fc2", block.mlp.fc2)):  # fmt: skip
                state[f"{layer}.{theirs_name}.{kind}"] = getattr(module, kind)
    named = {name.removeprefix("vision_model."): name for name in theirs.state_dict()}
    missing = theirs.load_state_dict({named[name]: value for name, value in state.items()}, strict=False)
    assert all("post_layernorm" in name for name in missing.missing_keys)
    compare(ours, theirs(pixels(56), output_hidden_states=True).hidden_states[-2][:, 1:], pixels(56))


def pixels(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


def compare(ours: VisionTransformer, expected: torch.Tensor, seen: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(ours(seen), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TOWERS)
def test_every_tower_gives_one_feature_a_patch(name):
    tower = replace(TOWERS[name], width=32, depth=2, heads=2)
    with torch.device("meta"):
        made = VisionTransformer(tower)
        features = made(torch.zeros(1, 3, tower.image_px, tower.image_px))
    assert features.shape == (1, tower.patches, 32)
