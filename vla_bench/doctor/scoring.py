"""How near commands are to what was done, and which difference is more than chance.

The unit of error is the best constant: 1 is what always giving the median command would cost. Pairs of one
episode are not independent, so tests count episodes: a sign-flip test of the mean difference of each.
"""

from __future__ import annotations

import itertools

import numpy as np

from vla_bench import seeding
from vla_bench.doctor.alternatives import Judge
from vla_bench.types import Array

_EXACT = 14  # episodes up to which all sign patterns are tried
_DRAWS = 20_000


class Yardstick:
    """Measures commands against what was done.

    Args:
        done: (N, A) what was done.
        groups: (N,) the episode of each row.
    """

    def __init__(self, done: Array, groups: np.ndarray) -> None:
        self.done, self.groups = done, groups
        away = np.abs(done - np.median(done, axis=0))
        self._arm = away[:, :-1].sum(1)
        self._gripper = away[:, -1]

    @property
    def gripper_moves(self) -> bool:
        """Whether the gripper is both opened and closed."""
        return bool(self._gripper.mean() > 0)

    def errors(self, commands: Array, judge: Judge) -> Array:
        """(N, A) commands → (N,) errors in units of the best constant's mean."""
        away = np.abs(commands - self.done)
        arm = away[:, :-1].sum(1) / max(self._arm.mean(), 1e-9)
        if judge == "arm" or not self.gripper_moves:
            return arm
        gripper = away[:, -1] / self._gripper.mean()
        return gripper if judge == "gripper" else (arm + gripper) / 2

    def constant(self, judge: Judge) -> Array:
        """(N,) errors of the best constant command; their mean is 1."""
        return self.errors(np.broadcast_to(np.median(self.done, axis=0), self.done.shape), judge)

    def size(self, commands: Array) -> float:
        """Mean size of the arm's commands, in units of that of what was done."""
        return float(np.abs(commands[:, :-1]).mean() / max(np.abs(self.done[:, :-1]).mean(), 1e-9))

    def p_less(self, errors: Array, than: Array) -> float:
        """One-sided p value of the hypothesis that `errors` are not smaller than `than`."""
        return sign_flip(self.by_episode(than - errors))

    def by_episode(self, values: Array) -> Array:
        """(N,) → (episodes,) means."""
        return np.bincount(self.groups, values) / np.bincount(self.groups)


def sign_flip(differences: Array) -> float:
    """One-sided p value of a mean above 0, if signs were a matter of chance: exact for few differences."""
    count = len(differences)
    if count <= _EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
        return float(np.mean(signs @ differences >= differences.sum() - 1e-12))
    stream = seeding.generator("statistics", "sign flip", count)
    signs = stream.choice((1.0, -1.0), size=(_DRAWS, count))
    return float((1 + np.sum(signs @ differences >= differences.sum() - 1e-12)) / (1 + _DRAWS))


def holm(p_values: Array) -> Array:
    """P values adjusted for their number, by Holm's method."""
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, method="holm")[1])


def least_p(episodes: int) -> float:
    """The smallest p value that a test over so many episodes can give."""
    return max(0.5**episodes, 1 / (1 + _DRAWS)) if episodes > _EXACT else 0.5**episodes
