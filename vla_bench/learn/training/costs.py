"""What ways of training cost, side by side: they take turns, and each turn is a process of its own.

So the memory of a way is its own, and all of them meet the machine in the same states. In each turn a way
goes on from its last checkpoint, as any training does.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch

from vla_bench.errors import ConventionError, VlaBenchError
from vla_bench.learn.training.config import Limits, Rhythm, TrainingConfig
from vla_bench.learn.training.loop import Watchers, train
from vla_bench.learn.training.session import Goal, open_session, write_policy
from vla_bench.policy.devices import pick_device
from vla_bench.spawning import leave_signals_to_main

# first steps of a turn, which allocate and compile, are not timed
WARM = 2
TURNS = "turns.jsonl"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train.

    Attributes:
        goal, config: What, and how.
        folder: Of the training.
    """

    goal: Goal
    config: TrainingConfig
    folder: Path


@dataclass(frozen=True, slots=True)
class Turn:
    """What a way did in one turn.

    Attributes:
        until: Step that it came to.
        step_s: Seconds of its steps, the first ones left out: of the process on the processor, which others
            use too, or on the clock where a GPU computes.
        idle_bytes: Memory that its process had taken before the model was loaded (0 on a GPU).
        peak_bytes: The most that it had taken by its last step: of the process, or on the GPU by tensors.
        trained, parameters: How many numbers are trained, and how many there are.
        device: As torch names it.
        refused: Why it could not be; nothing else is known then.
    """

    until: int
    step_s: tuple[float, ...] = ()
    idle_bytes: int = 0
    peak_bytes: int = 0
    trained: int = 0
    parameters: int = 0
    device: str = ""
    refused: str = ""


def take_turns(
    ways: Mapping[str, Way],
    data: Sequence[Path],
    device: str,
    *,
    steps: int,
    turns: int,
    on_turn: Callable[[str, Turn], None] = lambda name, turn: None,
) -> dict[str, list[Turn]]:
    """Train every way for `steps` steps; what an earlier call has done is not done again.

    Args:
        ways: By name; a policy with its card stands in the folder of each at the end.
        data: As `session.open_session` has it.
        device: A name of torch's, or `auto`.
        steps: Steps of the optimiser of each way.
        turns: How often each has its turn.
        on_turn: Called after each with the name of the way.

    Raises:
        ConventionError: The turns are too short to be timed.
    """
    ends = [steps * (turn + 1) // turns for turn in range(turns)]
    shortest = min(end - begin for begin, end in pairwise([0, *ends]))
    if shortest <= WARM:
        raise ConventionError(
            f"{steps} steps in {turns} turns leave {shortest} for a turn, of which the first {WARM} are not "
            "timed; ask for more steps or fewer turns"
        )
    done = {name: _known(way.folder, ends) for name, way in ways.items()}
    for number, until in enumerate(ends):
        for name, way in ways.items():
            if len(done[name]) > number or any(turn.refused for turn in done[name]):
                continue
            turn = _elsewhere(way, data, device, until, is_last=number == turns - 1)
            done[name].append(turn)
            on_turn(name, turn)
    return done


def take_turn(way: Way, data: Sequence[Path], device: str, until: int, *, is_last: bool) -> Turn:
    """Train up to a step, in this process, and measure it; write the policy if it is the last turn."""
    place = pick_device(device)
    idle = _peak_bytes(place)
    try:
        session = open_session(way.goal, way.config, data, way.folder, place)
        clock = time.perf_counter if place.type == "cuda" else time.process_time
        ends, peak = [clock()], [0]

        def look(step: int, loss: float, accuracy: float) -> None:
            ends.append(clock())
            peak[0] = _peak_bytes(place)

        rhythm, watchers = Rhythm(log=until, save=until, keep=1), Watchers(on_step=look)
        train(session.learner, session.batches, way.folder, Limits(max_steps=until), rhythm, watchers)
        if is_last:
            write_policy(session, until, ("fp32", "bf16"))
    except VlaBenchError as error:
        return Turn(until, refused=str(error))
    step_s = tuple(after - before for before, after in pairwise(ends))[WARM:]
    turn = Turn(until, step_s, idle, peak[0], session.trained_parameters, session.parameters, _name_of(place))
    with (way.folder / TURNS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(turn)) + "\n")
    return turn


def _elsewhere(way: Way, data: Sequence[Path], device: str, until: int, *, is_last: bool) -> Turn:
    """A turn in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=leave_signals_to_main) as pool:
        try:
            return pool.submit(take_turn, way, data, device, until, is_last=is_last).result()
        except BrokenProcessPool:
            return Turn(until, refused="its process was killed (out of memory?)")


def _known(folder: Path, ends: Sequence[int]) -> list[Turn]:
    """The turns that an earlier call has done.

    Raises:
        ConventionError: They were others.
    """
    path = folder / TURNS
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = [Turn(**{**row, "step_s": tuple(row["step_s"])}) for row in rows]
    if [turn.until for turn in known] != list(ends[: len(known)]):
        raise ConventionError(
            f"{path}: has turns up to the steps {[turn.until for turn in known]}, asked for {list(ends)}; "
            "take another --out"
        )
    return known


def _peak_bytes(device: torch.device) -> int:
    """The most memory so far: by tensors on a GPU, or of this process on Linux."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # ru_maxrss would be that of the process that started this one, if it was larger
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
