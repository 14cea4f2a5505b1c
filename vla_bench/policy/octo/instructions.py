"""Instructions as the model is given them: token ids, and what T5 makes of them, once for each text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vla_bench.policy.octo.model import Octo

REMEMBERED = 256

Tokenize = Callable[[str], tuple[Tensor, Tensor]]


class Instructions:
    """Encodes instructions.

    Each one is encoded by itself and remembered: it stays the same for a whole episode, and what it becomes
    must not depend on which other episodes are in a batch.

    Args:
        model: With weights.
        tokenize: Text → (1, L) ids and (1, L) which of them are no padding.
    """

    def __init__(self, model: Octo, tokenize: Tokenize) -> None:
        self._model, self._tokenize = model, tokenize
        self._encoded = functools.lru_cache(REMEMBERED)(self._encode)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """B texts → (B, L, T5's width)."""
        return torch.cat([self._encoded(text) for text in texts])

    def _encode(self, text: str) -> Tensor:
        ids, mask = self._tokenize(text)
        return self._model.encode(ids.to(self._model.device), mask.to(self._model.device))
