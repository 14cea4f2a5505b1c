"""OpenVLA and OpenVLA-OFT as policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_bench import seeding
from vla_bench.errors import ConventionError, MissingDataError
from vla_bench.policy import hub
from vla_bench.policy.arm import STATE_NAMES
from vla_bench.policy.base import Choice, Explanation, PolicySpec, TokenAnswer
from vla_bench.policy.cards import Card
from vla_bench.policy.devices import pick_device
from vla_bench.policy.openvla import profiling
from vla_bench.policy.openvla.checkpoint import Source, load_part
from vla_bench.policy.openvla.conventions import (
    Conventions,
    from_commands,
    read_conventions,
    to_commands,
)
from vla_bench.policy.openvla.engine import Engine, Generating, Plain
from vla_bench.policy.openvla.heads import L1Head
from vla_bench.policy.openvla.parallel import Denoiser
from vla_bench.policy.openvla.parts import (
    Decided,
    Decode,
    Inputs,
    Parts,
    Prompts,
    decode_tokens,
    l1_decoder,
    load,
    load_denoiser,
)
from vla_bench.policy.openvla.prompts import PromptTokenizer, prompt
from vla_bench.policy.openvla.random_weights import random_source
from vla_bench.policy.openvla.telling import UNITS, choices, strangers
from vla_bench.policy.precision import backend
from vla_bench.policy.profile import Profile
from vla_bench.types import ActionChunk, Array, Observation

ARM_ACTION = 7
ARM_STATE = 8


class OpenVlaPolicy:
    """Acts from the newest observation alone, so that one model can serve many episodes.

    Args:
        parts: The loaded checkpoint.
        tokenize: Text → token ids.
        decode: Parts and inputs → normalised actions.
    """

    def __init__(self, parts: Parts, tokenize: Callable[[str], list[int]], decode: Decode) -> None:
        conventions = parts.conventions
        self.parts, self._tokenize, self._decode = parts, tokenize, decode
        self.precision_report = parts.precision_report
        self.spec = PolicySpec(
            cameras=conventions.cameras,
            image_px=conventions.image_px,
            proprio=STATE_NAMES if conventions.state else (),
            action_size=parts.scaling.size,
            chunk_length=parts.chunk,
            control_hz=conventions.control_hz,
        )

    def reset(self, instruction: str, seed: int) -> None:
        """Forget the last action, which may draft the next; the instruction comes with every observation."""
        self.parts.engine.reset()

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the (T, 7) actions for the newest observation."""
        return self.act_batch([observations])[0]

    def act_batch(self, batch: Sequence[Sequence[Observation]]) -> list[ActionChunk]:
        """Return one chunk for each history; the timings are those of the whole batch."""
        return [told.chunk for told in self._answer([history[-1] for history in batch])]

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        """Act on the newest observation, and tell the tokens and the actions before they became commands."""
        return self._answer([observations[-1]])[0]

    def choices(self) -> tuple[Choice, ...]:
        """Return the conventions that can be exchanged."""
        return choices(self.parts)

    def with_option(self, option: str, value: Any) -> OpenVlaPolicy:
        """Return a policy with the same weights and one other convention.

        Raises:
            UnknownNameError: It is a normalisation key that the checkpoint does not have.
        """
        return OpenVlaPolicy(self.parts.with_option(option, value), self._tokenize, self._decode)

    def profile(self) -> Profile:
        """Return what a call has to compute, and the same policy with transformers' own loop."""
        return profiling.describe(self.parts, self._prompts, self._with(Generating(self.parts.model)))

    def _with(self, engine: Engine) -> OpenVlaPolicy:
        return OpenVlaPolicy(replace(self.parts, engine=engine), self._tokenize, self._decode)

    def commands(self, normalised: Array) -> Array:
        """(T, 7) in [−1, 1] as the model gave them → (T, 7) commands."""
        return to_commands(self.parts.scaling.unnormalise(normalised), self.parts.conventions)

    @torch.inference_mode()
    def _answer(self, observations: Sequence[Observation]) -> list[Explanation]:
        watch = self.parts.engine.watch
        watch.restart()
        inputs = self.parts.prepare(observations, self._prompts(observations))
        watch.mark("preprocess")
        decided = self._decode(self.parts, inputs)
        watch.mark("inference")
        commands = [self.commands(values) for values in decided.values]
        watch.mark("postprocess")
        timings = watch.timings_ms
        return [self._told(decided, i, ActionChunk(c, timings)) for i, c in enumerate(commands)]

    def _told(self, decided: Decided, i: int, chunk: ActionChunk) -> Explanation:
        values, ids = decided.values[i], None if decided.tokens is None else decided.tokens[i]
        physical = self.parts.scaling.unnormalise(values)
        remarks = () if ids is None else strangers(self.parts.tokens, ids)
        return Explanation(chunk, ids, values, physical, UNITS[self.parts.conventions.units], remarks)

    def _prompts(self, observations: Sequence[Observation]) -> Prompts:
        template = self.parts.conventions.prompt
        return [self._tokenize(prompt(seen.instruction, template)) for seen in observations]


class OpenVlaTokenPolicy(OpenVlaPolicy):
    """OpenVLA where actions are tokens: also says which, and how sure it is (`base.TokenPolicy`)."""

    def __init__(self, parts: Parts, tokenize: Callable[[str], list[int]]) -> None:
        super().__init__(parts, tokenize, decode_tokens)
        self.autoregressive = parts.conventions.head == "tokens"

    def encode_actions(self, actions: Array) -> NDArray[np.int64]:
        """Return the (T, 7) token ids of (T, 7) commands."""
        theirs = from_commands(actions, self.parts.conventions)
        return self.parts.tokens.encode(self.parts.scaling.normalise(theirs))

    @torch.inference_mode()
    def action_logits(
        self, observations: Sequence[Observation], forced: NDArray[np.int64] | None = None
    ) -> TokenAnswer:
        """Answer the newest observation in tokens, chosen greedily from the whole vocabulary."""
        parts, seen = self.parts, observations[-1]
        inputs = parts.prepare([seen], self._prompts([seen]))
        prefix = None if forced is None else torch.from_numpy(forced.reshape(1, -1)).to(parts.model.device)
        decoded = parts.answer(inputs, prefix)
        log_probs = decoded.logits[0].double().log_softmax(-1)
        last = parts.tokens.vocabulary
        ours = log_probs[:, last - parts.tokens.bins : last]
        # the rest by its own sum: 1 − Σ would be noise where the action tokens have it all
        rest = torch.cat([log_probs[:, : last - parts.tokens.bins], log_probs[:, last:]], dim=1)
        outcomes = torch.cat([ours, rest.logsumexp(-1, keepdim=True)], dim=1)
        shape = (parts.chunk, parts.scaling.size)
        actions = parts.scaling.unnormalise(parts.values(decoded.tokens)[0])
        return TokenAnswer(
            to_commands(actions, parts.conventions),
            decoded.tokens.cpu().numpy().reshape(shape),
            outcomes.float().cpu().numpy().reshape(*shape, -1),
        )


class DiffusionPolicy:
    """OFT with the diffusion head; its noise belongs to the episode, so it serves one at a time."""

    def __init__(self, parts: Parts, tokenize: Callable[[str], list[int]], denoiser: Denoiser) -> None:
        self._policy = OpenVlaPolicy(parts, tokenize, self._decode)
        self._denoiser, self._tokenize = denoiser, tokenize
        self.spec, self.precision_report = self._policy.spec, parts.precision_report
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Start the stream of noise that belongs to `seed`."""
        self._stream = seeding.generator("policy", "openvla_diffusion", seed)

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the (T, 7) actions for the newest observation."""
        return self._policy.act(observations)

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        """Act, and tell the actions before they became commands."""
        return self._policy.explain(observations)

    def profile(self) -> Profile:
        """Return what a call has to compute, and the same policy with transformers' own modules."""
        parts = replace(self._policy.parts, engine=Plain(self._policy.parts.model))
        plain = DiffusionPolicy(parts, self._tokenize, replace(self._denoiser, hidden=parts.engine.hidden))
        return replace(self._policy.profile(), plain=plain)

    def _decode(self, parts: Parts, inputs: Inputs) -> Decided:
        drawn = self._stream.standard_normal((1, parts.chunk, parts.scaling.size), dtype=np.float32)
        noise = torch.from_numpy(drawn).to(inputs.pixels)
        actions, _ = self._denoiser(parts.model, inputs.prompts, parts.visual(inputs), noise)
        return Decided(actions.double().cpu().numpy())


def build(card: Card, precision: str) -> OpenVlaPolicy | DiffusionPolicy:
    """Build the policy of a card.

    Raises:
        ConventionError: The card contradicts itself or the checkpoint.
        MissingDataError: A file is not there.
        DataError: A file cannot be used.
        MissingCapabilityError: The kind of model is not implemented, or this machine lacks something.
    """
    conventions, numbers = read_conventions(card), backend(precision)
    device = pick_device(conventions.device)
    numbers.require(device)
    source = find(card, conventions, device)
    tokenizer = PromptTokenizer(source.holding("tokenizer.json"))
    parts = load(source, conventions, card.chunk_predicted, numbers, device)
    _require_one_arm(card, parts)
    if conventions.head == "diffusion":
        denoiser = load_denoiser(parts, source, numbers)
        parts = parts.reported(numbers, action_head=denoiser.head, noisy_action_projector=denoiser.projector)
        return DiffusionPolicy(parts, tokenizer, denoiser)
    if conventions.head == "l1":
        head = L1Head(parts.model.config.hidden, parts.scaling.size)
        load_part(head, source, "action_head", numbers, device)
        parts = parts.reported(numbers, action_head=head)
        return OpenVlaPolicy(parts, tokenizer, l1_decoder(head))
    return OpenVlaTokenPolicy(parts.reported(numbers), tokenizer)


def _require_one_arm(card: Card, parts: Parts) -> None:
    found = {"actions": (parts.scaling.size, ARM_ACTION)}
    if parts.state_scaling is not None:
        found["state"] = (parts.state_scaling.size, ARM_STATE)
    for what, (size, expected) in found.items():
        if size != expected:
            raise ConventionError(
                f"{card.name}: the checkpoint's {what} have {size} numbers, those of one arm {expected}"
            )


def find(card: Card, conventions: Conventions, device: torch.device) -> Source:
    """Return the folders of the checkpoint that the user or the card names, or one that is made up.

    Raises:
        MissingDataError: One is not on this machine.
    """
    if conventions.weights == "random":
        return random_source(_sizes(card, conventions), conventions.unnorm_key, device)
    folder = hub.named_folder(conventions.checkpoint) if conventions.checkpoint else hub.card_folder(card)
    base = hub.named_folder(conventions.base) if conventions.base else None
    return Source(folder, base)


def _sizes(card: Card, conventions: Conventions) -> Path | None:
    """Folder that says how large a made-up checkpoint is; None where the card says whose sizes it has."""
    named = conventions.checkpoint or card.checkpoint.folder
    folder = None if named is None else card.source.parent / Path(named).expanduser()
    if folder is not None and folder.is_dir():
        return folder
    if conventions.architecture is None:
        raise MissingDataError(
            f"{card.source}: random weights need a checkpoint folder that says their sizes, "
            "or the option 'architecture'"
        )
    return None
