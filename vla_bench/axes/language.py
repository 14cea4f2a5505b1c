"""What is said: other words for the same goal, and other prompts for the same scene."""

from __future__ import annotations

from vla_bench.axes.cell import Cell
from vla_bench.axes.texts import prompt, variants
from vla_bench.sim.edits import Edits


def text(cell: Cell) -> Edits:
    """Say the instruction in other words; where the level has several texts, one is drawn."""
    found = variants(cell.factor, cell.task.instruction, cell.level)
    chosen = int(cell.generator().integers(len(found)))
    cell.drawn.update(variant=chosen, instruction=found[chosen])
    return Edits(instruction=found[chosen])


def other_prompt(cell: Cell) -> Edits:
    """Another prompt of the same scene: goal and instruction are those that the file declares."""
    found = prompt(cell.factor, cell.task, cell.level)
    assert found is not None, "refused before"
    goal = [str(literal) for literal in found.goal]
    cell.drawn.update(instruction=found.instruction, goal=goal, source=found.source)
    return Edits(instruction=found.instruction, goal=found.goal)
