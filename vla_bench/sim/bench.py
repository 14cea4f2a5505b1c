"""How fast a task is simulated: control steps per second, against bare MuJoCo and against the original.

Machines are noisy, so the contenders take turns in one process and every claim is the median of ratios
within a round. The original (hf-libero with robosuite 1.4.0) takes part where it can be imported.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mujoco
import numpy as np

from vla_bench import catalog, seeding
from vla_bench.sim.simulation import MujocoSimulation
from vla_bench.types import CameraView, Episode, Task


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Attributes:
        name: In the result.
        steps: Control steps a turn: rendering is a hundred times slower than physics.
        prepare: Called before each turn, not timed.
        run: Performs so many control steps.
    """

    name: str
    steps: int
    prepare: Callable[[], Any]
    run: Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """A benchmark of one task.

    Attributes:
        steps_per_s: Contender → median control steps per second.
        ratios: What is compared → median of the ratios within rounds.
        construction_ms, reset_ms: Building a simulation; resets after the first.
        rss_mb: Resident memory of a process that simulates without pictures.
        processes: One and two simulators on as many processes, steps per second in all, and their ratio.
    """

    task: str
    rounds: int
    steps_per_s: dict[str, float]
    ratios: dict[str, float]
    construction_ms: float
    reset_ms: float
    rss_mb: float | None
    processes: dict[str, float]


def bench_simulation(task: Task, *, rounds: int = 5, pictures: bool = True) -> Result:
    """Measure one task.

    Args:
        task: Which.
        rounds: Turns of each contender.
        pictures: Whether contenders that draw take part.
    """
    processes, rss_mb = _processes(task, rounds)
    began = time.perf_counter()
    simulation = MujocoSimulation(task)
    construction_ms = (time.perf_counter() - began) * 1e3
    reset_ms = median(_time(lambda k=k: simulation.reset(_episode(task, k))) for k in range(1, 6)) * 1e3
    contenders = [*_ours(simulation, pictures), *_original(task, pictures)]
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds + 1):
        for contender in contenders:
            contender.prepare()
            spent = _time(lambda c=contender: c.run(c.steps)) / contender.steps
            if turn:  # the first turn warms up
                seconds[contender.name].append(spent)
    simulation.close()
    return Result(
        task=task.id,
        rounds=rounds,
        steps_per_s={name: 1 / median(spent) for name, spent in seconds.items()},
        ratios=_ratios(seconds),
        construction_ms=construction_ms,
        reset_ms=reset_ms,
        rss_mb=rss_mb,
        processes=processes,
    )


def _ours(simulation: MujocoSimulation, pictures: bool) -> Iterator[Contender]:
    task = simulation.task

    def reset() -> None:
        simulation.reset(_episode(task, 0))

    substeps = task.ticks_per_step * task.substeps_per_tick
    model, data, arm = simulation.model, simulation.data, slice(0, 7)

    def bare(steps: int) -> None:
        for _ in range(steps):
            data.ctrl[arm] = data.qfrc_bias[arm]  # carries its weight: a falling arm would hit things
            for _ in range(substeps):
                mujoco.mj_step(model, data)

    yield Contender("bare mj_step", 150, reset, bare)
    yield Contender("no pictures", 150, reset, _stepping(simulation, cameras=0, every=1))
    if pictures:
        yield Contender("1 camera every step", 6, reset, _stepping(simulation, cameras=1, every=1))
        yield Contender("2 cameras every step", 4, reset, _stepping(simulation, cameras=2, every=1))
        yield Contender("2 cameras every 8th step", 24, reset, _stepping(simulation, cameras=2, every=8))


def _stepping(simulation: MujocoSimulation, *, cameras: int, every: int) -> Callable[[int], None]:
    task, actions = simulation.task, _actions(256)
    views = [CameraView(name) for name in task.cameras[:cameras]]

    def run(steps: int) -> None:
        for k in range(steps):
            for tick in range(task.ticks_per_step):
                simulation.tick(actions[k % 256] if tick == 0 else None)
            simulation.observe(views if k % every == 0 else ())

    return run


def _original(task: Task, pictures: bool) -> Iterator[Contender]:
    """The original environment without and with its cameras, where it is installed."""
    try:
        from libero.libero.envs.env_wrapper import ControlEnv  # type: ignore[import-not-found]
    except ImportError:
        return
    actions = _actions(256)

    def contender(name: str, steps: int, **settings: Any) -> Contender:
        env = ControlEnv(bddl_file_name=str(task.bddl), **settings)
        env.seed(0)

        def run(steps: int) -> None:
            for k in range(steps):
                env.step(actions[k % 256])

        return Contender(name, steps, env.reset, run)

    blind = {"has_offscreen_renderer": False, "use_camera_obs": False}
    yield contender("original, no pictures", 40, **blind)
    if pictures:
        yield contender("original, 2 cameras every step", 4, camera_heights=256, camera_widths=256)


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    def ratio(fast: str, slow: str) -> float:
        return median(b / a for a, b in zip(seconds[fast], seconds[slow], strict=True))

    pairs = {
        "no pictures : bare mj_step": ("no pictures", "bare mj_step"),
        "no pictures : original, no pictures": ("no pictures", "original, no pictures"),
        "2 cameras every 8th step : original, 2 cameras every step": (
            "2 cameras every 8th step", "original, 2 cameras every step"),
        "2 cameras every step : original, 2 cameras every step": (
            "2 cameras every step", "original, 2 cameras every step"),
    }  # fmt: skip
    return {text: ratio(*pair) for text, pair in pairs.items() if set(pair) <= seconds.keys()}


def _processes(task: Task, rounds: int) -> tuple[dict[str, float], float | None]:
    """Throughput of one and of two simulating processes, and the memory of one of them."""
    context = multiprocessing.get_context("spawn")
    before = os.environ.get("LP_NUM_THREADS")
    os.environ["LP_NUM_THREADS"] = "1"
    try:
        with context.Pool(2) as pool:
            pool.starmap(_simulate, [(task.id, 10)] * 2)  # build and warm up both
            single, double, sizes = [], [], []
            for _ in range(rounds):
                rate, size = pool.apply(_simulate, (task.id, 300))
                single.append(rate)
                sizes.append(size)
                double.append(
                    sum(rate for rate, _ in pool.starmap(_simulate, [(task.id, 300)] * 2, chunksize=1))
                )
    finally:
        os.environ.pop("LP_NUM_THREADS")
        if before is not None:
            os.environ["LP_NUM_THREADS"] = before
    ratio = median(b / a for a, b in zip(single, double, strict=True))
    sizes = [size for size in sizes if size is not None]
    return {"one": median(single), "two": median(double), "ratio": ratio}, max(sizes, default=None)


_kept: dict[str, MujocoSimulation] = {}


def _simulate(task_id: str, steps: int) -> tuple[float, float | None]:
    """Steps per second in this process, and its resident memory in MB."""
    if task_id not in _kept:
        _kept[task_id] = MujocoSimulation(catalog.task(task_id))
    simulation = _kept[task_id]
    simulation.reset(_episode(simulation.task, 0))
    run = _stepping(simulation, cameras=0, every=1)
    return steps / _time(lambda: run(steps)), _resident_mb()


def _resident_mb() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _episode(task: Task, k: int) -> Episode:
    return Episode(task.id, seed=k) if task.init_states is None else Episode(task.id, init_state=k)


def _actions(n: int) -> np.ndarray:
    """Smooth motion of all joints, and a gripper that opens and closes."""
    phase = seeding.generator("eval", "bench").uniform(0, 2 * np.pi, 7)
    return np.sin(np.arange(n)[:, None] * np.linspace(0.05, 0.2, 7) + phase) * [
        0.5,
        0.5,
        0.4,
        0.1,
        0.1,
        0.2,
        1,
    ]


def _time(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def describe(result: Result) -> str:
    """The result for a terminal."""
    rates = [f"  {name:34}{rate:9.1f}" for name, rate in result.steps_per_s.items()]
    ratios = [f"  {text:62}{ratio:6.2f}" for text, ratio in result.ratios.items()]
    memory = "unknown" if result.rss_mb is None else f"{result.rss_mb:.0f} MB"
    one, two = result.processes["one"], result.processes["two"]
    return "\n".join(
        [
            f"{result.task}, medians of {result.rounds} rounds",
            "control steps per second",
            *rates,
            "ratios, within rounds",
            *ratios,
            f"construction {result.construction_ms:.0f} ms, reset {result.reset_ms:.1f} ms, "
            f"resident without pictures {memory}",
            f"one process {one:.0f} steps/s, two {two:.0f} steps/s: {result.processes['ratio']:.2f} times",
        ]
    )
