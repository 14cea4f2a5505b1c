"""Which token may look at which: groups of tokens, and the rules between them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TASK, OBSERVATION, READOUT = "task_", "obs_", "readout_"


@dataclass(frozen=True, slots=True)
class Group:
    """Tokens that belong together: a text, the pictures of a camera, a readout.

    Attributes:
        name: Begins with `task_`, `obs_` or `readout_`, by which the rules go.
        tokens: (B, n, width), or (B, W, n, width) where there are some at each of W time steps.
        mask: (B, n) or (B, W, n) which of them count.
    """

    name: str
    tokens: Tensor
    mask: Tensor


def attention_mask(task: Sequence[Group], steps: Sequence[Group], *, correct: bool) -> Tensor:
    """Return which token may attend to which, for the sequence [task, steps at 0, steps at 1, …].

    Args:
        task: Groups that come once.
        steps: Groups that come at every time step.
        correct: The rule of 1.5; otherwise that of 1.0, see `_owners`.

    Returns:
        (B, 1, T, T) bool, rows attend to columns.
    """
    window = steps[0].tokens.shape[1]
    valid = torch.cat([group.mask for group in task] + [_flat([group.mask for group in steps])], dim=1)
    rules = _rules_on(
        tuple((group.name, group.tokens.shape[1]) for group in task),
        tuple((group.name, group.tokens.shape[2]) for group in steps),
        window,
        correct,
        valid.device,
    )
    return rules[None, None] & valid[:, None, None, :]


def _flat(masks: list[Tensor]) -> Tensor:
    return torch.cat(masks, dim=2).flatten(1)


_Counts = tuple[tuple[str, int], ...]


@functools.cache
def _rules_on(task: _Counts, steps: _Counts, window: int, correct: bool, device: torch.device) -> Tensor:
    """The rules where they are used; never dropped, because recorded passes read them where they are."""
    return torch.from_numpy(_rules(task, steps, window, correct)).to(device)


def _rules(task: _Counts, steps: _Counts, window: int, correct: bool) -> np.ndarray:
    """(T, T) bool of the rules alone."""
    owners = [(name, -1) for name in _owners(task, correct)]
    owners += [(name, step) for step in range(window) for name in _owners(steps, correct)]
    kinds = list(dict.fromkeys(owners))
    table = np.array([[_attends(row, column) for column in kinds] for row in kinds], dtype=bool)
    which = np.array([kinds.index(owner) for owner in owners])
    return table[which[:, None], which[None, :]]


def _owners(groups: tuple[tuple[str, int], ...], correct: bool) -> list[str]:
    """To which group each token counts.

    1.0 searched the wrong side of the borders: the first token of every group but the first counts to the
    group before it. Its single readout token counts as one of a camera, and observations attend to it; its
    weights know no other.
    """
    borders = np.cumsum([count for _, count in groups])
    if not len(borders):
        return []
    found = np.searchsorted(borders, np.arange(borders[-1]), side="right" if correct else "left")
    return [groups[i][0] for i in found]


def _attends(row: tuple[str, int], column: tuple[str, int]) -> bool:
    """All look at the task; observations and readouts at observations; a readout at itself; none ahead."""
    (name, step), (other, other_step) = row, column
    seen = (TASK,) if name.startswith(TASK) else (TASK, OBSERVATION)
    own = name.startswith(READOUT) and other == name
    return other_step <= step and (other.startswith(seen) or own)
