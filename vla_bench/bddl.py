"""Reader of BDDL task files in LIBERO's dialect.

A file is one S-expression `(define (problem NAME) (:language …) (:regions …) (:fixtures …) (:objects …)
(:obj_of_interest …) (:init …) (:goal (And …)))`; the order of the sections does not matter and names are
case-insensitive. Every error names the file and the line.

Sections beyond LIBERO's, all of them optional:

    (:regions (NAME … (:tipped (rad))))      what is placed there lies tipped over about its y axis
    (:scene NAME)                   tasks of a suite that share a scene share its initial states, seed by seed
    (:stages (NAME LITERAL …) …)    partial credit: a stage is reached once all its literals hold together
    (:moving (FIXTURE_JOINT (:speed m/s or rad/s) (:range low high)) …)
                                    a joint that is driven to and fro at constant speed; round and round
                                    without a range; it starts where the seed says
    (:published NAME)               the published task that this file mirrors, or shares with its pair
    (:departs_from TASK (WHAT how in words) …)
                                    what the task asks beyond a task of the training distribution

Literals (x is an object; lengths are those of `sim/predicates.py` and `sim/tabletop.py`):

    (On x y) (In x region) (Open x) (Close x) (TurnOn x) (TurnOff x) (Up x)      LIBERO's
    (Lifted x)          x is 5 cm above the workspace's surface and touches nothing but the gripper
    (Held x)            both fingers touch x
    (Upright x)         x stands: its z axis is within 15° of the vertical
    (Toppled x)         x lies on the workspace: its z axis is 60° or more from the vertical
    (OutOf x region)    x lies outside the region and does not touch what carries the region
    (Poured x region)   x lies inside the region and does not touch the gripper, whatever that holds
    (Near x y)          x stands or lies on the workspace, with at most 8 cm between it and y
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from vla_bench.errors import DataError, MissingDataError, suggest
from vla_bench.sexpr import Atom, Form, read_form
from vla_bench.types import Predicate

SECTIONS = (
    *("problem", ":domain", ":requirements", ":language", ":regions", ":fixtures", ":objects"),
    *(":obj_of_interest", ":init", ":goal"),
    *(":scene", ":stages", ":moving", ":published", ":departs_from"),
)
# name → number of arguments; the semantics are in predicates.py
PREDICATES = {
    **{"in": 2, "on": 2, "open": 1, "close": 1, "turnon": 1, "turnoff": 1, "up": 1},
    **{"lifted": 1, "held": 1, "upright": 1, "toppled": 1, "outof": 2, "near": 2, "poured": 2},
}
# literals that only hold while the gripper is closed
IN_HAND = frozenset(("lifted", "held"))
# literals about where or how a thing is put down, which a hand that still holds it has not done
LET_GO = frozenset(("in", "on", "outof", "near", "upright"))


@dataclass(frozen=True, slots=True)
class Region:
    """A declared region.

    Attributes:
        name: `<target>_<name in the file>`.
        target: Workspace, fixture or object that it belongs to.
        ranges: Rectangles (x0, y0, x1, y1) relative to the workspace, m; empty for a site of an asset.
        yaw_rotation: Range of yaw for fixtures placed here, and for built-in objects, rad.
        tipped: Angle by which built-in objects placed here lie tipped over, about their y axis, rad.
        rgba: Colour of the zone's site.
    """

    name: str
    target: str
    ranges: tuple[tuple[float, float, float, float], ...] = ()
    yaw_rotation: tuple[float, ...] = (0.0, 0.0)
    tipped: float = 0.0
    rgba: tuple[float, ...] = (0.0, 0.0, 1.0, 0.0)
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Stage:
    """A named part of a task: reached when its literals hold at the same time."""

    name: str
    literals: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Drive:
    """A joint of a fixture that moves by itself.

    Attributes:
        joint: `<fixture>_<joint>`.
        speed: m/s or rad/s.
        range: Where it turns back (m or rad); None: it goes round and round.
    """

    joint: str
    speed: float
    range: tuple[float, float] | None = None
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Departure:
    """What a task asks beyond one of the training distribution.

    Attributes:
        base: Stem of that task.
        changes: What changes (`background`, `object`, `size` …) → how, in words.
    """

    base: str
    changes: dict[str, str]
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """A parsed task file. Fixtures and objects map instance to category, in the file's order.

    `lines` holds the line of each instance, `line` that of the problem's name.
    """

    source: Path
    name: str
    language: str
    regions: dict[str, Region]
    fixtures: dict[str, str]
    objects: dict[str, str]
    objects_of_interest: tuple[str, ...]
    init: tuple[Predicate, ...]
    goal: tuple[Predicate, ...]
    scene: str = ""
    stages: tuple[Stage, ...] = ()
    moving: tuple[Drive, ...] = ()
    published: str = ""
    departure: Departure | None = None
    lines: dict[str, int] = field(default_factory=dict, compare=False)
    line: int | None = field(default=None, compare=False)


def read_problem(path: Path) -> Problem:
    """Read and check a task file.

    Raises:
        MissingDataError: There is no such file.
        DataError: The file is not a problem in this dialect.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: no such task file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read: {error}") from error
    return _Reader(path).problem(text)


class _Reader:
    """Turns one file's text into a Problem; knows the path for its errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str, where: Atom | Form | None = None) -> DataError:
        return DataError(self.path, problem, line=None if where is None else where.line)

    def problem(self, text: str) -> Problem:
        top = read_form(self.path, text)
        if not top or top[0] != "define":
            raise self.fail("expected (define (problem …) …)", top)
        sections: dict[str, Form] = {}
        for section in top[1:]:
            head = section[0] if isinstance(section, Form) and section else None
            if not isinstance(section, Form) or not isinstance(head, Atom):
                raise self.fail("expected a section such as (:objects …)", section)
            name = head.lower()
            if name not in SECTIONS:
                raise self.fail(f"unknown section {head!r}{suggest(name, SECTIONS)}", section)
            if name in sections:
                raise self.fail(f"section {name} appears twice", section)
            sections[name] = section
        for name in ("problem", ":objects", ":fixtures", ":init", ":goal"):
            if name not in sections:
                raise self.fail(f"section ({name} …) is missing")
        return self._assemble(sections)

    def _assemble(self, sections: dict[str, Form]) -> Problem:
        lines: dict[str, int] = {}
        regions = self._regions(sections.get(":regions"))
        fixtures = self._typed(sections[":fixtures"], lines)
        objects = self._typed(sections[":objects"], lines)
        goal = self._forms(sections[":goal"])
        if len(goal) != 1 or not goal[0] or str(goal[0][0]).lower() != "and":
            raise self.fail("the goal must be one conjunction (And …)", sections[":goal"])
        (name,) = self._atoms(sections["problem"])
        problem = Problem(
            source=self.path,
            name=name.lower(),
            language=" ".join(self._atoms(sections[":language"])) if ":language" in sections else "",
            regions=regions,
            fixtures=fixtures,
            objects=objects,
            objects_of_interest=tuple(a.lower() for a in self._atoms(sections.get(":obj_of_interest"))),
            init=tuple(map(self._predicate, self._forms(sections[":init"]))),
            goal=tuple(map(self._predicate, self._forms(goal[0]))),
            scene=self._name(sections.get(":scene")),
            stages=tuple(map(self._stage, self._forms(sections.get(":stages")))),
            moving=tuple(map(self._drive, self._forms(sections.get(":moving")))),
            published=self._name(sections.get(":published")),
            departure=self._departure(sections.get(":departs_from")),
            lines=lines,
            line=name.line,
        )
        if not problem.goal:
            raise self.fail("the goal is empty", sections[":goal"])
        self._check_names(problem)
        return problem

    def _atoms(self, form: Form | None) -> list[Atom]:
        if form is None:
            return []
        atoms = [item for item in form[1:] if isinstance(item, Atom)]
        if len(atoms) != len(form) - 1 or (form[0] == "problem" and len(atoms) != 1):
            raise self.fail(f"({form[0]} …) takes plain words only", form)
        return atoms

    def _forms(self, form: Form | None) -> list[Form]:
        items = [] if form is None else form[1:]
        for item in items:
            if not isinstance(item, Form) or not item:
                raise self.fail(f"expected a list in parentheses, found {item!r}", item)
        return items  # type: ignore[return-value]

    def _typed(self, section: Form, lines: dict[str, int]) -> dict[str, str]:
        """`a_1 a_2 - category …` to instance → category."""
        instances: dict[str, str] = {}
        pending: list[Atom] = []
        atoms = iter(self._atoms(section))
        for atom in atoms:
            if atom != "-":
                pending.append(atom)
                continue
            category = next(atoms, None)
            if category is None or not pending:
                raise self.fail("expected 'name … - category'", atom)
            for name in pending:
                if name.lower() in lines:
                    raise self.fail(f"{name!r} is declared twice (first on line {lines[name.lower()]})", name)
                instances[name.lower()] = category.lower()
                lines[name.lower()] = name.line
            pending = []
        if pending:
            raise self.fail(f"{pending[0]!r} has no '- category'", pending[0])
        return instances

    def _regions(self, section: Form | None) -> dict[str, Region]:
        regions: dict[str, Region] = {}
        for form in self._forms(section):
            region = self._region(form)
            if region.name in regions:
                first = regions[region.name].line
                raise self.fail(f"region {region.name!r} is declared twice (first on line {first})", form)
            regions[region.name] = region
        return regions

    def _region(self, form: Form) -> Region:
        name, target, values = str(form[0]).lower(), None, {}
        for attribute in form[1:]:
            if not isinstance(attribute, Form) or len(attribute) != 2:
                raise self.fail(
                    f"region {name!r}: expected (:attribute value), found {attribute!r}", attribute
                )
            key, value = str(attribute[0]).lower(), attribute[1]
            if key == ":target" and isinstance(value, Atom):
                target = value.lower()
            elif key == ":ranges" and isinstance(value, Form):
                values["ranges"] = tuple(self._numbers(item, name, count=4) for item in value)
            elif key == ":yaw_rotation" and isinstance(value, Form) and value:
                values["yaw_rotation"] = self._numbers(value[-1], name, count=2)
            elif key == ":tipped" and isinstance(value, Form):
                values["tipped"] = self._numbers(value, name, count=1)[0]
            elif key == ":rgba" and isinstance(value, Form):
                values["rgba"] = self._numbers(value, name, count=4)
            else:
                known = (":target", ":ranges", ":yaw_rotation", ":tipped", ":rgba")
                raise self.fail(f"region {name!r}: cannot use {attribute!r}{suggest(key, known)}", attribute)
        if target is None:
            raise self.fail(f"region {name!r} has no (:target …)", form)
        for x0, y0, x1, y1 in values.get("ranges", ()):
            if x1 <= x0 or y1 <= y0:
                raise self.fail(f"region {name!r}: range {x0, y0, x1, y1} has no area", form)
        return Region(name=f"{target}_{name}", target=target, line=form.line, **values)

    def _name(self, section: Form | None) -> str:
        atoms = self._atoms(section)
        if section is not None and len(atoms) != 1:
            raise self.fail(f"({section[0]} …) takes one name", section)
        return atoms[0].lower() if atoms else ""

    def _stage(self, form: Form) -> Stage:
        name, literals = form[0], self._forms(form)
        if not isinstance(name, Atom) or not literals:
            raise self.fail("expected a stage such as (grasped (Held cup_1))", form)
        return Stage(name.lower(), tuple(map(self._predicate, literals)))

    def _drive(self, form: Form) -> Drive:
        joint, values = form[0], {}
        if not isinstance(joint, Atom):
            raise self.fail("expected (fixture_joint (:speed …) (:range low high))", form)
        counts = {":speed": 1, ":range": 2}
        for attribute in self._forms(form):
            key = str(attribute[0]).lower()
            if key not in counts:
                raise self.fail(f"{joint!r} cannot use {attribute[0]!r}{suggest(key, counts)}", attribute)
            numbers = Form(attribute[1:])
            numbers.line = attribute.line
            values[key] = self._numbers(numbers, joint, count=counts[key], what="joint")
        speed, limits = values.get(":speed", (0.0,))[0], values.get(":range")
        if speed <= 0.0:
            raise self.fail(f"{joint!r} needs a positive (:speed …)", form)
        if limits is not None and limits[0] >= limits[1]:
            raise self.fail(f"{joint!r}: range {limits} is empty", form)
        return Drive(joint.lower(), speed, limits, form.line)

    def _departure(self, section: Form | None) -> Departure | None:
        if section is None:
            return None
        base, changes = section[1] if len(section) > 1 else None, {}
        for change in section[2:]:
            words = self._atoms(change) if isinstance(change, Form) and change else []
            if not words:
                raise self.fail("expected (what how in words)", change)
            changes[str(change[0]).lower()] = " ".join(words)  # type: ignore[index]
        if not isinstance(base, Atom) or not changes:
            raise self.fail("expected (:departs_from task (what how in words) …)", section)
        return Departure(base.lower(), changes, section.line)

    def _numbers(
        self, item: Atom | Form, owner: str, *, count: int, what: str = "region"
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(float(x) for x in item) if isinstance(item, Form) else ()  # type: ignore[arg-type]
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise self.fail(f"{what} {owner!r}: expected {count} finite numbers, found {item!r}", item)
        return numbers

    def _predicate(self, form: Form) -> Predicate:
        words = [str(item).lower() if isinstance(item, Atom) else None for item in form]
        name, args = words[0], words[1:]
        if name is None or name not in PREDICATES:
            raise self.fail(f"unknown predicate {form[0]!r}{suggest(str(name), PREDICATES)}", form)
        if len(args) != PREDICATES[name] or None in args:
            raise self.fail(f"({name} …) takes {PREDICATES[name]} names, found {form[1:]!r}", form)
        return Predicate(name, tuple(str(a) for a in args), form.line)

    def _check_names(self, problem: Problem) -> None:
        names = {*problem.objects, *problem.fixtures, *problem.regions}
        staged = tuple(literal for stage in problem.stages for literal in stage.literals)
        for predicate in problem.init + problem.goal + staged:
            for arg in predicate.args:
                if arg not in names:
                    message = f"{predicate}: nothing is called {arg!r}{suggest(arg, sorted(names))}"
                    raise DataError(self.path, message, line=predicate.line)
        # Regions that nothing uses may name an absent target: libero_goal's files do.
        used = [
            problem.regions[arg]
            for p in problem.init + problem.goal + staged
            for arg in p.args
            if arg in problem.regions
        ]
        known = [*problem.fixtures, *problem.objects]
        for region in used:
            if region.target not in known:
                what = f"nothing is called {region.target!r}{suggest(region.target, known)}"
                raise DataError(self.path, f"region {region.name!r}: {what}", line=region.line)
