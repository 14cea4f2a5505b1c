"""A new Octo: sizes that its `config.json` says or its weights show, and its initial weights."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file

from vla_bench import seeding
from vla_bench.config import FileModel
from vla_bench.learn.architecture import Architecture
from vla_bench.learn.training.initial import initial_weights, t5_spread
from vla_bench.learn.training.kind import Origin
from vla_bench.learn.training.octo.tables import write_tables
from vla_bench.lerobot.layout import write_json
from vla_bench.policy.octo.checkpoint import HEAD
from vla_bench.policy.octo.config import FILE as CONFIG_FILE
from vla_bench.policy.octo.config import read_config
from vla_bench.policy.octo.conventions import Conventions
from vla_bench.policy.octo.heads import build_head
from vla_bench.policy.octo.model import Octo, Sizes
from vla_bench.policy.octo.sequence import OBSERVATION, READOUT, TASK
from vla_bench.policy.octo.text import FILE as TOKENIZER_FILE
from vla_bench.policy.spelling import VOCABULARY, byte_tokenizer
from vla_bench.policy.t5 import TextSizes
from vla_bench.policy.tensors import SINGLE

_ACTION = 7
# of SmallStem16: four convolutions that halve
_PATCH = 16
_BUCKETS = 32


class Text(FileModel):
    """A small T5 encoder in the place of t5-base; `length` bytes of a text are read."""

    width: int = Field(gt=0)
    heads: int = Field(gt=0)
    hidden: int = Field(gt=0)
    depth: int = Field(gt=0)
    length: int = Field(gt=1)


class Denoiser(FileModel):
    """The head: features, residual blocks and steps of noise."""

    hidden: int = Field(gt=0)
    blocks: int = Field(gt=0)
    steps: int = Field(gt=0)


class OctoArchitecture(Architecture):
    """A file of the family `octo`.

    Attributes:
        image_px: Side of the pictures of every camera, a multiple of 16.
        window: Time steps that are looked at.
        chunk: Actions that it gives at once.
        width, depth, heads, hidden: Of the transformer.
        stem: Features of the four convolutions of a camera, multiples of 32.
        text, head: See there.
    """

    image_px: int = Field(gt=0, multiple_of=_PATCH)
    window: int = Field(gt=0)
    chunk: int = Field(gt=0)
    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)
    hidden: int = Field(gt=0)
    stem: tuple[int, int, int, int]
    text: Text
    head: Denoiser


def new_octo(architecture: OctoArchitecture, origin: Origin[Conventions], seed: int) -> None:
    """Write a checkpoint with initial weights into `origin.base`.

    What the official files state is stated here too, with other numbers. Its tokenizer is one of bytes.

    Raises:
        DataError: A size makes no sense.
    """
    folder, cameras = origin.base, tuple(origin.conventions.cameras)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG_FILE, _config(architecture, cameras))
    byte_tokenizer().save(str(folder / TOKENIZER_FILE))
    write_tables(folder, origin.statistics)
    config, draws = read_config(folder), seeding.generator("policy", "octo", "initial weights", seed)
    with torch.device("meta"):
        model, head = Octo(config, _sizes(architecture, cameras)), build_head(config.head, config.width)
    heads = architecture.text.heads

    def spread(name: str, shape: tuple[int, ...]) -> float | None:
        if name.startswith("positions."):
            return 0.3  # not 0.02 as the original: a short training would not tell places apart
        if name.endswith("score.frequencies"):  # of the step of noise
            return 0.2
        return t5_spread(name, shape, heads) if name.startswith("text.") else None

    weights = initial_weights(model, draws, spread)
    weights |= {HEAD + name: value for name, value in initial_weights(head, draws, spread).items()}
    save_file(weights, folder / SINGLE)


def _sizes(architecture: OctoArchitecture, cameras: tuple[str, ...]) -> Sizes:
    text, side = architecture.text, architecture.image_px // _PATCH
    tokens = {OBSERVATION + name: side * side for name in cameras}
    tokens |= {TASK + "language": text.length, READOUT + "action": 1}
    return Sizes(
        tokens,
        TextSizes(
            VOCABULARY, text.width, text.heads, text.width // text.heads, _BUCKETS, text.hidden, text.depth
        ),
    )


def _config(architecture: OctoArchitecture, cameras: tuple[str, ...]) -> dict[str, Any]:
    """`config.json` in the official form; of T5 it only has a name, and the weights say its sizes."""
    stem = {"features": list(architecture.stem), "num_features": architecture.stem[-1]}
    observations = {
        name: {"name": "ImageTokenizer", "kwargs": {
            "obs_stack_keys": [f"image_{name}"], "task_stack_keys": [],
            "encoder": {"name": "SmallStem16", "kwargs": stem},
        }}
        for name in cameras
    }  # fmt: skip
    language = {"name": "LanguageTokenizer", "kwargs": {"encoder": "t5-small", "finetune_encoder": True}}
    head = {"name": "DiffusionActionHead", "kwargs": {
        "readout_key": "readout_action", "action_horizon": architecture.chunk, "action_dim": _ACTION,
        "hidden_dim": architecture.head.hidden, "num_blocks": architecture.head.blocks,
        "diffusion_steps": architecture.head.steps,
    }}  # fmt: skip
    model = {
        "observation_tokenizers": observations, "task_tokenizers": {"language": language},
        "heads": {"action": head}, "readouts": {"action": 1}, "token_embedding_size": architecture.width,
        "max_horizon": architecture.window, "repeat_task_tokens": False, "use_correct_attention": True,
        "transformer_kwargs": {
            "num_layers": architecture.depth, "num_attention_heads": architecture.heads,
            "mlp_dim": architecture.hidden,
        },
    }  # fmt: skip
    tokens = {"tokenizer_kwargs": {"max_length": architecture.text.length}}
    return {
        "model": model, "window_size": architecture.window,
        "text_processor": {"name": "HFTokenizer", "kwargs": tokens},
    }  # fmt: skip
