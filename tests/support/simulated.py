"""Outcomes of arms that share episodes, drawn from known rates: for tests of statistics."""

from __future__ import annotations

import os

import numpy as np
from scipy.stats import norm

LONG = bool(os.environ.get("VLA_BENCH_LONG"))


def crossed_rates(
    tasks: int, base: float, effects: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """(tasks, 4) rates of (reference, own weights, own latency, both).

    `effects` are weights, timing and interaction on the rate of a middling task; tasks differ by a normal
    offset of their log odds, with standard deviation .7.
    """
    weights, timing, interaction = effects
    offset = rng.normal(0, 0.7, size=(tasks, 1))
    middling = np.clip(base + np.array([0, weights, timing, weights + timing + interaction]), 0.002, 0.998)
    return 1 / (1 + np.exp(-(np.log(middling / (1 - middling)) + offset)))


def outcomes(rates: np.ndarray, seeds: int, shared: float, rng: np.random.Generator) -> np.ndarray:
    """(tasks, seeds, arms) outcomes; the episode makes the share `shared` of the latent variance."""
    tasks, arms = rates.shape
    easy = np.sqrt(shared) * rng.normal(size=(tasks, seeds, 1))
    latent = easy + np.sqrt(1 - shared) * rng.normal(size=(tasks, seeds, arms))
    return latent < norm.ppf(rates)[:, None, :]
