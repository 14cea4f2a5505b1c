"""What a checkpoint folder says about its model: `config.json`, and the vision towers by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vla_bench.errors import DataError, MissingCapabilityError, suggest
from vla_bench.policy.tensors import read_json

OVERRIDES = "tiny_overrides.json"


@dataclass(frozen=True, slots=True)
class Tower:
    """Sizes of one vision transformer; the defaults are those that most of timm's models share.

    Attributes:
        width, depth, heads: Features, blocks and attention heads.
        mlp_ratio: Hidden features of a block's MLP are int(width × mlp_ratio).
        patch_px, image_px: Side of a patch and of the picture.
        class_token, registers: Tokens before the patches.
        positions_cover_prefix: Position embeddings are added after the class token has been put in front.
        pre_norm: A norm before the first block, and no bias in the patch embedding (CLIP).
        layer_scale: Both residuals are scaled per feature (DINOv2).
        pooled: The checkpoint holds an attention pooling that is not used here (SigLIP).
        activation: SigLIP is exact GELU in timm, whatever other libraries say.
        norm_eps: Of all layer norms.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    patch_px: int = 14
    image_px: int = 224
    class_token: bool = False
    registers: int = 0
    positions_cover_prefix: bool = False
    pre_norm: bool = False
    layer_scale: bool = False
    pooled: bool = False
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    norm_eps: float = 1e-6

    @property
    def hidden(self) -> int:
        """Hidden features of a block's MLP."""
        return int(self.width * self.mlp_ratio)

    @property
    def patches(self) -> int:
        """Number of patches of a picture."""
        return (self.image_px // self.patch_px) ** 2

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches."""
        return self.class_token + self.registers


_CLIP = Tower(class_token=True, positions_cover_prefix=True, pre_norm=True, norm_eps=1e-5)
_SIGLIP = Tower(width=1152, depth=27, mlp_ratio=3.7362, pooled=True)
TOWERS: dict[str, Tower] = {
    "vit_large_patch14_reg4_dinov2.lvd142m": Tower(class_token=True, registers=4, layer_scale=True),
    "vit_so400m_patch14_siglip_224": _SIGLIP,
    "vit_so400m_patch14_siglip_384": _SIGLIP,
    "vit_large_patch14_clip_224.openai": _CLIP,
    "vit_large_patch14_clip_336.openai": _CLIP,
    "vit_large_patch16_224.augreg_in21k_ft_in1k": Tower(
        patch_px=16, class_token=True, positions_cover_prefix=True
    ),
}
# keyword arguments of timm that a checkpoint with towers of another size states in `tiny_overrides.json`
_TIMM_KEYS = {
    "embed_dim": "width", "depth": "depth", "num_heads": "heads", "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_px", "img_size": "image_px", "reg_tokens": "registers", "global_pool": "pooled",
}  # fmt: skip
_POOL = "global_pool"  # "map" is the attention pooling; every other way to pool has no weights

# Llama's defaults when OpenVLA was trained; `text_config` lists only what differs. transformers' own defaults
# have moved since, and Llama 2's rms_norm_eps is 1e-5: with it the logits are off by 0.13.
_LLAMA_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None, "tie_word_embeddings": False,
    "attention_bias": False, "mlp_bias": False,
}  # fmt: skip


class _ConfigFile(BaseModel):
    """The keys of `config.json` that matter; the file belongs to others, so further keys are no error."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    timm_model_ids: list[str]
    image_sizes: list[int]
    timm_override_act_layers: list[Literal["gelu", "quick_gelu"] | None] | None = None
    use_fused_vision_backbone: bool
    text_config: dict[str, Any]
    n_action_bins: int = 256
    pad_to_multiple_of: int = 64
    norm_stats: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model as its folder describes it.

    Attributes:
        towers: One or two vision towers.
        llama: Arguments of transformers' LlamaConfig, complete.
        bins: Number of edges that divide [−1, 1] into action tokens.
        vocabulary: Number of text tokens, without the padding of the embedding.
        statistics: Normalisation statistics by dataset; a `dataset_statistics.json` replaces them.
    """

    towers: tuple[Tower, ...]
    llama: Mapping[str, Any]
    bins: int
    vocabulary: int
    statistics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hidden(self) -> int:
        """Features of the language model."""
        return self.llama["hidden_size"]

    @property
    def vision_width(self) -> int:
        """Features of all towers together."""
        return sum(tower.width for tower in self.towers)


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json` of a checkpoint folder, and `tiny_overrides.json` where there is one.

    Raises:
        MissingDataError: There is no `config.json`.
        DataError: It lacks a key or contradicts itself.
        MissingCapabilityError: It names a vision tower or a language model that is not implemented.
    """
    path = folder / "config.json"
    try:
        file = _ConfigFile.model_validate(read_json(path))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(path, problems) from error
    count = len(file.timm_model_ids)
    if count != (2 if file.use_fused_vision_backbone else 1) or len(file.image_sizes) != count:
        raise DataError(
            path,
            f"use_fused_vision_backbone = {file.use_fused_vision_backbone} does not go with "
            f"{count} timm_model_ids and {len(file.image_sizes)} image_sizes",
        )
    overrides = _read_overrides(folder)
    activations = file.timm_override_act_layers or [None] * count
    towers = tuple(
        _tower(path, name, size, activation, overrides.get(name, {}))
        for name, size, activation in zip(file.timm_model_ids, file.image_sizes, activations, strict=True)
    )
    llama = _llama(path, file.text_config)
    vocabulary = llama["vocab_size"] - file.pad_to_multiple_of
    return ModelConfig(towers, llama, file.n_action_bins, vocabulary, file.norm_stats or {})


def _tower(path: Path, name: str, size: int, activation: Any, overrides: dict[str, Any]) -> Tower:
    if name not in TOWERS:
        raise MissingCapabilityError(
            f"{path}: vision tower {name!r} is not implemented{suggest(name, TOWERS)}"
        )
    tower = replace(TOWERS[name], image_px=size, **overrides)
    return tower if activation is None else replace(tower, activation=activation)


def _read_overrides(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / OVERRIDES
    if not path.is_file():
        return {}
    overrides = {}
    for name, table in read_json(path).get("timm_overrides", {}).items():
        if unknown := [key for key in table if key not in _TIMM_KEYS]:
            raise DataError(path, f"unknown key {unknown[0]!r} of {name}{suggest(unknown[0], _TIMM_KEYS)}")
        overrides[name] = {_TIMM_KEYS[key]: value for key, value in table.items() if key != _POOL}
        if _POOL in table:
            overrides[name]["pooled"] = table[_POOL] == "map"
    return overrides


def _llama(path: Path, text: dict[str, Any]) -> dict[str, Any]:
    if text.get("model_type") != "llama":
        raise MissingCapabilityError(
            f"{path}: language model {text.get('model_type')!r} is not implemented, only 'llama'"
        )
    known = {*_LLAMA_DEFAULTS, "num_key_value_heads", "head_dim"}
    given = {key: value for key, value in text.items() if key in known and value is not None}
    llama = {**_LLAMA_DEFAULTS, **given}
    rope = {"rope_type": "default", **(text.get("rope_scaling") or {}), **(text.get("rope_parameters") or {})}
    llama["rope_parameters"] = {"rope_theta": text.get("rope_theta", 10000.0), **rope}
    return llama
