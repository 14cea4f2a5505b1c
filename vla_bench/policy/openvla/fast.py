"""The fast road: a cache that stays where it is, and every pass a CUDA graph.

Three graphs make an action: vision with the projector (for each size of the batch), the prompt, and all steps
of decoding (for each length). Exactly as many tokens are decoded as an action has numbers: the prompt gives
the first, and each step one more. Elsewhere than on CUDA the same functions are called without graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from vla_bench.errors import ConventionError
from vla_bench.policy.graphs import Graphs
from vla_bench.policy.openvla.decoding import Decoded, sequences
from vla_bench.policy.openvla.engine import Prompts
from vla_bench.policy.openvla.llama import Rows, Sight, Walk
from vla_bench.policy.openvla.model import OpenVla, left_pad
from vla_bench.policy.openvla.parallel import PassInputs
from vla_bench.policy.openvla.towers import Towers
from vla_bench.policy.stopwatch import Stopwatch

# Caches are made in sizes of this many slots, so that prompts of similar length share one.
SLOTS = 64


class Fast:
    """Passes with as little between the products as can be; see `engine.Engine`.

    Args:
        model: With weights; its linear layers' weights become views of larger matrices.
    """

    def __init__(self, model: OpenVla) -> None:
        self.model, self.watch, self.graphs = model, Stopwatch(model.device), Graphs(model.device)
        self._walk, self._towers = Walk(model.language_model), Towers(model)
        self._rows: dict[tuple[int, int, bool], Rows] = {}

    @torch.inference_mode()
    def see(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and, with FiLM, (B, hidden) → (B, visual tokens, hidden)."""
        given = (pixels,) if language is None else (pixels, language)
        (seen,) = self.graphs("vision", self._towers, *given)
        self.watch.mark("inference.vision")
        return seen

    @torch.inference_mode()
    def tokens(self, pixels: Tensor, prompts: Prompts, steps: int) -> Decoded:
        """Decode `steps` tokens after each of B prompts, greedily."""
        inputs, pads = padded(*left_pad(sequences(self.model, self.see(pixels), prompts)))
        batch, length, _ = inputs.shape
        rows = self.rows(batch, length + steps)
        (first,) = self.graphs("prefill", partial(self._prefill, rows), inputs, *pads, key=rows[0].shape[1])
        self.watch.mark("inference.prefill")
        if steps == 1:
            return Decoded(first.argmax(-1), first)
        decode = partial(self._decode, rows, length, steps)
        key = (rows[0].shape[1], length, steps)
        decoded = Decoded(*self.graphs("decode", decode, first, *pads, key=key))
        self.watch.mark("inference.decode")
        return decoded

    @torch.inference_mode()
    def hidden(self, inputs: PassInputs, slots: int) -> Tensor:
        """(B, slots, hidden) final hidden states of one pass in which everything sees everything."""
        x, pads = padded(inputs.embeddings, inputs.mask)
        rows = self.rows(*x.shape[:2], shared=True)
        (found,) = self.graphs(
            "pass", partial(self._pass, rows, slots), x, *pads, key=(rows[0].shape[1], slots)
        )
        self.watch.mark("inference.prefill")
        return found

    def reset(self) -> None:
        """Nothing to forget."""

    def facts(self) -> Mapping[str, str | float]:
        """Return how many graphs there are, and which passes could not be recorded."""
        refused = {f"no graph of {name}": why for name, why in self.graphs.refused.items()}
        return {"graphs": len(self.graphs), **refused}

    def rows(self, batch: int, slots: int, *, shared: bool = False) -> Rows:
        """Return the cache for at least so many slots; there is one for each size, used again and again.

        Raises:
            ConventionError: The model has no positions for so many.
        """
        if slots > self._walk.positions:
            raise ConventionError(
                f"the prompt and the action need {slots} positions, the model has {self._walk.positions}"
            )
        place = (batch, -(-slots // SLOTS) * SLOTS, shared)
        if place not in self._rows:
            self._rows[place] = self._walk.rows(*place[:2], shared=shared)
        return self._rows[place]

    def _prefill(self, rows: Rows, inputs: Tensor, pads: Tensor | None = None) -> tuple[Tensor]:
        """(B, L, hidden) → (B, 1, vocabulary) logits of what follows."""
        return (self.advance(inputs, rows, 0, pads)[:, -1:],)

    def _decode(
        self, rows: Rows, length: int, steps: int, first: Tensor, pads: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, 1, vocabulary) logits of the first token → (B, steps) tokens and all their logits."""
        logits = [first]
        tokens = [first.argmax(-1)]
        for step in range(steps - 1):
            logits.append(self.advance(self.embed(tokens[-1]), rows, length + step, pads))
            tokens.append(logits[-1].argmax(-1))
        return torch.cat(tokens, dim=1), torch.cat(logits, dim=1)

    def _pass(self, rows: Rows, slots: int, x: Tensor, pads: Tensor | None = None) -> tuple[Tensor]:
        at = torch.arange(x.shape[1], device=x.device)
        sight = Sight(at)
        if pads is not None:
            real = at >= pads[:, None]
            # padding sees itself, so that nothing in it is undefined
            allowed = real[:, None, None, :] | torch.eye(len(at), dtype=torch.bool, device=x.device)
            sight = Sight((at - pads[:, None]).clamp(min=0), allowed=allowed)
        return (self._walk(x, rows, 0, sight)[:, -slots - 2 : -2],)

    def advance(self, x: Tensor, rows: Rows, start: int, pads: Tensor | None, last: int = 1) -> Tensor:
        """(B, n, hidden) embeddings from slot `start` on → (B, last, vocabulary) logits of the last ones."""
        sight = causal(start, x.shape[1], pads, x.device)
        return self.model.language_model.lm_head(self._walk(x, rows, start, sight)[:, -last:])

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, n) ids → (B, n, hidden)."""
        return self.model.language_model.model.embed_tokens(tokens)


def padded(inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the inputs of a pass, and the (B,) numbers of empty slots before them where there are any."""
    return inputs, () if mask is None else ((~mask).sum(1),)


def causal(start: int, n: int, pads: Tensor | None, device: torch.device) -> Sight:
    """What n tokens from slot `start` on see: themselves and what is before them, but no padding."""
    at = torch.arange(start, start + n, device=device)
    slots = torch.arange(start + n, device=device)
    if pads is None:
        if start == 0 or n == 1:
            return Sight(at, causal=start == 0 and n > 1)
        return Sight(at, allowed=slots <= at[:, None])
    # padding sees itself, so that nothing in it is undefined
    real = (slots >= pads[:, None])[:, None] | (slots == at[:, None])
    allowed = (real & (slots <= at[:, None]))[:, None]
    return Sight((at - pads[:, None]).clamp(min=0), allowed=allowed)
