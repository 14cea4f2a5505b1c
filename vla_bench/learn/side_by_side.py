"""Episodes made by several processes, their outcomes in the order that was asked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any, Protocol, TypeVar

from vla_bench.errors import ConventionError, VlaBenchError
from vla_bench.spawning import leave_signals_to_main, one_thread_each

Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")


class Maker(Protocol[Item_contra]):
    """Makes one episode after the other; what is kept waits in the spool of a data set."""

    def make(self, item: Item_contra) -> str:
        """Make the episode of an item and return its outcome."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


def make_all(begin: Callable[[], Maker[Item]], items: Sequence[Item], workers: int) -> Generator[str]:
    """Make episodes and yield what became of each, in order; closing it waits for those that are being made.

    Args:
        begin: Called in each process; can be pickled.
        items: Can be pickled.
        workers: How many processes.

    Raises:
        ConventionError: There is no worker.
        VlaBenchError: A worker was killed.
    """
    if workers < 1:
        raise ConventionError(f"recording needs at least one worker, got {workers}")
    if workers == 1 or len(items) < 2:
        with closing(begin()) as maker:
            yield from map(maker.make, items)
    else:
        yield from _make_elsewhere(begin, items, min(workers, len(items)))


def _make_elsewhere(begin: Callable[[], Maker[Any]], items: Sequence[Any], workers: int) -> Generator[str]:
    one_thread_each()
    # spawned: a process that was forked would share an OpenGL context that does not survive it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(begin,))
    try:
        for future in [pool.submit(_make, item) for item in items]:
            yield future.result()
    except BrokenProcessPool as error:
        raise VlaBenchError(
            "a process that recorded was killed (out of memory?); the same command continues, with fewer "
            "--workers if need be"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_maker: Maker[Any] | None = None  # of this process, where it is a worker


def _begin(begin: Callable[[], Maker[Any]]) -> None:
    global _maker
    leave_signals_to_main()
    _maker = begin()


def _make(item: Any) -> str:
    assert _maker is not None
    return _maker.make(item)
