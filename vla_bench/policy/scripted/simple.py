"""Policies without a model: they do nothing, act at random, or repeat a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla_bench import seeding
from vla_bench.errors import ConventionError, DataError, MissingDataError
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import Card
from vla_bench.types import ActionChunk, Array, Observation


class Noop:
    """Stands still with an open gripper."""

    spec = PolicySpec()

    def __init__(self, card: Card, precision: str) -> None:
        self._chunk = ActionChunk(np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]]))

    def reset(self, instruction: str, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return one action that does nothing."""
        return self._chunk


class Random:
    """Draws every action uniformly from [−1, 1]⁷."""

    spec = PolicySpec()

    def __init__(self, card: Card, precision: str) -> None:
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Start the stream that belongs to `seed`."""
        self._stream = seeding.generator("policy", "random", seed)

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return one random action."""
        return ActionChunk(self._stream.uniform(-1.0, 1.0, size=(1, self.spec.action_size)))


class Replay:
    """Repeats the actions of a file, then stands still with the last gripper command."""

    spec = PolicySpec()

    def __init__(self, card: Card, precision: str) -> None:
        if "actions" not in card.options:
            raise ConventionError(f"policy {card.name!r} needs a file of actions: {card.name}:FILE.npz")
        self._actions = read_actions(Path(card.options["actions"]), self.spec.action_size)
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Go back to the first action."""
        self._next = 0

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        """Return the next action of the file."""
        index = min(self._next, len(self._actions) - 1)
        action = self._actions[index].copy()
        if self._next >= len(self._actions):
            action[:6] = 0.0
        self._next += 1
        return ActionChunk(action[None])


def read_actions(path: Path, size: int) -> Array:
    """Read (T, size) actions: the array `actions` of an .npz file.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = dict(data)
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such file of actions") from error
    except Exception as error:  # a damaged archive raises anything
        raise DataError(path, f"is not an .npz file of actions: {error}") from error
    if "actions" not in arrays:
        raise DataError(path, f"has no array 'actions'; it has {', '.join(sorted(arrays)) or 'none'}")
    actions = arrays["actions"]
    if actions.ndim != 2 or actions.shape[1] != size or len(actions) == 0 or actions.dtype.kind not in "fiu":
        found = f"{actions.dtype} of shape {actions.shape}"
        raise DataError(path, f"'actions' is {found}, expected numbers of shape (T, {size})")
    return actions.astype(np.float64)
