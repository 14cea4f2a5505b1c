"""What keeps demonstrations from being all alike and free of mistakes: noise, and an arm that was led astray.

A policy that is trained on faultless demonstrations has never seen where its own small errors lead. So what
is executed is the expert's action plus noise, while what is stored is the expert's alone (DART; Laskey et
al. 2017); and some episodes begin where random actions have led, with things dropped or pushed, from where
the expert goes on. What happened before it took over is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_bench import seeding
from vla_bench.errors import ConventionError
from vla_bench.types import Array, Episode, Task

# Going astray begins at most so long after the start, lasts so long, and turns elsewhere so often (s).
_BEGINS_S, _LASTS_S, _TURNS_S = 4.0, (0.6, 2.0), 0.4
# Largest of its actions: of the three of the position, and of the three of the rotation.
_ASTRAY = np.array([0.6, 0.6, 0.6, 0.3, 0.3, 0.3])


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens in one episode.

    Attributes:
        noise: Standard deviation of what is added to each number of a motion, as a share of the largest of
            the three of its shift, or of its turn: wide where the arm travels, narrow where it must be exact.
        kicks: Chance that a step executes a random motion instead, the fingers doing as they are told; from
            where that leads the expert corrects even where its motions, and so the noise, are small.
        astray_after: Steps of the expert before the arm is led astray.
        astray: Steps of random actions; 0: the expert acts from the start on.
    """

    noise: float = 0.0
    kicks: float = 0.0
    astray_after: int = 0
    astray: int = 0

    @property
    def facts(self) -> dict[str, float]:
        """For the data set, by name."""
        return {
            "noise": self.noise, "kicks": self.kicks,
            "astray_after_steps": self.astray_after, "astray_steps": self.astray,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbances:
    """What may happen in the episodes of a data set.

    Attributes:
        noise: Each episode draws one of these; see `Disturbance`.
        astray: Chance that an episode begins with the arm led astray.
        kicks: Of every episode; see `Disturbance`.

    Raises:
        ConventionError: A number is out of range.
    """

    noise: tuple[float, ...] = (0.0,)
    astray: float = 0.0
    kicks: float = 0.0

    def __post_init__(self) -> None:
        if not self.noise or not all(0 <= level <= 1 for level in self.noise):
            raise ConventionError(f"noise is a share of the motion in 0 … 1, got {list(self.noise)}")
        if not 0 <= self.astray <= 1:
            raise ConventionError(f"the chance of going astray lies in 0 … 1, got {self.astray:g}")
        if not 0 <= self.kicks < 1:
            raise ConventionError(f"the chance of a kick at a step lies in 0 … 1 (not 1), got {self.kicks:g}")

    @property
    def described(self) -> dict[str, float | list[float]]:
        """What a data set says of them."""
        kicks = {"kicks": self.kicks} if self.kicks else {}  # data sets from before say nothing of them
        return {"noise": list(self.noise), "astray": self.astray, **kicks}

    def draw(self, task: Task, episode: Episode) -> Disturbance:
        """What happens in an episode; nothing of it depends on what else may happen."""
        draws = seeding.generator("demo", "disturbance", episode.key)
        level, chance, begins, lasts = draws.uniform(size=4)
        noise = self.noise[int(level * len(self.noise))]
        if chance >= self.astray:
            return Disturbance(noise, self.kicks)
        shortest, longest = _LASTS_S
        astray_s = shortest + lasts * (longest - shortest)
        after, steps = (int(s / task.policy_period_s + 0.5) for s in (begins * _BEGINS_S, astray_s))
        return Disturbance(noise, self.kicks, after, max(1, steps))


UNDISTURBED = Disturbances()


class Noise:
    """What an episode's disturbance makes of the expert's actions, step after step."""

    def __init__(self, disturbance: Disturbance, episode: Episode) -> None:
        self._disturbance = disturbance
        self._draws = seeding.generator("demo", "noise", episode.key)
        self._kicks = seeding.generator("demo", "kicks", episode.key)

    def add(self, action: Array) -> Array:
        """(7,) what is executed instead of an action; the fingers do as they are told."""
        motion = action[:6].reshape(2, 3)
        spread = self._disturbance.noise * np.abs(motion).max(axis=1, keepdims=True)
        noisy = np.clip(motion + spread * self._draws.standard_normal((2, 3)), -1.0, 1.0).ravel()
        if self._kicks.uniform() < self._disturbance.kicks:
            noisy = self._kicks.uniform(-_ASTRAY, _ASTRAY)
        return np.concatenate([noisy, action[6:]])


def astray_actions(disturbance: Disturbance, task: Task, episode: Episode) -> Array:
    """(steps, 7) random actions: a direction and a state of the fingers, kept for a while, then others."""
    draws = seeding.generator("demo", "astray", episode.key)
    kept = max(1, int(_TURNS_S / task.policy_period_s + 0.5))
    turns = -(-disturbance.astray // kept)
    motions = draws.uniform(-_ASTRAY, _ASTRAY, size=(turns, 6))
    fingers = np.where(draws.uniform(size=(turns, 1)) < 0.5, -1.0, 1.0)
    return np.repeat(np.hstack([motions, fingers]), kept, axis=0)[: disturbance.astray]
