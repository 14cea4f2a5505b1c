"""What is said: other words for the same goal, and other prompts for the same scene."""

from __future__ import annotations

from collections.abc import Sequence

from vla_bench.axes.cell import Cell
from vla_bench.axes.lexicon import lexicon
from vla_bench.axes.referring import described, landmarks
from vla_bench.axes.relations import DISTANCES, SIDES, Statement, survey
from vla_bench.axes.texts import prompt, variants
from vla_bench.errors import PlacementError
from vla_bench.sim.edits import Edits
from vla_bench.sim.simulation import MujocoSimulation

_SAID = {
    "left": "to the left of the {}",
    "right": "to the right of the {}",
    "front": "in front of the {}",
    "behind": "behind the {}",
    "nearest": "nearest to the robot",
    "farthest": "farthest from the robot",
}


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


def relation(cell: Cell) -> Edits:
    """Say where the object to be handled is, in words that are true of the start of this very episode.

    Where the text does not name the object, the place is true of no other thing that could be picked up.
    """
    name, noun = _described(cell)
    called, landmark = (cell.factor.options[key][cell.level - 1] for key in ("called", "landmarks"))

    def say(simulation: MujocoSimulation) -> str:
        known, seen = landmarks(simulation.scene.problem), survey(simulation)
        sayable = [Statement(side, other) for other in known if other != name for side in SIDES]
        if landmark == "noun":
            sayable += map(Statement, DISTANCES)
        choices = seen.describing(name, sayable, others=() if called else seen.candidates)
        if not choices:
            raise PlacementError(f"no place tells {name} from the other objects")
        chosen = choices[int(cell.generator().integers(len(choices)))]
        places = [_SAID[s.relation].format(s.anchor and phrase(known[s.anchor], landmark)) for s in chosen]
        told = f"{_head(noun, called)} {_enumerated(places)}"
        text = cell.task.instruction.replace(f"the {noun}", told, 1)
        relations = [[s.relation, s.anchor] for s in chosen]
        cell.drawn.update(object=name, relations=relations, instruction=text)
        return text

    return Edits(instruction=say)


def _described(cell: Cell) -> tuple[str, str]:
    found = described(cell.problem, cell.task.instruction)
    assert found is not None, "refused before"
    return found


def _head(noun: str, called: str) -> str:
    """`the carrot that is`, by the noun, by another phrase for it, or as any object."""
    if not called:
        return "the object that is"
    are = called == "noun" and lexicon().nouns[noun].plural
    return f"the {phrase(noun, called)} that {'are' if are else 'is'}"


def _enumerated(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def phrase(noun: str, key: str) -> str:
    """A noun, or what the lexicon says instead of it under a key such as `kind`."""
    return noun if key == "noun" else getattr(lexicon().nouns[noun], key)
