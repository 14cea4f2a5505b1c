"""Recordings of Octo, and small checkpoints in the official form that run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
import zstandard
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from support.goldens import goldens
from vla_bench.policy.octo.config import OctoConfig, parse_config
from vla_bench.policy.tensors import StoredTensor

# models this small lose more by sharing the work than they gain
torch.set_num_threads(1)

CAMERAS = {"primary": 32, "wrist": 16}  # side (px): 4 tokens and 1
TEXT = {"length": 16, "vocabulary": 64, "width": 16, "heads": 2, "hidden": 32, "depth": 2}
MODEL = "octo.model.components"


def recorded(pattern: str) -> list:
    """One pytest parameter a file of the recordings; a single skipped (in CI: failing) one without them."""
    folder = goldens("octo")
    found = sorted(folder.glob(pattern)) if folder else []
    if not found and os.environ.get("CI") != "true":
        reason = f"no recordings octo/{pattern}: set VLA_BENCH_GOLDENS to a folder with them"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(p, id=p.name if p else "none") for p in found or [None]]


def fair(folder: Path, check: str) -> float:
    """The largest difference that the recordings' own table allows for `check`; 0 where it says exact."""
    bound = json.loads((folder / "tolerances.json").read_text())["checks"][check]["fair"]
    return 0.0 if bound == "exact" else bound


def recorded_parameters(folder: Path, **further: np.ndarray) -> dict[str, StoredTensor]:
    """The parameters of the recordings by flax's names; `further` take the place of those."""
    with np.load(folder / "params.npz") as data:
        arrays = {name: data[name].astype(np.float32) for name in data.files} | further
    return stored(arrays, folder / "params.npz")


def stored(arrays: Mapping[str, np.ndarray], source: Path) -> dict[str, StoredTensor]:
    """Arrays as if they lay in a file."""
    return {
        name: StoredTensor(source, array.shape, torch.float32, lambda a=array: torch.from_numpy(a.copy()))
        for name, array in arrays.items()
    }


def recorded_config(folder: Path, **changes: Any) -> OctoConfig:
    """The recordings' config.json, with changes to its model."""
    content = json.loads((folder / "config.json").read_text())
    return parse_config({**content, "model": {**content["model"], **changes}}, folder / "config.json")


# ── checkpoints that tests write ───────────────────────────────────────────────────────────────────────


def spec(name: str, module: str, **kwargs: Any) -> dict[str, Any]:
    """A class and its arguments, as the original writes them down."""
    return {"module": f"{MODEL}.{module}", "name": name, "args": [], "kwargs": kwargs}


def config(**model: Any) -> dict[str, Any]:
    """A config.json of version 1.5 with two cameras; `model` replaces parts of the model."""
    stem = spec("SmallStem16", "vit_encoders", features=[32, 32, 32, 32], num_features=32)
    cameras = {
        name: spec("ImageTokenizer", "tokenizers", obs_stack_keys=[f"image_{name}"],
                   task_stack_keys=[f"image_{name}"], encoder=stem)
        for name in CAMERAS
    }  # fmt: skip
    language = spec("LanguageTokenizer", "tokenizers", encoder="t5-base", finetune_encoder=False)
    tokenizer = {"max_length": TEXT["length"], "padding": "max_length", "truncation": True}
    return {
        "model": {
            "observation_tokenizers": cameras,
            "task_tokenizers": {"language": language},
            "heads": {"action": diffusion()},
            "readouts": {"action": 1},
            "token_embedding_size": 32,
            "transformer_kwargs": {"num_layers": 2, "mlp_dim": 64, "num_attention_heads": 2,
                                   "dropout_rate": 0.0, "add_position_embedding": False},
            "max_horizon": 5,
            "repeat_task_tokens": True,
            "use_correct_attention": True,
            **model,
        },
        "window_size": 2,
        "text_processor": spec("HFTokenizer", "text", tokenizer_name="t5-base", encode_with_model=False,
                               tokenizer_kwargs=tokenizer),
    }  # fmt: skip


def diffusion(**kwargs: Any) -> dict[str, Any]:
    """A small diffusion head."""
    defaults = {"readout_key": "readout_action", "use_map": False, "action_horizon": 4, "action_dim": 7,
                "hidden_dim": 16, "num_blocks": 1, "diffusion_steps": 5}  # fmt: skip
    return spec("DiffusionActionHead", "action_heads", **{**defaults, **kwargs})


def parameters(content: Mapping[str, Any], seed: int = 0, numbers: int = 8) -> dict[str, np.ndarray]:
    """Random parameters by flax's names, for a `config`; `numbers` is the length of low-dimensional input."""
    shapes = dict(_shapes(content["model"], numbers))
    random = np.random.default_rng(seed)
    return {name: _drawn(random, name, shape) for name, shape in shapes.items()}


def _drawn(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    fan_in = int(np.prod(shape[:-1])) or 1 if len(shape) > 1 else 1
    value = random.standard_normal(shape) * (0.1 if len(shape) < 2 else fan_in**-0.5)
    return (value + name.endswith(("scale", "layer_norm/weight"))).astype(np.float32)


def _shapes(model: Mapping[str, Any], numbers: int):
    octo, width = "octo_transformer", model["token_embedding_size"]
    for name, tokenizer in model["observation_tokenizers"].items():
        if tokenizer["name"] == "ImageTokenizer":
            yield from _stem(f"{octo}/observation_tokenizers_{name}/SmallStem16_0", tokenizer["kwargs"])
            tokens, features = (
                (CAMERAS[name] // 16) ** 2,
                tokenizer["kwargs"]["encoder"]["kwargs"]["num_features"],
            )
        else:
            kwargs = tokenizer["kwargs"]
            tokens, features = numbers, kwargs["n_bins"] if kwargs.get("discretize") else 1
        yield from _dense(f"{octo}/obs_{name}_projection", features, width)
        yield f"{octo}/obs_{name}_pos_embedding", (1, model["max_horizon"], tokens, width)
    for name in model["task_tokenizers"]:
        yield from _t5(f"{octo}/task_tokenizers_{name}/hf_model")
        yield from _dense(f"{octo}/task_{name}_projection", TEXT["width"], width)
        yield f"{octo}/task_{name}_pos_embedding", (1, TEXT["length"], width)
    for name, tokens in model["readouts"].items():
        yield f"{octo}/readout_{name}_pos_embedding", (1, model["max_horizon"], tokens, width)
    kwargs, blocks = model["transformer_kwargs"], f"{octo}/BlockTransformer_0/Transformer_0"
    for layer in range(kwargs["num_layers"]):
        block = f"{blocks}/encoderblock_{layer}"
        yield from _norm(f"{block}/LayerNorm_0", width)
        yield from _norm(f"{block}/LayerNorm_1", width)
        yield from _attention(f"{block}/MultiHeadDotProductAttention_0", width, kwargs["num_attention_heads"])
        yield from _mlp(f"{block}/MlpBlock_0", width, kwargs["mlp_dim"])
    yield from _norm(f"{blocks}/encoder_norm", width)
    yield from _head("heads_action", model["heads"]["action"], width)


def _stem(scope: str, kwargs: Mapping[str, Any]):
    stem, channels = kwargs["encoder"]["kwargs"], 3 * (1 + len(kwargs.get("task_stack_keys", [])))
    for i, features in enumerate(stem["features"]):
        yield f"{scope}/StdConv_{i}/kernel", (3, 3, channels, features)
        yield f"{scope}/StdConv_{i}/bias", (features,)
        yield from _norm(f"{scope}/GroupNorm_{i}", features)
        channels = features
    yield f"{scope}/embedding/kernel", (1, 1, channels, stem["num_features"])
    yield f"{scope}/embedding/bias", (stem["num_features"],)


def _t5(scope: str):
    width, hidden = TEXT["width"], TEXT["hidden"]
    yield f"{scope}/shared/embedding", (TEXT["vocabulary"], width)
    for i in range(TEXT["depth"]):
        block = f"{scope}/encoder/block/{i}/layer"
        for name in "qkvo":
            yield f"{block}/0/SelfAttention/{name}/kernel", (width, width)
        yield f"{block}/0/layer_norm/weight", (width,)
        yield f"{block}/1/layer_norm/weight", (width,)
        yield f"{block}/1/DenseReluDense/wi/kernel", (width, hidden)
        yield f"{block}/1/DenseReluDense/wo/kernel", (hidden, width)
    bias = f"{scope}/encoder/block/0/layer/0/SelfAttention/relative_attention_bias/embedding"
    yield bias, (32, TEXT["heads"])
    yield f"{scope}/encoder/final_layer_norm/weight", (width,)


def _head(scope: str, head: Mapping[str, Any], width: int):
    kwargs = head["kwargs"]
    chunk = kwargs["action_horizon"] * kwargs["action_dim"]
    if kwargs.get("use_map"):
        probes = chunk if head["name"] == "DiscreteActionHead" else 1
        yield f"{scope}/map_head/probe", (1, probes, width)
        yield from _attention(f"{scope}/map_head/MultiHeadDotProductAttention_0", width, 8)
        yield from _norm(f"{scope}/map_head/LayerNorm_0", width)
        yield from _mlp(f"{scope}/map_head/MlpBlock_0", width, 4 * width)
    if head["name"] == "DiffusionActionHead":
        model, hidden = f"{scope}/diffusion_model", kwargs["hidden_dim"]
        yield f"{model}/time_preprocess/kernel", (16, 1)
        yield from _dense(f"{model}/cond_encoder/Dense_0", 32, 64)
        yield from _dense(f"{model}/cond_encoder/Dense_1", 64, 32)
        yield from _dense(f"{model}/reverse_network/Dense_0", 32 + width + chunk, hidden)
        yield from _dense(f"{model}/reverse_network/Dense_1", hidden, chunk)
        for i in range(kwargs["num_blocks"]):
            block = f"{model}/reverse_network/MLPResNetBlock_{i}"
            yield from _norm(f"{block}/LayerNorm_0", hidden)
            yield from _dense(f"{block}/Dense_0", hidden, 4 * hidden)
            yield from _dense(f"{block}/Dense_1", 4 * hidden, hidden)
    elif head["name"] == "DiscreteActionHead":
        yield from _dense(f"{scope}/vocab_proj", width, kwargs["vocab_size"])
    else:
        yield from _dense(f"{scope}/mean_proj", width, chunk)


def _dense(scope: str, n: int, m: int):
    yield f"{scope}/kernel", (n, m)
    yield f"{scope}/bias", (m,)


def _norm(scope: str, width: int):
    yield f"{scope}/scale", (width,)
    yield f"{scope}/bias", (width,)


def _mlp(scope: str, width: int, hidden: int):
    yield from _dense(f"{scope}/Dense_0", width, hidden)
    yield from _dense(f"{scope}/Dense_1", hidden, width)


def _attention(scope: str, width: int, heads: int):
    for name in ("query", "key", "value"):
        yield f"{scope}/{name}/kernel", (width, heads, width // heads)
        yield f"{scope}/{name}/bias", (heads, width // heads)
    yield f"{scope}/out/kernel", (heads, width // heads, width)
    yield f"{scope}/out/bias", (width,)


def packed(tree: Any) -> bytes:
    """A tree of maps, arrays and texts as flax writes it."""
    return msgpack.packb(tree, default=_extension, strict_types=True)


def _extension(array: np.ndarray) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb([array.shape, array.dtype.name, array.tobytes()]))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Names with slashes as maps in maps."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *scopes, leaf = name.split("/")
        here = tree
        for scope in scopes:
            here = here.setdefault(scope, {})
        here[leaf] = value
    return tree


def write_zarr(folder: Path, array: np.ndarray, chunks: tuple[int, ...] | None = None) -> Path:
    """Write an array as a zarr folder (version 2, zstd)."""
    chunks = array.shape if chunks is None else chunks
    about = {"zarr_format": 2, "shape": array.shape, "chunks": chunks, "dtype": array.dtype.str, "order": "C",
             "compressor": {"id": "zstd", "level": 1}, "filters": None, "fill_value": None}  # fmt: skip
    folder.mkdir(parents=True)
    (folder / ".zarray").write_text(json.dumps(about))
    counts = [-(-n // c) for n, c in zip(array.shape, chunks, strict=True)]
    for index in np.ndindex(*counts):
        place = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))
        part = np.zeros(chunks, array.dtype)
        part[tuple(slice(n) for n in array[place].shape)] = array[place]
        content = zstandard.ZstdCompressor().compress(part.tobytes())
        (folder / (".".join(map(str, index)) or "0")).write_bytes(content)
    return folder


def statistics(size: int = 7, **changes: Any) -> dict[str, Any]:
    """Statistics of one data set."""
    grow = np.linspace(0.5, 1.5, size)
    action = {
        "mean": (0.01 * grow).tolist(), "std": (0.02 * grow).tolist(), "p01": (-0.05 * grow).tolist(),
        "p99": (0.05 * grow).tolist(), "mask": [True] * (size - 1) + [False],
    }  # fmt: skip
    state = {"mean": [0.1] * 8, "std": [0.5] * 8}
    return {"action": {**action, **changes}, "proprio": state}


def tokenizer() -> Tokenizer:
    """A tokenizer of T5's shape: padding 0, end 1, and the end put behind every text."""
    words = ["put", "the", "carrot", "on", "plate", "open", "drawer", "lift", "red", "block", "a"]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


def write_checkpoint(
    folder: Path,
    content: Mapping[str, Any] | None = None,
    *,
    form: str = "msgpack",
    tables: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write a runnable checkpoint in the official form: arrays in one msgpack file, or as zarr folders."""
    content = config() if content is None else content
    arrays = parameters(content, seed)
    place = folder / "300000/default"
    place.mkdir(parents=True)
    leaves: dict[str, Any] = dict(arrays)
    if form == "zarr":
        leaves = {name: f"PLACEHOLDER://{name.replace('/', '.')}" for name in arrays}
        for name, array in arrays.items():
            write_zarr(place / name.replace("/", "."), array)
    (place / "checkpoint").write_bytes(packed(nested(leaves)))
    (folder / "config.json").write_text(json.dumps(content))
    tables = {"bridge_dataset": statistics(), "other": statistics()} if tables is None else tables
    (folder / "dataset_statistics.json").write_text(json.dumps(tables))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


OPTIONS = {
    "cameras": {"primary": {"camera": "agentview", "crop_area": 0.9}},
    "image_px": [48, 48],
    "mirrored": False,
    "unnorm_key": "bridge_dataset",
    "normalisation": "normal",
    "units": "metres",
    "gripper": "one_opens",
    "control_hz": 5,
}


def card_of(checkpoint: Path, *, chunk: int = 4, **options: Any) -> Any:
    """A card for a checkpoint folder."""
    from vla_bench.policy.cards import Card, Checkpoint

    return Card(
        name="tiny", source=checkpoint / "tiny.toml", title="tiny", family="octo", licence="MIT",
        adapter="vla_bench.policy.octo.adapter:build", precisions=("fp32", "bf16"), chunk_predicted=chunk,
        checkpoint=Checkpoint(folder=str(checkpoint)), options={**OPTIONS, **options},
    )  # fmt: skip
