"""The text of a task: T5's tokenizer and encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Stack

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.tensors import Stored

FILE = "tokenizer.json"
PAD, END = 0, 1
# T5's own, where the official checkpoints' text encoder has its default
MAX_DISTANCE = 128
MAX_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class TextSizes:
    """Sizes of T5's encoder; `config.json` only has its name.

    Attributes:
        vocabulary: Rows of the embedding.
        width: Features of a token.
        heads, head_width, buckets: Of attention and its relative positions.
        hidden: Features inside a block's MLP.
        depth: Number of blocks.
    """

    vocabulary: int
    width: int
    heads: int
    head_width: int
    buckets: int
    hidden: int
    depth: int


def text_sizes(stored: Stored, source: Path) -> TextSizes:
    """Read the sizes of T5's encoder off its parameters, by our names.

    Raises:
        DataError: A parameter that says them is missing, or has an impossible shape.
    """
    shapes: Mapping[str, tuple[int, ...]] = {name: tensor.shape for name, tensor in stored.items()}
    attention = "text.block.0.layer.0.SelfAttention"
    wanted = (
        "text.embed_tokens.weight", f"{attention}.relative_attention_bias.weight",
        f"{attention}.q.weight", "text.block.0.layer.1.DenseReluDense.wi.weight",
    )  # fmt: skip
    for name in wanted:
        if len(shapes.get(name, ())) != 2:
            found = f"of shape {shapes[name]}" if name in shapes else "missing"
            raise DataError(source, f"{name!r} is {found}; a checkpoint with a text has T5's encoder in it")
    (vocabulary, width), (buckets, heads), (inner, _), (hidden, _) = (shapes[name] for name in wanted)
    if heads == 0 or inner % heads:
        raise DataError(source, f"T5's {inner} features of attention do not divide into {heads} heads")
    blocks = {name.split(".")[2] for name in shapes if name.startswith("text.block.")}
    if len(blocks) > MAX_BLOCKS:
        raise DataError(source, f"T5 with {len(blocks)} blocks; the largest has 24")
    return TextSizes(vocabulary, width, heads, inner // heads, buckets, hidden, len(blocks))


def text_encoder(sizes: TextSizes) -> T5Stack:
    """Return T5's encoder without weights."""
    config = T5Config(
        vocab_size=sizes.vocabulary, d_model=sizes.width, d_kv=sizes.head_width, d_ff=sizes.hidden,
        num_layers=sizes.depth, num_heads=sizes.heads, relative_attention_num_buckets=sizes.buckets,
        relative_attention_max_distance=MAX_DISTANCE, feed_forward_proj="relu", layer_norm_epsilon=1e-6,
        dropout_rate=0.0,
    )  # fmt: skip
    return T5EncoderModel(config).encoder


class TextTokenizer:
    """T5's tokenizer, from its `tokenizer.json`.

    Args:
        folder: Holds the file.
        length: Tokens that every text is cut or filled to.
        vocabulary: Rows of the embedding, for which the ids must have a place.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is broken, or another model's.
    """

    def __init__(self, folder: Path, length: int, vocabulary: int) -> None:
        path = folder / FILE
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in folder.glob("*token*"))) or "none"
            raise MissingDataError(f"{path}: missing; instructions need T5's tokenizer (found: {found})")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise DataError(path, f"is not a tokenizer: {error}") from error
        ends = self._tokenizer.id_to_token(PAD), self._tokenizer.id_to_token(END)
        if ends != ("<pad>", "</s>"):
            raise DataError(path, f"tokens {PAD} and {END} should be T5's '<pad>' and '</s>', found {ends}")
        if (known := self._tokenizer.get_vocab_size()) > vocabulary:
            raise DataError(path, f"has {known} tokens, the model's embedding {vocabulary}")
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=PAD, pad_token="<pad>")

    def __call__(self, text: str) -> tuple[Tensor, Tensor]:
        """Text → (1, length) ids, and (1, length) which of them are no padding."""
        encoded = self._tokenizer.encode(text)
        return torch.tensor([encoded.ids]), torch.tensor([encoded.attention_mask])
