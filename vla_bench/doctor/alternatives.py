"""What could be meant instead of what a card says: each a single change, outside the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vla_bench.policy.base import AdjustablePolicy, Choice, Explanation, Policy, explain, is_adjustable
from vla_bench.types import Array, Image, Observation

FLIPS: Mapping[str, Callable[[Image], Image]] = {
    "upside-down pictures": lambda image: image[::-1],
    "mirrored pictures (left and right exchanged)": lambda image: image[:, ::-1],
    "pictures turned by 180°": lambda image: image[::-1, ::-1],
    "pictures with red and blue exchanged": lambda image: image[..., ::-1],
}
FACTORS = (0.05, 0.1, 0.25, 0.5, 2.0, 4.0, 10.0, 20.0)

# What decides: the whole command, or a part of it, so that one mistake does not hide another.
Judge = Literal["all", "arm", "gripper"]

Answers = Sequence[Explanation]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to understand a policy.

    Attributes:
        topic: What it is about.
        name: What is different from what the card says.
        asked: The policy that is asked under it.
        read: Its N answers → (N, A) commands.
        judge: What decides whether it is better.
    """

    topic: str
    name: str
    asked: Policy
    read: Callable[[Answers], Array]
    judge: Judge = "arm"


class Shown:
    """A policy that is shown something else than what is there."""

    def __init__(self, policy: Policy, change: Callable[[Observation], Observation]) -> None:
        self.spec, self._policy, self._change = policy.spec, policy, change

    def reset(self, instruction: str, seed: int) -> None:
        """Begin an episode."""
        self._policy.reset(instruction, seed)

    def act(self, observations: Sequence[Observation]) -> Any:
        """Act on what is shown."""
        return self.explain(observations).chunk

    def explain(self, observations: Sequence[Observation]) -> Explanation:
        """Act on what is shown, and tell how."""
        return explain(self._policy, [self._change(seen) for seen in observations])


def first_commands(answers: Answers) -> Array:
    """(N, A) first command of each chunk."""
    return np.stack([np.asarray(told.chunk.actions, np.float64)[0] for told in answers])


def declared(policy: Policy) -> Alternative:
    """The policy as its card says."""
    return Alternative("declared", "as the card says", policy, first_commands, "all")


def alternatives(policy: Policy) -> list[Alternative]:
    """Return what else could be meant: what the card could say, then what no card can say."""
    found: list[Alternative] = []
    if is_adjustable(policy):
        for choice in policy.choices():
            found += [_chosen(policy, choice, value) for value in choice.others]
    for name, change in FLIPS.items():
        shown = Shown(policy, lambda seen, change=change: with_pictures(seen, change))
        found.append(Alternative("picture", name, shown, first_commands))
    if len(policy.spec.cameras) == 2:
        shown = Shown(policy, lambda seen: _exchanged(seen, policy.spec.cameras))
        found.append(
            Alternative("cameras", "the pictures of the two cameras exchanged", shown, first_commands)
        )
    found.append(Alternative("gripper", "a gripper of the other sign", policy, _reversed, "gripper"))
    for factor in FACTORS:
        name = f"commands of the arm times {factor:g}"
        found.append(Alternative("action scale", name, policy, _scaled(factor)))
    return found


def with_pictures(seen: Observation, change: Callable[[Image], Image]) -> Observation:
    """The observation with every picture changed."""
    return replace(seen, images={name: np.ascontiguousarray(change(i)) for name, i in seen.images.items()})


def _exchanged(seen: Observation, cameras: Sequence[str]) -> Observation:
    one, two = cameras
    return replace(seen, images={**seen.images, one: seen.images[two], two: seen.images[one]})


def _chosen(policy: AdjustablePolicy, choice: Choice, value: Any) -> Alternative:
    other = policy.with_option(choice.option, value)
    name = f"{choice.option} = {value!r} instead of {choice.declared!r}"
    judge: Judge = "gripper" if choice.topic == "gripper" else "arm"
    if choice.changes_input:
        return Alternative(choice.topic, name, other, first_commands, judge)
    return Alternative(choice.topic, name, policy, lambda answers: reread(other, answers), judge)


def reread(policy: AdjustablePolicy, answers: Answers) -> Array:
    """(N, A) first commands of answers of the same weights, read by the conventions of `policy`."""
    read = [policy.commands(told.normalised) for told in answers if told.normalised is not None]
    return np.stack([commands[0] for commands in read])


def _reversed(answers: Answers) -> Array:
    commands = first_commands(answers)
    commands[:, -1] *= -1.0
    return commands


def _scaled(factor: float) -> Callable[[Answers], Array]:
    def read(answers: Answers) -> Array:
        commands = first_commands(answers)
        commands[:, :-1] = np.clip(factor * commands[:, :-1], -1.0, 1.0)
        return commands

    return read
