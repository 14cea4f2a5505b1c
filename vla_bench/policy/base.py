"""The policy protocol: two methods and a declaration of what goes in and out.

Chunking, ensembling and remote transport are wrappers of the same type. All state is per episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vla_bench.errors import MissingCapabilityError
from vla_bench.types import ActionChunk, Observation


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


def act_batch(policy: Policy, batch: Sequence[Sequence[Observation]]) -> list[ActionChunk]:
    """Serve many episodes with one policy.

    Raises:
        MissingCapabilityError: The policy keeps state of one episode between calls.
    """
    if not hasattr(policy, "act_batch"):
        raise MissingCapabilityError(f"{type(policy).__name__} serves one episode at a time")
    return policy.act_batch(batch)  # type: ignore[attr-defined]
