"""`act`: one picture and an instruction in, one answer out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vla_bench.cli.shared import AsJson, app

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vla_bench.policy.asking import Answer
    from vla_bench.types import Observation

_COLUMNS = ("Δx", "Δy", "Δz", "Δroll", "Δpitch", "Δyaw", "gripper")


@app.command()
def act(
    policy: Annotated[str, typer.Option(help="The policy; NAME:FOLDER takes weights of your own.")],
    instruction: Annotated[str, typer.Option(help="What it is told.")],
    image: Annotated[
        list[str] | None, typer.Option(help="PNG or JPEG of its first camera; CAMERA=FILE of another one.")
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(help=".npz with pictures and proprioception by name.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="A precision of its card; default the first.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Calls that are timed, after a first one.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show a policy one picture: tokens, actions, the command to the simulator, and the time it took."""
    import dataclasses
    import time

    from vla_bench.policy.asking import ask, observation_of, read_given
    from vla_bench.policy.base import precision_report
    from vla_bench.policy.cards import load_policy, read_card

    precision = precision or read_card(policy).precisions[0]
    given = read_given(image or [], arrays)
    began = time.perf_counter()
    loaded = load_policy(policy, precision)
    load_s = time.perf_counter() - began
    seen = observation_of(loaded.spec, given, instruction)
    answer, report = ask(loaded, seen, calls=calls), precision_report(loaded)
    if as_json:
        numbers = None if report is None else dataclasses.asdict(report)
        head = {"policy": policy, "precision": precision, "precision_report": numbers, "load_s": load_s}
        head |= _seen(seen)
        print(json.dumps({**head, **answer.to_json()}, indent=2))
        return
    print(f"{policy} at {precision}, loaded in {load_s:.1f} s")
    if report is not None:
        print(report)
    for camera, picture in seen.images.items():
        height, width = picture.shape[:2]
        in_simulator = " × ".join(map(str, loaded.spec.image_px))
        print(f"saw   {camera} {height} × {width} (in the simulator {in_simulator})")
    print(f"told  {instruction}\n")
    print(_table(answer))


def _seen(observation: Observation) -> dict[str, Any]:
    return {
        "instruction": observation.instruction,
        "images": {camera: list(picture.shape[:2]) for camera, picture in observation.images.items()},
        "proprio": {name: value.tolist() for name, value in observation.proprio.items()},
    }


def _table(answer: Answer) -> str:
    told, commands = answer.explanation, answer.explanation.chunk.actions
    size = commands.shape[1]
    columns = _COLUMNS if size == len(_COLUMNS) else tuple(str(i) for i in range(size))
    lines = ["".join([" " * 12, *(f"{name:>10}" for name in columns)])]
    if told.tokens is not None:
        lines += _rows("token", told.tokens, "d")
    if told.normalised is not None:
        lines += _rows("normalised", told.normalised, ".4f")
    if told.physical is not None:
        lines += _rows("physical", told.physical, ".4f")
    lines += _rows("command", commands, ".4f")
    if told.units:
        lines.append(f"\nphysical: in {told.units}")
    lines.append("command: 1 is 0.05 m or 0.5 rad (rotation vector); gripper −1 open, +1 closed")
    phases = ", ".join(f"{name} {ms:.2f} ms" for name, ms in answer.timings_ms.items())
    lines.append(f"time: {phases}; the first call {answer.first_ms:.0f} ms")
    again = "the same commands" if answer.repeats else "OTHER commands: the policy is not repeatable"
    lines.append(f"again: the same observation and seed give {again}")
    return "\n".join([*lines, *(f"look: {remark}" for remark in told.remarks)])


def _rows(name: str, values: NDArray[np.number], form: str) -> list[str]:
    """One line an action of the chunk."""
    return [
        "".join([f"{name if i == 0 else '':12}", *(f"{value:>10{form}}" for value in row)])
        for i, row in enumerate(values)
    ]
