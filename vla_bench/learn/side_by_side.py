"""Episodes played by several processes, their outcomes in the order that was asked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

from vla_bench.errors import ConventionError, VlaBenchError
from vla_bench.learn.playing import Player, Setup
from vla_bench.spawning import leave_signals_to_main, one_thread_each
from vla_bench.types import Episode, Task

Wanted = tuple[Task, Episode]
_player: Player | None = None  # of this process, where it is a worker


def play_all(setup: Setup, wanted: Sequence[Wanted], workers: int) -> Generator[str]:
    """Play episodes and yield what became of each, in order; closing it ends those that are being played.

    Raises:
        ConventionError: There is no worker.
        VlaBenchError: A worker was killed.
    """
    if workers < 1:
        raise ConventionError(f"recording needs at least one worker, got {workers}")
    play = _play_here if workers == 1 or len(wanted) < 2 else _play_elsewhere
    return play(setup, wanted, min(workers, len(wanted)))


def _play_here(setup: Setup, wanted: Sequence[Wanted], _: int) -> Generator[str]:
    with closing(Player(setup)) as player:
        for task, episode in wanted:
            yield player.play(task, episode)


def _play_elsewhere(setup: Setup, wanted: Sequence[Wanted], workers: int) -> Generator[str]:
    one_thread_each()
    # spawned: a process that was forked would share an OpenGL context that does not survive it
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(setup,)
    )
    try:
        for future in [pool.submit(_play, task, episode) for task, episode in wanted]:
            yield future.result()
    except BrokenProcessPool as error:
        raise VlaBenchError(
            "a process that recorded was killed (out of memory?); the same command continues, with fewer "
            "--workers if need be"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(setup: Setup) -> None:
    global _player
    leave_signals_to_main()
    _player = Player(setup)


def _play(task: Task, episode: Episode) -> str:
    assert _player is not None
    return _player.play(task, episode)
