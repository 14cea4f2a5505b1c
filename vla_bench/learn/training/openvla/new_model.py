"""A model of OpenVLA's architecture that has learned nothing yet, as a checkpoint in the official layout.

What the official files state is stated here too, with other numbers: nothing that reads them knows the
difference. Its tokenizer is its own: bytes, and the words of the question that every prompt consists of.
Instructions are spelled, so that a word that was never trained is made of letters that were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from vla_bench import seeding
from vla_bench.errors import UnknownNameError
from vla_bench.learn.training.openvla.architecture import OpenVlaArchitecture
from vla_bench.policy.openvla.config import OVERRIDES, Tower, read_config
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.processor import FILE as PROCESSOR_FILE
from vla_bench.policy.openvla.prompts import BOUNDARY, TEMPLATES
from vla_bench.policy.openvla.prompts import FILE as TOKENIZER_FILE
from vla_bench.policy.openvla.random_weights import OPENVLA_7B, PROCESSOR
from vla_bench.policy.statistics import FILE as STATISTICS_FILE
from vla_bench.policy.tensors import SINGLE

_ACTION_TOKENS = 256
_PADDING = 64  # rows of the embedding after the vocabulary; the first stands for padding


def new_openvla(
    architecture: OpenVlaArchitecture, folder: Path, statistics: Mapping[str, Any], seed: int = 0
) -> Path:
    """Write a checkpoint with initial weights in float32; returns its folder.

    Args:
        architecture: Its sizes.
        folder: Is made; files in it are replaced.
        statistics: Of the actions by data set, in the form of `dataset_statistics.json`.
        seed: Of the initial weights.

    Raises:
        UnknownNameError: There is no such prompt.
        DataError: A size is unknown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = question_tokenizer(architecture.prompt)
    vocabulary = _rounded(tokenizer.get_vocab_size() + _ACTION_TOKENS)
    towers, size = OPENVLA_7B["timm_model_ids"], architecture.image_px
    text = {
        **architecture.llama, "model_type": "llama", "vocab_size": vocabulary + _PADDING,
        "pad_token_id": vocabulary,
    }  # fmt: skip
    config = {
        **OPENVLA_7B, "image_sizes": [size, size], "text_config": text, "pad_token_id": vocabulary,
        "pad_to_multiple_of": _PADDING, "n_action_bins": _ACTION_TOKENS, "norm_stats": dict(statistics),
    }  # fmt: skip
    sizes = dict(zip(towers, (architecture.dino, architecture.siglip), strict=True))
    _write(folder / "config.json", config)
    _write(folder / OVERRIDES, {"timm_overrides": sizes})
    _write(folder / PROCESSOR_FILE, {**PROCESSOR, "input_sizes": [[3, size, size]] * 2})
    _write(folder / STATISTICS_FILE, dict(statistics))
    tokenizer.save(str(folder / TOKENIZER_FILE))
    save_file(_initial(OpenVla.on_meta(read_config(folder)), seed), folder / SINGLE)
    return folder


def question_tokenizer(template: str) -> Tokenizer:
    """Return a tokenizer of bytes and of the words of a prompt's template.

    Raises:
        UnknownNameError: There is no such template.
    """
    if template not in TEMPLATES:
        raise UnknownNameError("prompt", template, TEMPLATES)
    texts = TEMPLATES[template].split("{instruction}")
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=10**4, min_frequency=1, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>", BOUNDARY],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    made.train_from_iterator(texts, trainer)
    return made


def _rounded(size: int, multiple: int = 64) -> int:
    return -(-size // multiple) * multiple


def _initial(model: OpenVla, seed: int) -> dict[str, Tensor]:
    """Initial weights by name: what passes through keeps its spread, residual branches begin small."""
    draws = seeding.generator("policy", "openvla", "initial weights", seed)
    names = ("featurizer", "fused_featurizer")
    towers: dict[str, Tower] = dict(zip(names, model.config.towers, strict=False))
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "pos_embed":
            state[name] = _positions(towers[name.split(".")[1]])
        elif leaf == "scale_factor" or (leaf == "weight" and len(shape) == 1):
            state[name] = torch.ones(shape)
        elif leaf == "bias":
            state[name] = torch.zeros(shape)
        else:
            scale = _spread(name, shape, model)
            state[name] = torch.from_numpy(draws.standard_normal(shape, dtype=np.float32)) * scale
    return state


# layers that end a residual branch
_ENDS = ("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight")


def _spread(name: str, shape: tuple[int, ...], model: OpenVla) -> float:
    if name.endswith("embed_tokens.weight") or len(shape) == 3:  # embeddings; class token and registers
        return 0.5
    scale = math.prod(shape[1:]) ** -0.5
    if name.endswith(_ENDS):
        depths = [tower.depth for tower in model.config.towers] + [model.config.llama["num_hidden_layers"]]
        scale /= math.sqrt(2 * max(depths))
    return scale


def _positions(tower: Tower) -> Tensor:
    """(1, patches, width) sines and cosines of row and column, a quarter of the features each."""
    side, quarter = tower.image_px // tower.patch_px, tower.width // 4
    rates = np.exp(-np.arange(quarter) * math.log(100.0) / quarter)
    row, column = np.divmod(np.arange(side * side), side)
    angles = [place[:, None] * rates[None] for place in (row, column)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return torch.from_numpy(0.5 * np.concatenate(waves, axis=1)[None].astype(np.float32))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
