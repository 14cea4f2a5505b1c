"""Instructions as numbers: learnt vectors of words, a small T5 that is learnt too, or a frozen DistilBERT."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.policy.diffusion.design import Language
from vla_bench.policy.spelling import PAD, VOCABULARY, byte_tokenizer
from vla_bench.policy.t5 import TextSizes, text_encoder
from vla_bench.policy.tensors import read_json


class Words(nn.Module):
    """The sum of learnt vectors: one for each word, and one for each two neighbours, which carry the order.

    A vector is found by a checksum, so there is no list of words and no word is unknown; one that training
    never saw has a vector that training never moved.

    Args:
        buckets: Number of vectors.
        size: Their length.
    """

    def __init__(self, buckets: int, size: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(buckets, size, mode="sum")

    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, size)."""
        places = [self._places(text) for text in texts]
        counts = [0, *(len(each) for each in places)][: len(places)]
        device = self.table.weight.device
        flat = torch.tensor([place for each in places for place in each], device=device, dtype=torch.long)
        return self.table(flat, torch.tensor(counts, device=device, dtype=torch.long).cumsum(0))

    def _places(self, text: str) -> list[int]:
        words = re.findall(r"\w+", text.lower())
        pairs = [f"{a} {b}" for a, b in pairwise(words)]
        return [zlib.crc32(each.encode()) % self.table.num_embeddings for each in [*words, *pairs]]


class Bytes(nn.Module):
    """The mean state of a small T5 encoder over the bytes of a text.

    Texts have no list of words, and one that training never saw is spelled in letters that it did see.

    Args:
        language: Its sizes.
    """

    def __init__(self, language: Language) -> None:
        super().__init__()
        size, heads = language.size, language.heads
        self.encoder = text_encoder(
            TextSizes(VOCABULARY, size, heads, size // heads, 32, language.hidden, language.depth)
        )
        self._tokenizer = byte_tokenizer()
        self._tokenizer.enable_truncation(language.length)
        # to one length: what a text becomes does not depend on the other texts
        self._tokenizer.enable_padding(length=language.length, pad_id=PAD, pad_token="<pad>")

    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, size); one that comes several times is encoded once."""
        once = list(dict.fromkeys(texts))
        encoded = self._tokenizer.encode_batch(once)
        device = self.encoder.embed_tokens.weight.device
        ids = torch.tensor([each.ids for each in encoded], device=device).reshape(len(once), -1)
        mask = torch.tensor([each.attention_mask for each in encoded], device=device).reshape(ids.shape)
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return means[torch.tensor([once.index(text) for text in texts], device=device)]


class DistilBert(nn.Module):
    """The sum of the last hidden states of a frozen DistilBERT, special tokens included.

    Texts are encoded one by one: padding would be summed too.

    Args:
        folder: With `config.json`, `model.safetensors` and `tokenizer.json`.

    Raises:
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import DistilBertConfig, DistilBertModel

        super().__init__()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise MissingDataError(f"{folder / name}: no such file of DistilBERT")
        config = read_json(folder / "config.json")
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != "distilbert":
            raise DataError(folder / "config.json", f"is of a model {kind!r}, expected 'distilbert'")
        try:
            self.model: Any = DistilBertModel.from_pretrained(
                folder, config=DistilBertConfig.from_dict(config), local_files_only=True,
                use_safetensors=True, attn_implementation="eager",
            )  # fmt: skip
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # a damaged file raises anything
            raise DataError(folder, f"is not a DistilBERT that can be used: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.model.config.max_position_embeddings)
        self._known: dict[str, Tensor] = {}
        self.requires_grad_(False).eval()

    @property
    def size(self) -> int:
        """Numbers that a text becomes."""
        return self.model.config.dim

    def require(self, size: int) -> None:
        """Compare with what a policy was trained on.

        Raises:
            ConventionError: The policy takes another number of numbers.
        """
        if self.size != size:
            raise ConventionError(
                f"the policy takes an instruction as {size} numbers, DistilBERT gives {self.size}"
            )

    def forward(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, size)."""
        return torch.stack([self._encoded(text) for text in texts])

    def _encoded(self, text: str) -> Tensor:
        if text not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            ids = torch.tensor([self._tokenizer.encode(text).ids], device=self.model.device)
            with torch.inference_mode():
                self._known[text] = self.model(input_ids=ids).last_hidden_state[0].sum(0)
        return self._known[text]
