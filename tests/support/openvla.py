"""Recordings of OpenVLA, and small checkpoints that run: with tokenizer, and widths that quantise."""

from __future__ import annotations

import functools
import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers

from support.goldens import goldens
from vla_bench.policy.openvla.config import read_config
from vla_bench.policy.openvla.model import OpenVla

_UNPACKED = tempfile.TemporaryDirectory()  # removed when the tests end
# models this small lose more by sharing the work than they gain
torch.set_num_threads(1)

DINO, SIGLIP = "vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"
BRIDGE = {
    "action": {
        "q01": [-0.03, -0.04, -0.04, -0.08, -0.09, -0.2, 0.0],
        "q99": [0.03, 0.04, 0.04, 0.08, 0.08, 0.2, 1.0],
        "min": [-0.4, -0.5, -0.5, -0.5, -0.5, -0.5, 0.0],
        "max": [0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0],
        "mask": [True] * 6 + [False],
    }
}
LIBERO = {
    "action": {
        "q01": [-0.75, -0.7, -0.9, -0.1, -0.2, -0.3, 0.0],
        "q99": [0.9, 0.8, 0.9, 0.2, 0.2, 0.3, 1.0],
        "mask": [True] * 6 + [False],
    },
    "proprio": {
        "q01": [-1.0, -1.0, 0.0, 0.0, -4.0, -4.0, 0.0, -0.1],
        "q99": [1.0, 1.0, 2.0, 4.0, 4.0, 4.0, 0.1, 0.0],
    },
}


def recorded(pattern: str) -> list:
    """One pytest parameter a file of the recordings; a single skipped (in CI: failing) one without them."""
    folder = unpacked(goldens("openvla"))
    found = sorted(folder.glob(pattern)) if folder else []
    if not found and os.environ.get("CI") != "true":
        reason = f"no recordings openvla/{pattern}: set VLA_BENCH_GOLDENS to a folder with them"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(p, id=p.name if p else "none") for p in found or [None]]


@functools.cache
def unpacked(folder: Path | None) -> Path | None:
    """The folder itself, or where it holds packed files (`*.gz`) a copy of it with these unpacked."""
    packed = sorted(folder.rglob("*.gz")) if folder else []
    if folder is None or not packed:
        return folder
    whole = Path(_UNPACKED.name) / "openvla"
    shutil.copytree(folder, whole, ignore=shutil.ignore_patterns("*.gz"))
    for file in packed:
        (whole / file.relative_to(folder).with_suffix("")).write_bytes(gzip.decompress(file.read_bytes()))
    return whole


def fair(path: Path, check: str) -> float:
    """The largest difference that the recordings' own table allows for `check`; 0 where it says exact."""
    bound = json.loads((path.parent / "tolerances.json").read_text())["checks"][check]["fair"]
    return 0.0 if bound == "exact" else bound


def write_checkpoint(
    folder: Path, *, seed: int = 0, towers: tuple[str, ...] = (DINO, SIGLIP), shards: int = 1
) -> Path:
    """Write a runnable checkpoint of the official layout with random bfloat16 weights; about 9 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"embed_dim": 64, "depth": 3, "num_heads": 2, "mlp_ratio": 4.0}
    config = {
        "arch_specifier": "no-align+fused-gelu-mlp" if len(towers) == 2 else "no-align+gelu-mlp",
        "model_type": "openvla",
        "timm_model_ids": list(towers),
        "timm_override_act_layers": [None] * len(towers),
        "image_sizes": [224] * len(towers),
        "use_fused_vision_backbone": len(towers) == 2,
        "n_action_bins": 256,
        "pad_to_multiple_of": 64,
        "norm_stats": {"bridge_orig": BRIDGE},
        "text_config": {
            "model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000, "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        },
    }  # fmt: skip
    write_json(folder / "config.json", config)
    write_json(folder / "tiny_overrides.json", {"timm_overrides": dict.fromkeys(towers, sizes)})
    write_json(folder / "preprocessor_config.json", preprocessor(len(towers)))
    tokenizer().save(str(folder / "tokenizer.json"))
    write_weights(folder, random_state(read_config(folder), seed), shards)
    return folder


def preprocessor(towers: int) -> dict:
    """A processor with the rounded constants of openvla-7b."""
    means, stds = (
        [[0.484375, 0.455078125, 0.40625], [0.5] * 3],
        [[0.228515625, 0.2236328125, 0.224609375], [0.5] * 3],
    )
    return {
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, 224, 224]] * towers,
        "interpolations": ["bicubic"] * towers,
        "means": [[0.485, 0.456, 0.406], [0.5] * 3][:towers],
        "stds": [[0.229, 0.224, 0.225], [0.5] * 3][:towers],
        "tvf_normalize_params": [{"mean": m, "std": s} for m, s in zip(means, stds, strict=True)][:towers],
    }  # fmt: skip


def tokenizer() -> Tokenizer:
    """A tokenizer of Llama's shape: 32,000 entries, bytes and characters, id 29871 the lone word boundary."""
    known = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    entries = dict(enumerate(known))
    letters = "etaoinsrhdlucmfywgpbvkxqjzETAOINSRHDLUCMFYWGPBVKXQJZ0123456789.,?!'-"
    entries |= {29872 + i: letter for i, letter in enumerate(letters)}
    entries |= {29871: "▁", 31999: ":"}
    vocabulary = {entries.get(i, f"<unused{i}>"): i for i in range(32000)}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return made


def random_state(config, seed: int, *, film: bool = False) -> dict[str, torch.Tensor]:
    """Random bfloat16 weights for every name of the model, small enough that logits stay moderate."""
    generator = torch.Generator().manual_seed(seed)
    expected = OpenVla.on_meta(config, film=film).state_dict()
    state = {}
    for name, tensor in expected.items():
        value = torch.randn(tensor.shape, generator=generator)
        is_scale = name.endswith(
            ("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "scale_factor")
        )
        scale = 0.1 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
        state[name] = (value * scale + is_scale).bfloat16()
    return state


def write_weights(folder: Path, state: dict[str, torch.Tensor], shards: int = 1) -> None:
    """Write tensors as one safetensors file, or as shards with an index."""
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return
    names = sorted(state)
    files = {f"model-{i + 1:05d}-of-{shards:05d}.safetensors": names[i::shards] for i in range(shards)}
    for file, members in files.items():
        save_file({name: state[name] for name in members}, folder / file)
    index = {
        "metadata": {},
        "weight_map": {name: file for file, members in files.items() for name in members},
    }
    write_json(folder / "model.safetensors.index.json", index)


def write_part(folder: Path, name: str, module: torch.nn.Module, seed: int) -> Path:
    """Write one of OFT's parts with random weights, as its training leaves it behind."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"module.{key}": (0.1 * torch.randn(t.shape, generator=generator)).bfloat16()
        for key, t in module.state_dict().items()
    }
    path = folder / f"{name}--100_checkpoint.pt"
    torch.save(state, path)
    return path


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def write_card(folder: Path, name: str, checkpoint: Path, options: dict, **keys) -> Path:
    """Write a policy card for a checkpoint folder."""
    lines = [
        f'title = "{name}"', 'family = "openvla"', 'adapter = "vla_bench.policy.openvla.adapter:build"',
        'licence = "MIT"', 'precisions = ["fp32", "bf16"]',
        *(f"{key} = {json.dumps(value)}" for key, value in keys.items()),
        "[checkpoint]", f"folder = {json.dumps(str(checkpoint))}",
        "[options]", *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines))
    return path


BRIDGE_OPTIONS = {
    "prompt": "openvla", "cameras": ["agentview"], "mirrored": False, "jpeg": True, "lanczos": True,
    "crop_area": 1.0, "unnorm_key": "bridge_orig", "units": "metres", "gripper": "one_opens",
    "head": "tokens",
}  # fmt: skip


def picture(seed: int, height: int = 256, width: int = 256) -> np.ndarray:
    """(height, width, 3) uint8 noise on a gradient."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    gradient = np.linspace(0, 190, width)[None, :, None]
    return (noise + gradient).astype(np.uint8)
