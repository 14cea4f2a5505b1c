"""Writes the frozen texts: `python -m vla_bench.axes.authoring` composes them from the lexicon, once.

Run it when a task or a word is added, read what changed, and commit it. Running a variation only reads the
files. Instructions of LIBERO come from the names of its tasks; other prompts of its scenes need its data.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vla_bench import catalog, seeding
from vla_bench.axes import scenery
from vla_bench.axes.factors import LEVELS
from vla_bench.axes.lexicon import Lexicon, lexicon
from vla_bench.axes.phrasing import ADDED, ASIDES, POLITE, clauses, word_order
from vla_bench.axes.texts import goal_text
from vla_bench.bddl import Problem, read_problem
from vla_bench.errors import MissingDataError
from vla_bench.sim.workspaces import workspace
from vla_bench.types import Task

TYPOS = (1, 2, 3, 5, 8)
_TYPING_VARIANTS = 3
_NEIGHBOURS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# what can be asked of any object: to be somewhere, or in the hand
_SWAPPED = ("on", "in", "up", "lifted", "held")

Row = dict[str, object]


def texts(instruction: str) -> dict[str, list[list[str]]]:
    """File name → the texts of an instruction: for each level its variants, none where there is none."""
    words, levels = lexicon(), range(1, LEVELS + 1)

    def one(compose: Callable[[int], str | None]) -> list[list[str]]:
        said = [compose(level) for level in levels]
        return [[] if text is None or text == instruction else [text] for text in said]

    return {
        "language/texts/synonyms.csv": one(lambda level: _synonyms(words, instruction, level / LEVELS)),
        "language/texts/paraphrase.csv": one(lambda level: POLITE[level - 1].format(instruction)),
        "language/texts/word_order.csv": one(lambda level: _reordered(words, instruction, level)),
        "language/texts/verbosity.csv": one(lambda level: ADDED[level - 1].format(instruction)),
        "language/texts/typing_errors.csv": [
            [_mistype(instruction, TYPOS[level - 1], variant) for variant in range(_TYPING_VARIANTS)]
            for level in levels
        ],
        "language/texts/distractor_clauses.csv": one(lambda level: ", ".join([instruction, *ASIDES[:level]])),
        "language/texts/reference.csv": one(lambda level: _reference(words, instruction, level)),
        "semantic/texts/concepts.csv": one(lambda level: _concept(words, instruction, level)),
        "semantic/texts/unseen_verbs.csv": one(lambda level: _rare(words, instruction, level)),
    }


def prompts(task: Task, siblings: Iterable[Task]) -> dict[str, list[Row]]:
    """File name → other prompts of a task's scene; needs the tasks' files."""
    problem = read_problem(task.bddl)
    others = [(other, read_problem(other.bddl)) for other in siblings if other.stem != task.stem]
    paired: list[Row] = [
        {"instruction": other.instruction, "goal": goal_text(theirs), "source": other.id}
        for other, theirs in sorted(
            others, key=lambda pair: _difference(task.instruction, pair[0].instruction)
        )
        if _scene(theirs) == _scene(problem)
        and other.success_open_gripper == task.success_open_gripper
        and set(theirs.goal) != set(problem.goal)
        and _names_its_goal(other, theirs)
    ]
    swapped: list[Row] = [
        {
            "instruction": instruction,
            "goal": goal.replace(f"({name}", f"({other}"),
            "source": f"{name} → {other}",
        }
        for name, other, instruction, goal in _swaps(task, problem)
    ]
    return {
        "language/texts/paired_prompts.csv": _ranked(task, paired),
        "semantic/texts/targets_swapped.csv": _ranked(task, swapped),
    }


def write(folder: Path) -> None:
    """Write all files of texts below a folder with tasks.

    Raises:
        MissingDataError: LIBERO's data is not there.
    """
    files: dict[str, list[Row]] = {}
    for instruction in instructions():
        for name, levels in texts(instruction).items():
            files.setdefault(name, []).extend(
                {"instruction": instruction, "level": level, "variant": number, "text": text}
                for level, said in enumerate(levels, start=1)
                for number, text in enumerate(said)
            )
    for suite in _described_suites():
        tasks = [suite.task(stem) for stem in suite.stems()]
        for task in tasks:
            for name, rows in prompts(task, tasks).items():
                files.setdefault(name, []).extend(rows)
    for name, rows in files.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _described_suites() -> list[catalog.Suite]:
    """Those whose scenes can be read; other engines' tasks cannot be varied, so nothing is said of them."""
    return [suite for suite in catalog.suites().values() if suite.engine is None]


def instructions() -> tuple[str, ...]:
    """Instructions of all tasks that can be varied, each once; LIBERO's follow from its files' names."""
    found: list[str] = []
    for suite in _described_suites():
        try:
            found += [suite.task(stem).instruction for stem in suite.stems()]
        except MissingDataError:
            if suite.instruction != "file_name":
                raise
            found += [catalog.words_of(stem) for stem in suite.stems()]
    return tuple(dict.fromkeys(found))


# ── other words ────────────────────────────────────────────────────────────────────────────────────────────


def _synonyms(words: Lexicon, instruction: str, share: float) -> str:
    """Replace that share of the nouns and verbs, nouns first, each by its synonym."""
    nouns = [(name, words.nouns[name].synonym) for name in dict.fromkeys(words.nouns_in(instruction))]
    verbs = [(verb, words.verbs[verb].synonyms[0]) for verb in _verbs_in(words, instruction)]
    slots = [slot for pair in _alternate(verbs, nouns) for slot in pair]
    return _swap(instruction, slots[: math.ceil(share * len(slots))], words)


def _alternate(first: Sequence, second: Sequence) -> list[list]:
    longest = max(len(first), len(second))
    return [[*first[i : i + 1], *second[i : i + 1]] for i in range(longest)]


def _reference(words: Lexicon, instruction: str, level: int) -> str:
    """Refer by attribute (1), by attribute and kind (2, 3), by looks (4, 5); to the first thing or to all."""
    names = list(dict.fromkeys(words.nouns_in(instruction)))
    if not names:
        return instruction
    first = names[:1]
    if level == 1:
        return _swap(instruction, [(n, f"{words.nouns[n].attribute} {n}") for n in first], words)
    if level == 4 and len(names) > 1:
        kinds = [(n, words.nouns[n].kind) for n in names[1:]]
        return _swap(instruction, [(first[0], words.nouns[first[0]].looks), *kinds], words)
    key = "kind" if level < 4 else "looks"
    return _swap(
        instruction, [(n, getattr(words.nouns[n], key)) for n in (first if level == 2 else names)], words
    )


def _concept(words: Lexicon, instruction: str, level: int) -> str:
    """Add what the first thing is for (1); say only that: of the last (2), first (3), all (4); riddle (5)."""
    names = list(dict.fromkeys(words.nouns_in(instruction)))
    uses = {n: words.nouns[n].use for n in names}
    if not names:
        return instruction
    if level == 1:
        return _swap(instruction, [(names[0], f"{names[0]} (the {uses[names[0]]})")], words)
    chosen = {2: names[-1:], 3: names[:1], 4: names, 5: names}[level]
    said = [(n, words.nouns[n].riddle if level == 5 and n == names[0] else uses[n]) for n in chosen]
    return _swap(instruction, said, words)


def _reordered(words: Lexicon, instruction: str, level: int) -> str | None:
    return word_order(instruction, level, words.verbs, names=words.nouns)


def _rare(words: Lexicon, instruction: str, level: int) -> str | None:
    """Replace every verb by a rare one."""
    return word_order(instruction, 0, words.verbs, lambda verb: words.verbs[verb].rare[level - 1])


def _swap(instruction: str, replacements: Sequence[tuple[str, str]], words: Lexicon) -> str:
    """Replace whole nouns and verbs, all at once, so that no replacement is replaced again."""
    table = dict(replacements)
    known = sorted([*words.nouns, *words.verbs], key=len, reverse=True)
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, known)) + r")\b")
    return pattern.sub(lambda match: table.get(match.group(), match.group()), instruction)


def _verbs_in(words: Lexicon, instruction: str) -> list[str]:
    pattern = "|".join(sorted(words.verbs, key=len, reverse=True))
    return list(dict.fromkeys(re.findall(rf"(?:^|\band )({pattern})\b", instruction)))


def _mistype(instruction: str, errors: int, variant: int) -> str:
    """Make so many slips: letters swapped, left out, doubled, or hit beside; never the same place twice."""
    generator = seeding.generator("select", "typing errors", instruction, errors, variant)
    letters = list(instruction)
    places = [i for i in range(len(letters) - 1) if letters[i].isalpha() and letters[i + 1].isalpha()]
    chosen: list[int] = []
    for place in generator.permutation(places):
        if len(chosen) < errors and all(abs(place - other) > 1 for other in chosen):
            chosen.append(int(place))
    for place in sorted(chosen, reverse=True):
        slip = int(generator.integers(4))
        one, two = letters[place], letters[place + 1]
        row = next(row for row in _NEIGHBOURS if one in row)
        beside = row[row.index(one) - 1] if row.index(one) else row[1]
        letters[place : place + 2] = {
            0: [two, one] if one != two else [one],
            1: [two],
            2: [one, one, two],
            3: [beside, two],
        }[slip]
    return "".join(letters)


# ── other prompts ──────────────────────────────────────────────────────────────────────────────────────────


def _ranked(task: Task, rows: Sequence[Row]) -> list[Row]:
    unique = list({str(row["goal"]): row for row in reversed(rows)}.values())[::-1]
    return [{"task": task.id, "level": n, **row} for n, row in enumerate(unique[:LEVELS], start=1)]


def _names_its_goal(task: Task, problem: Problem) -> bool:
    """Whether an instruction names what its goal handles; some tasks say something else on purpose."""
    words = lexicon()
    named = [words.nouns[noun] for noun in words.nouns_in(task.instruction)]
    handled = {literal.args[0] for literal in problem.goal} & problem.objects.keys()
    return all(
        any(problem.objects[name] in (*noun.categories, *noun.also) for noun in named) for name in handled
    )


def _difference(one: str, other: str) -> tuple[int, str]:
    return len(set(one.split()) ^ set(other.split())), other


def _scene(problem: Problem) -> tuple:
    """What makes two problems the same scene."""
    regions = {region.name: (region.ranges, region.yaw_rotation) for region in problem.regions.values()}
    used = {arg: regions.get(arg) for literal in problem.init for arg in literal.args}
    return problem.name, problem.scene, problem.objects, problem.fixtures, set(problem.init), used


def _swaps(task: Task, problem: Problem) -> list[tuple[str, str, str, str]]:
    """(handled object, other object, instruction, goal) where the other one could be meant instead."""
    words, place = lexicon(), workspace(problem)
    handled = scenery.handled(problem)
    if (
        len(handled) != 1
        or len(problem.goal) != 1
        or problem.goal[0].name not in _SWAPPED
        or not scenery.loose(problem, place, handled)
    ):
        return []
    name = handled[0]
    old = words.noun_for(problem.objects[name], task.instruction)
    # a place in the description ("the bowl next to the plate") would no longer be true of the other object
    if all(what != f"the {old}" for _, what, _ in clauses(task.instruction, words.verbs)):
        return []
    found = []
    for other in scenery.bare(problem, place, scenery.bystanders(problem)):
        new = words.noun_of(problem.objects[other])
        twins = [c for c in problem.objects.values() if c == problem.objects[other]]
        if old and new and len(twins) == 1 and new not in task.instruction:
            found.append((name, other, _swap(task.instruction, [(old, new)], words), goal_text(problem)))
    return found


if __name__ == "__main__":
    write(catalog.data_folders("tasks")[-1])
