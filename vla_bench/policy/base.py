"""The policy protocol: two methods and a declaration of what goes in and out.

Chunking, ensembling and remote transport are wrappers of the same type. All state is per episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vla_bench.errors import ConventionError, MissingCapabilityError
from vla_bench.types import ActionChunk, Array, Observation, PrecisionReport


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """What a policy wants to see and what it says.

    Attributes:
        cameras: Pictures it needs, by the simulator's camera names.
        image_px: Their height and width.
        proprio: Names of `Observation.proprio` it needs.
        history: Number of observations handed to `act`, the newest last.
        history_stride_s: Time between them.
        action_size: A of the (T, A) chunk.
        action_convention: `delta_pose`: Δxyz, Δ rotation vector, gripper −1 open … +1 closed, in [−1, 1].
        chunk_length: T.
        privileged: Whether it needs `Observation.state`.
        control_hz: Frequency of the actions that it was trained on; None for any.
    """

    cameras: tuple[str, ...] = ()
    image_px: tuple[int, int] = (256, 256)
    proprio: tuple[str, ...] = ()
    history: int = 1
    history_stride_s: float = 0.0
    action_size: int = 7
    action_convention: str = "delta_pose"
    chunk_length: int = 1
    privileged: bool = False
    control_hz: float | None = None


class Policy(Protocol):
    """A thing that acts."""

    spec: PolicySpec

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode; everything random in it follows from `seed`."""
        ...

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the next (T, A) actions for the history that the spec asks for, newest last."""
        ...


class BatchPolicy(Policy, Protocol):
    """A policy whose `act` needs nothing but the observations, so that it can serve many episodes at once."""

    def act_batch(self, batch: Sequence[Sequence[Observation]]) -> list[ActionChunk]:
        """Return one chunk for each history."""
        ...


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a policy with action tokens said, and how sure it was.

    Attributes:
        actions: (T, A) the actions of its tokens, as in `ActionChunk`.
        tokens: (T, A) ids of the tokens that it chose.
        log_probs: (T, A, K + 1) natural logarithms: of each of the K action tokens, by id, and of all other
            tokens together.
    """

    actions: Array
    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]


class TokenPolicy(Policy, Protocol):
    """A policy whose actions are tokens of a vocabulary.

    Attributes:
        autoregressive: Whether a token depends on those before it; otherwise all are chosen at once.
    """

    autoregressive: bool

    def encode_actions(self, actions: Array) -> NDArray[np.int64]:
        """Return the (T, A) token ids that stand for (T, A) actions as in `ActionChunk`."""
        ...

    def action_logits(
        self, observations: Sequence[Observation], forced: NDArray[np.int64] | None = None
    ) -> TokenAnswer:
        """Answer in tokens: each follows those chosen before it or, where given, the (T, A) `forced` ones."""
        ...


class SeededBatchPolicy(Policy, Protocol):
    """A policy that draws noise and serves many episodes at once.

    What an episode's answer is drawn from follows from its seed and from its newest observation's time, never
    from what else is in a batch or what was asked before.
    """

    def act_seeded(self, batch: Sequence[Sequence[Observation]], seeds: Sequence[int]) -> list[ActionChunk]:
        """Return one chunk for each history; `seeds` are those that `reset` would be given."""
        ...


def act_batch(
    policy: Policy, batch: Sequence[Sequence[Observation]], seeds: Sequence[int] = ()
) -> list[ActionChunk]:
    """Serve many episodes with one policy.

    Args:
        policy: Who acts.
        batch: The history of each episode.
        seeds: Of the episodes; without effect where nothing is drawn.

    Raises:
        MissingCapabilityError: The policy keeps state of one episode between calls.
        ConventionError: It draws noise, and there is not one seed for each episode.
    """
    if hasattr(policy, "act_seeded"):
        if len(seeds) != len(batch):
            raise ConventionError(
                f"{type(policy).__name__} draws noise: {len(batch)} episodes need as many seeds, "
                f"found {len(seeds)}"
            )
        return policy.act_seeded(batch, seeds)  # type: ignore[attr-defined]
    if not hasattr(policy, "act_batch"):
        raise MissingCapabilityError(f"{type(policy).__name__} serves one episode at a time")
    return policy.act_batch(batch)  # type: ignore[attr-defined]


class ContinuingPolicy(Policy, Protocol):
    """A policy that can continue a chunk that is being executed (real-time chunking, arXiv 2506.07339)."""

    def act_continuing(self, observations: Sequence[Observation], leftover: Array, delay: int) -> ActionChunk:
        """Return a (T, A) chunk that goes on from one that is running.

        Args:
            observations: As for `act`.
            leftover: (T', A) what of the running chunk lies after the newest observation.
            delay: How many of these will have been executed when the answer is there, to go by the last ones.
        """
        ...


def continues_chunks(policy: Policy) -> TypeGuard[ContinuingPolicy]:
    """Whether a policy takes what is left of its last chunk."""
    return hasattr(policy, "act_continuing")


# ── what a policy can tell of itself, if it wants to ───────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a policy came to a chunk, as far as it can tell.

    Attributes:
        chunk: The commands.
        tokens: (T, A) ids, where it speaks in tokens.
        normalised: (T, A) in [−1, 1], as the model gave them.
        physical: (T, A) in the units of the data that it was trained on.
        units: Which these are.
        remarks: What looks wrong, one sentence each.
    """

    chunk: ActionChunk
    tokens: NDArray[np.integer] | None = None
    normalised: Array | None = None
    physical: Array | None = None
    units: str = ""
    remarks: tuple[str, ...] = ()


class ReportingPolicy(Policy, Protocol):
    """A policy that knows what its precision came to.

    Attributes:
        precision_report: As found after loading.
    """

    precision_report: PrecisionReport | None


def precision_report(policy: Policy) -> PrecisionReport | None:
    """Return what a policy's precision came to; None of one that has no numbers."""
    return getattr(policy, "precision_report", None)


class ExplainingPolicy(Policy, Protocol):
    """A policy that can tell how it came to an action."""

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        """Act, and tell how."""
        ...


def explain(policy: Policy, observations: Sequence[Observation]) -> Explanation:
    """Let a policy act and tell what it can; of one that only acts, that is its commands."""
    if hasattr(policy, "explain"):
        return policy.explain(observations)  # type: ignore[attr-defined]
    return Explanation(policy.act(observations))


@dataclass(frozen=True, slots=True)
class Choice:
    """A convention that a card declares and that could be another, without anything being loaded again.

    Attributes:
        option: Its name in the card.
        topic: What it is about, in words: two choices of one topic exclude each other.
        declared: What the card says.
        others: What it could say instead.
        changes_input: Whether it changes what the model is given, or only how its answer is read.
    """

    option: str
    topic: str
    declared: Any
    others: tuple[Any, ...]
    changes_input: bool


class AdjustablePolicy(ExplainingPolicy, Protocol):
    """A policy whose conventions can be exchanged, to find out which are right."""

    def choices(self) -> tuple[Choice, ...]:
        """Return the conventions that can be exchanged."""
        ...

    def with_option(self, option: str, value: Any) -> AdjustablePolicy:
        """Return a policy with the same weights and one other convention."""
        ...

    def commands(self, normalised: Array) -> Array:
        """(T, A) as the model gave them → (T, A) commands by this policy's conventions."""
        ...


def is_adjustable(policy: Policy) -> TypeGuard[AdjustablePolicy]:
    """Whether the conventions of a policy can be exchanged."""
    return hasattr(policy, "choices") and hasattr(policy, "with_option")
