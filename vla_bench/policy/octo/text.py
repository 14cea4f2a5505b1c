"""The text of a task: T5's tokenizer and encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.spelling import END, PAD
from vla_bench.policy.t5 import TextSizes, text_encoder
from vla_bench.policy.tensors import Stored

__all__ = ["FILE", "TextSizes", "TextTokenizer", "text_encoder", "text_sizes"]

FILE = "tokenizer.json"
MAX_BLOCKS = 100


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
