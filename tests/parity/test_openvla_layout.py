"""Names, shapes and size of the official checkpoint; needs no recordings, and no weights."""

from __future__ import annotations

from support.openvla import DINO, SIGLIP, write_json

from vla_bench.policy.openvla.config import read_config
from vla_bench.policy.openvla.model import OpenVla

# openvla-7b's config.json, without the statistics
OFFICIAL = {
    "arch_specifier": "no-align+fused-gelu-mlp",
    "hf_llm_id": "meta-llama/Llama-2-7b-hf",
    "image_resize_strategy": "resize-naive",
    "image_sizes": [224, 224],
    "model_type": "openvla",
    "n_action_bins": 256,
    "pad_to_multiple_of": 64,
    "pad_token_id": 32000,
    "text_config": {
        "model_type": "llama",
        "pad_token_id": 32000,
        "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
    "timm_model_ids": [DINO, SIGLIP],
    "timm_override_act_layers": [None, None],
    "torch_dtype": "bfloat16",
    "use_fused_vision_backbone": True,
    "vision_backbone_id": "dinosiglip-vit-so-224px",
}


def linear(name: str, n_in: int, n_out: int) -> dict:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name: str, width: int) -> dict:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def tower(prefix: str, width: int, hidden: int, depth: int) -> dict:
    shapes = {
        f"{prefix}.pos_embed": (1, 256, width),
        f"{prefix}.patch_embed.proj.weight": (width, 3, 14, 14),
        f"{prefix}.patch_embed.proj.bias": (width,),
        **norm(f"{prefix}.norm", width),
    }
    for i in range(depth):
        block = f"{prefix}.blocks.{i}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, hidden) | linear(f"{block}.mlp.fc2", hidden, width)
    return shapes


def official_shapes() -> dict:
    dino, siglip = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
    pool, llama = f"{siglip}.attn_pool", "language_model.model"
    shapes = tower(dino, 1024, 4096, 24) | tower(siglip, 1152, 4304, 27)
    shapes |= {f"{dino}.cls_token": (1, 1, 1024), f"{dino}.reg_token": (1, 4, 1024)}
    shapes |= {f"{dino}.blocks.{i}.ls{j}.scale_factor": (1024,) for i in range(24) for j in (1, 2)}
    shapes |= (
        {f"{pool}.latent": (1, 1, 1152)} | linear(f"{pool}.q", 1152, 1152) | linear(f"{pool}.kv", 1152, 2304)
    )
    shapes |= linear(f"{pool}.proj", 1152, 1152) | norm(f"{pool}.norm", 1152)
    shapes |= linear(f"{pool}.mlp.fc1", 1152, 4304) | linear(f"{pool}.mlp.fc2", 4304, 1152)
    shapes |= linear("projector.fc1", 2176, 8704) | linear("projector.fc2", 8704, 4096)
    shapes |= linear("projector.fc3", 4096, 4096)
    shapes |= {f"{llama}.embed_tokens.weight": (32064, 4096), f"{llama}.norm.weight": (4096,)}
    shapes |= {"language_model.lm_head.weight": (32064, 4096)}
    for i in range(32):
        layer = f"{llama}.layers.{i}"
        shapes |= {f"{layer}.{n}_layernorm.weight": (4096,) for n in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{n}_proj.weight": (4096, 4096) for n in "qkvo"}
        shapes |= {f"{layer}.mlp.{n}_proj.weight": (11008, 4096) for n in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (4096, 11008)}
    return shapes


def test_openvla_at_full_size_has_the_names_shapes_and_bytes_of_the_official_index(tmp_path):
    write_json(tmp_path / "config.json", OFFICIAL)
    model = OpenVla.on_meta(read_config(tmp_path))
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == official_shapes()
    assert len(found) == 982
    assert sum(2 * tensor.numel() for tensor in model.state_dict().values()) == 15_082_474_368


def test_openvla_takes_llamas_defaults_from_when_it_was_trained(tmp_path):
    write_json(tmp_path / "config.json", OFFICIAL)
    llama = OpenVla.on_meta(read_config(tmp_path)).language_model.config
    assert llama.rms_norm_eps == 1e-6
    assert llama.rope_parameters["rope_theta"] == 10000.0
    assert llama.max_position_embeddings == 2048
    assert not llama.tie_word_embeddings
