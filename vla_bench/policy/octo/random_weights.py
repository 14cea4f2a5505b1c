"""Octo with weights that are made up, at the sizes of a published model: for measuring speed and memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from vla_bench.policy.made_up import drawn
from vla_bench.policy.octo.checkpoint import HEAD, Checkpoint
from vla_bench.policy.octo.config import FILE as CONFIG_FILE
from vla_bench.policy.octo.config import OctoConfig
from vla_bench.policy.octo.heads import build_head
from vla_bench.policy.octo.model import Octo, Sizes
from vla_bench.policy.octo.sequence import OBSERVATION, READOUT, TASK
from vla_bench.policy.octo.text import FILE as TOKENIZER_FILE
from vla_bench.policy.octo.text import TextSizes
from vla_bench.policy.statistics import FILE as STATISTICS_FILE
from vla_bench.policy.tensors import StoredTensor

# features, blocks, attention heads, features inside an MLP
_WIDTHS = {"octo-small": (384, 12, 6, 1536), "octo-base": (768, 12, 12, 3072)}
# of the published models: pictures of 256 and 128 px in patches of 16, texts of 16 tokens, one readout
_TOKENS = {
    OBSERVATION + "primary": 256,
    OBSERVATION + "wrist": 64,
    TASK + "language": 16,
    READOUT + "action": 1,
}
_T5_BASE = TextSizes(vocabulary=32128, width=768, heads=12, head_width=64, buckets=32, hidden=3072, depth=12)
_STATE = 8


@dataclass(frozen=True)
class RandomCheckpoint(Checkpoint):
    """A checkpoint whose parameters are drawn when they are read.

    Attributes:
        device: Where they are drawn.
        like: The checkpoint whose shapes they have; None where the sizes are those of a published model.
        held: What keeps a made-up folder; it goes when this does.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    like: Checkpoint | None = None
    held: Any = None

    def tensors(self, config: OctoConfig) -> dict[str, StoredTensor]:
        """Return parameters by our names."""
        like = _published(config) if self.like is None else self.like.tensors(config)
        return drawn(like, "octo", self.folder, self.device)

    @property
    def says(self) -> dict[str, str]:
        """That the weights are made up."""
        return {"weights": "random"}


def _published(config: OctoConfig) -> dict[str, Tensor]:
    """Parameters without memory, of a model with the published sizes."""
    with torch.device("meta"):
        model, head = Octo(config, Sizes(_TOKENS, _T5_BASE)), build_head(config.head, config.width)
    return {**model.state_dict(), **{HEAD + name: tensor for name, tensor in head.state_dict().items()}}


def random_checkpoint(architecture: str, keys: Sequence[str], device: torch.device) -> RandomCheckpoint:
    """Return a made-up checkpoint of the sizes of a published model.

    Args:
        architecture: `octo-small`, `octo-base`, or one of them with `-1.5`.
        keys: Names of data sets; the made-up statistics of each map every action to itself.
        device: Where its parameters are drawn.
    """
    held = tempfile.TemporaryDirectory(prefix="octo-")
    folder = Path(held.name)
    (folder / CONFIG_FILE).write_text(json.dumps(_config(architecture)))
    (folder / STATISTICS_FILE).write_text(json.dumps(dict.fromkeys(keys or ["made_up"], _statistics())))
    _tokenizer().save(str(folder / TOKENIZER_FILE))
    return RandomCheckpoint(folder, device=device, held=held)


def _config(architecture: str) -> Mapping[str, Any]:
    """`config.json` of a published model, as far as it is read."""
    newer = architecture.endswith("-1.5")
    width, depth, heads, hidden = _WIDTHS[architecture.removesuffix("-1.5")]
    cameras = {
        name: {"name": "ImageTokenizer", "kwargs": {
            "obs_stack_keys": [f"image_{name}"], "task_stack_keys": [f"image_{name}"],
            "encoder": {"name": "SmallStem16"},
        }}
        for name in ("primary", "wrist")
    }  # fmt: skip
    model = {
        "observation_tokenizers": cameras,
        "task_tokenizers": {"language": {"name": "LanguageTokenizer", "kwargs": {"encoder": "t5-base"}}},
        "heads": {"action": {"name": "DiffusionActionHead", "kwargs": {
            "readout_key": "readout_action", "action_horizon": 4, "action_dim": 7,
        }}},
        "readouts": {"action": 1}, "token_embedding_size": width, "max_horizon": 10,
        "transformer_kwargs": {"num_layers": depth, "num_attention_heads": heads, "mlp_dim": hidden},
        "repeat_task_tokens": newer, "use_correct_attention": newer,
    }  # fmt: skip
    text = {"name": "HFTokenizer", "kwargs": {"tokenizer_kwargs": {"max_length": _TOKENS[TASK + "language"]}}}
    return {"model": model, "window_size": 2, "text_processor": text}


def _statistics() -> dict[str, dict[str, list[float]]]:
    def table(size: int) -> dict[str, list[float]]:
        return {"mean": [0.0] * size, "std": [1.0] * size, "p01": [-1.0] * size, "p99": [1.0] * size}

    return {"action": table(7), "proprio": table(_STATE)}


def _tokenizer() -> Tokenizer:
    """A tokenizer that takes four characters at a time for the same token, about as many as T5's."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(".{1,4}"), "isolated")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made
