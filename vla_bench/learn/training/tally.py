"""What a training came to since the last line of its curve, and on samples that it never sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vla_bench.learn.training.batches import Batches, Supply
from vla_bench.learn.training.kind import Learner, Outcome
from vla_bench.learn.training.optimiser import rate
from vla_bench.learn.training.state import Progress
from vla_bench.types import Array

HELD_OUT = 512  # samples that are measured at most


class Tally:
    """Gathers the steps of one line.

    Args:
        learner: What is trained.
        progress: How far it is; the tally reads it.
        supply: Where its batches come from.
    """

    def __init__(self, learner: Learner, progress: Progress, supply: Supply) -> None:
        self._config, self._progress, self._supply = learner.config, progress, supply
        self._begin()

    def add(self, outcome: Outcome, norm: float) -> None:
        """Count a step, with the norm of its gradients before they were clipped."""
        self._outcomes.append(outcome)
        self._norms.append(norm)

    def row(self) -> dict[str, Any]:
        """Return the line of the steps since the last one."""
        config, progress = self._config, self._progress
        samples = config.batch * config.accumulate
        spent = progress.seconds - self._seconds
        row = {
            "step": progress.step,
            "samples": progress.step * samples,
            "minutes": progress.seconds / 60,
            "learning_rate": rate(config, progress.step),
            "gradient_norm": float(np.mean(self._norms)),
            "samples_per_s": len(self._outcomes) * samples / spent,
            "waiting_share": (self._supply.waited_s - self._waited) / spent,
            **summary(self._outcomes),
        }
        self._begin()
        return row

    def _begin(self) -> None:
        self._outcomes: list[Outcome] = []
        self._norms: list[float] = []
        self._seconds, self._waited = self._progress.seconds, self._supply.waited_s


def held_out(learner: Learner, batches: Batches) -> dict[str, Any]:
    """Return a line on samples that are never trained on: at most 512 of them, evenly spread."""
    held = batches.held_out
    if not len(held):
        return {}
    chosen, size = held[:: -(-len(held) // HELD_OUT)].tolist(), learner.config.batch
    with torch.no_grad():
        found = [learner.judge(batches.measured(chosen[i : i + size])) for i in range(0, len(chosen), size)]
    return {f"held_out_{name}": value for name, value in summary(found).items()}


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return `loss` and, where they are known, `distance` and `token_accuracy`."""
    row = {
        "loss": float(np.mean([float(each.loss) for each in outcomes])),
        "distance": float(np.mean([each.distance for each in outcomes])),
        "token_accuracy": accuracy(outcomes),
    }
    return {name: value for name, value in row.items() if not math.isnan(value)}


def accuracy(outcomes: Sequence[Outcome]) -> float:
    """Share of right tokens; NaN without tokens."""
    if any(each.right is None for each in outcomes):
        return math.nan
    right = sum(float(each.right.sum()) for each in outcomes if each.right is not None)
    return right / sum(float(each.counted.sum()) for each in outcomes)


def settled(outcome: Outcome) -> Outcome:
    """The same without the way back to the weights."""
    return replace(outcome, loss=outcome.loss.detach().cpu(), objective=outcome.objective.detach().cpu())


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """The passes of one step as one."""
    rights = [outcome.right for outcome in outcomes if outcome.right is not None]
    right: Array | None = np.sum(rights, axis=0) if rights else None
    return Outcome(
        torch.stack([outcome.loss.detach() for outcome in outcomes]).mean(),
        torch.stack([outcome.objective.detach() for outcome in outcomes]).mean(),
        right,
        np.sum([outcome.counted for outcome in outcomes], axis=0),
        float(np.mean([outcome.distance for outcome in outcomes])),
    )
