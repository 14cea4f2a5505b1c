"""Speculative decoding: the last action drafts the next one, and one pass says how much of it is right.

A pass over several tokens takes hardly longer than over one, because it reads the same weights. A token of
the draft is taken over only where greedy decoding would have chosen it, so that any draft gives the same
action; a bad one costs time. Rounding is that of a longer pass, which may decide a tie the other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from vla_bench.policy.openvla.decoding import Decoded, sequences
from vla_bench.policy.openvla.engine import Prompts
from vla_bench.policy.openvla.fast import Fast, padded
from vla_bench.policy.openvla.llama import Rows
from vla_bench.policy.openvla.model import OpenVla, left_pad


class Speculative(Fast):
    """The fast road with drafts.

    Attributes:
        draft: (B, steps) ids to be tried next; None before the first action.
        drafted, accepted: Numbers of tokens that were tried, and that were right (in every row of a batch).
        actions, passes: Actions with a draft, and passes through the language model for them.
    """

    def __init__(self, model: OpenVla) -> None:
        super().__init__(model)
        self.draft: Tensor | None = None
        self.drafted = self.accepted = self.passes = self.actions = 0

    @torch.inference_mode()
    def tokens(self, pixels: Tensor, prompts: Prompts, steps: int) -> Decoded:
        """Decode `steps` tokens after each of B prompts, greedily; without a draft, one by one."""
        if self.draft is None or self.draft.shape != (len(prompts), steps):
            decoded = super().tokens(pixels, prompts, steps)
        else:
            decoded = self._drafted(pixels, prompts, self.draft.clone())
        self.draft = decoded.tokens
        return decoded

    def _drafted(self, pixels: Tensor, prompts: Prompts, draft: Tensor) -> Decoded:
        inputs, pads = padded(*left_pad(sequences(self.model, self.see(pixels), prompts)))
        steps, done = draft.shape[1], 0
        rows = self.rows(len(inputs), inputs.shape[1] + steps)
        logits: list[Tensor] = []
        while done < steps:
            found = self._check(inputs, rows, draft, done, pads)
            self.watch.mark("inference.decode" if done else "inference.prefill")
            draft[:, done:], agreed = _agree(found.argmax(-1), draft[:, done:])
            logits.append(found[:, :agreed])
            done += agreed
            self.passes += 1
            # what a pass decides last was not drafted, and what it refuses was
            self.accepted += agreed - 1
            self.drafted += agreed - 1 + (done < steps)
        self.actions += 1
        return Decoded(draft, torch.cat(logits, dim=1))

    def reset(self) -> None:
        """Forget the last action: what an episode did not see must not decide its ties."""
        self.draft = None

    def facts(self) -> Mapping[str, str | float]:
        """Return how many drafted tokens were right, and passes an action."""
        return {
            **super().facts(),
            "acceptance": self.accepted / max(1, self.drafted),
            "passes per action": self.passes / max(1, self.actions),
        }

    def _check(
        self, inputs: Tensor, rows: Rows, draft: Tensor, done: int, pads: tuple[Tensor, ...]
    ) -> Tensor:
        """(B, steps − done, vocabulary) logits of all tokens that are left, as if the draft were right."""
        length, steps = inputs.shape[1], draft.shape[1]
        key = (rows[0].shape[1], length, steps, done)
        if done == 0:
            (found,) = self.graphs("verify", partial(self._first, rows), inputs, draft, *pads, key=key)
        else:
            again = partial(self._again, rows, length + done - 1)
            (found,) = self.graphs("verify", again, draft[:, done - 1 : -1].contiguous(), *pads, key=key)
        return found

    def _first(self, rows: Rows, inputs: Tensor, draft: Tensor, pads: Tensor | None = None) -> tuple[Tensor]:
        x = torch.cat([inputs, self.embed(draft[:, :-1])], dim=1)
        return (self.advance(x, rows, 0, pads, last=draft.shape[1]),)

    def _again(self, rows: Rows, start: int, tokens: Tensor, pads: Tensor | None = None) -> tuple[Tensor]:
        return (self.advance(self.embed(tokens), rows, start, pads, last=tokens.shape[1]),)


def _agree(chosen: Tensor, draft: Tensor) -> tuple[Tensor, int]:
    """What greedy decoding chooses after a draft (B, n), and how many tokens are decided in every row.

    Returns:
        (B, n) the draft, with what is decided in a row in the place of it; and their common number, 1 to n:
        the first choice is always decided, and each further one if the draft was right before it.
    """
    matches = (chosen == draft)[:, :-1].long()
    decided = 1 + matches.cumprod(1).sum(1)
    known = torch.arange(draft.shape[1], device=draft.device) < decided[:, None]
    return torch.where(known, chosen, draft), int(decided.min())
