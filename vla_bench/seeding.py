"""The only place where random generators are made.

A draw is keyed by what it belongs to (a namespace and the episode), never by arm, worker or order, so that
the same key gives the same bytes anywhere. Namespaces are disjoint: nothing that is trained or chosen sees
an `eval` seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

Namespace = Literal["demo", "dagger", "select", "certify", "eval", "policy", "latency", "statistics"]


def generator(namespace: Namespace, *key: str | int) -> np.random.Generator:
    """Return the generator that belongs to `key` in `namespace`.

    The key is hashed with its structure (types and boundaries), so ("a", "bc") and ("ab", "c") differ.
    """
    material = "\x1f".join(f"{type(part).__name__}:{part}" for part in (namespace, *key))
    digest = hashlib.sha256(material.encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], dtype=np.uint64)))


def libero_stream(seed: int) -> np.random.RandomState:
    """Return the legacy Mersenne-Twister stream of `np.random.seed(seed)`.

    LIBERO samples its scenes from numpy's old global stream; its published episodes cannot be reproduced
    with any other generator. Nothing else may use it.
    """
    return np.random.RandomState(seed)


def numpy_stream(seed: int) -> np.random.RandomState:
    """Return the legacy stream of `np.random.seed(seed)`, for a library that draws from it: robosuite."""
    return np.random.RandomState(seed)


@contextmanager
def global_stream(stream: np.random.RandomState) -> Iterator[None]:
    """Let numpy's global stream be `stream` inside the block; what it was comes back, `stream` moves on.

    One thread at a time: the global stream is the process's.
    """
    before = np.random.get_state()  # noqa: NPY002
    np.random.set_state(stream.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        stream.set_state(np.random.get_state())  # noqa: NPY002
        np.random.set_state(before)  # noqa: NPY002
