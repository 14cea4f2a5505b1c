"""What computes: the passes of the model, by a plain road or a fast one, with the time that each took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import GenerationConfig

from vla_bench.policy.openvla.decoding import Decoded, greedy, sequences
from vla_bench.policy.openvla.model import OpenVla, left_pad
from vla_bench.policy.openvla.parallel import PassInputs, action_hidden
from vla_bench.policy.stopwatch import Stopwatch

Prompts = Sequence[Sequence[int]]


class Engine(Protocol):
    """The passes that actions are made of.

    Attributes:
        watch: Marked after every pass: `inference.vision`, `inference.prefill`, `inference.decode`.
    """

    watch: Stopwatch

    def see(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """(B, channels, H, W) and, with FiLM, (B, hidden) → (B, visual tokens, hidden)."""
        ...

    def tokens(self, pixels: Tensor, prompts: Prompts, steps: int) -> Decoded:
        """Decode `steps` tokens after each of B prompts, greedily."""
        ...

    def hidden(self, inputs: PassInputs, slots: int) -> Tensor:
        """(B, slots, hidden) final hidden states of one pass in which everything sees everything."""
        ...

    def reset(self) -> None:
        """Forget the episode."""
        ...

    def facts(self) -> Mapping[str, str | float]:
        """Return what is worth knowing of the passes so far."""
        ...


class Plain:
    """transformers' modules with a cache that grows: the reference that the others are held to."""

    def __init__(self, model: OpenVla) -> None:
        self.model, self.watch = model, Stopwatch(model.device)

    def see(self, pixels: Tensor, language: Tensor | None = None) -> Tensor:
        """See `Engine`."""
        seen = self.model.see(pixels, language)
        self.watch.mark("inference.vision")
        return seen

    def tokens(self, pixels: Tensor, prompts: Prompts, steps: int) -> Decoded:
        """See `Engine`."""
        return greedy(self.model, pixels, prompts, steps)

    def hidden(self, inputs: PassInputs, slots: int) -> Tensor:
        """See `Engine`."""
        found = action_hidden(self.model, inputs, slots)
        self.watch.mark("inference.prefill")
        return found

    def reset(self) -> None:
        """Nothing to forget."""

    def facts(self) -> Mapping[str, str | float]:
        """Nothing to say."""
        return {}


class Generating(Plain):
    """transformers' `generate`, as the original calls it: what a faster road is compared with."""

    def __init__(self, model: OpenVla) -> None:
        super().__init__(model)
        # what a call leaves open is taken from here; generation must not end before the action does
        settings: Any = model.language_model.generation_config
        settings.eos_token_id = None

    @torch.inference_mode()
    def tokens(self, pixels: Tensor, prompts: Prompts, steps: int) -> Decoded:
        """See `Engine`; an end-of-text token does not end it."""
        inputs, mask = left_pad(sequences(self.model, self.see(pixels), prompts))
        if mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        config = GenerationConfig(
            max_new_tokens=steps, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=True,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        llama: Any = self.model.language_model
        out = llama.generate(inputs_embeds=inputs, attention_mask=mask.long(), generation_config=config)
        return Decoded(out.sequences, torch.stack(out.logits, dim=1))
