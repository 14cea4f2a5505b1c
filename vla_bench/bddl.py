"""Reader of BDDL task files in LIBERO's dialect.

A file is one S-expression `(define (problem NAME) (:language …) (:regions …) (:fixtures …) (:objects …)
(:obj_of_interest …) (:init …) (:goal (And …)))`; the order of the sections does not matter and names are
case-insensitive. Every error names the file and the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla_bench.errors import DataError, MissingDataError, suggest
from vla_bench.types import Predicate

SECTIONS = (
    *("problem", ":domain", ":requirements", ":language", ":regions", ":fixtures", ":objects"),
    *(":obj_of_interest", ":init", ":goal"),
)
# name → number of arguments; the semantics are in predicates.py
PREDICATES = {"in": 2, "on": 2, "open": 1, "close": 1, "turnon": 1, "turnoff": 1, "up": 1}


class Atom(str):
    """A token and the line it stands on."""

    __slots__ = ("line",)
    line: int


class Form(list["Atom | Form"]):
    """A parenthesised list and the line it opens on."""

    __slots__ = ("line",)
    line: int


@dataclass(frozen=True, slots=True)
class Region:
    """A declared region.

    Attributes:
        name: `<target>_<name in the file>`.
        target: Workspace, fixture or object that it belongs to.
        ranges: Rectangles (x0, y0, x1, y1) relative to the workspace, m; empty for a site of an asset.
        yaw_rotation: Range of yaw for fixtures placed here, rad.
        rgba: Colour of the zone's site.
    """

    name: str
    target: str
    ranges: tuple[tuple[float, float, float, float], ...] = ()
    yaw_rotation: tuple[float, ...] = (0.0, 0.0)
    rgba: tuple[float, ...] = (0.0, 0.0, 1.0, 0.0)
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


def _tokens(text: str) -> Iterator[Atom]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in re.finditer(r"[()]|[^\s()]+", line.split(";", 1)[0]):
            atom = Atom(match.group())
            atom.line = number
            yield atom


class _Reader:
    """Turns one file's text into a Problem; knows the path for its errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str, where: Atom | Form | None = None) -> DataError:
        return DataError(self.path, problem, line=None if where is None else where.line)

    def form(self, text: str) -> Form:
        stack: list[Form] = []
        top: Form | None = None
        for token in _tokens(text):
            if token == "(":
                opened = Form()
                opened.line = token.line
                if stack:
                    stack[-1].append(opened)
                elif top is not None:
                    raise self.fail("text after the end of the definition", token)
                else:
                    top = opened
                stack.append(opened)
            elif not stack:
                raise self.fail(f"expected '(', found {token!r}", token)
            elif token == ")":
                stack.pop()
            else:
                stack[-1].append(token)
        if stack:
            raise self.fail("a parenthesis that opens here is never closed (file truncated?)", stack[-1])
        if top is None:
            raise self.fail("the file is empty")
        return top

    def problem(self, text: str) -> Problem:
        top = self.form(text)
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
            elif key == ":rgba" and isinstance(value, Form):
                values["rgba"] = self._numbers(value, name, count=4)
            else:
                known = (":target", ":ranges", ":yaw_rotation", ":rgba")
                raise self.fail(f"region {name!r}: cannot use {attribute!r}{suggest(key, known)}", attribute)
        if target is None:
            raise self.fail(f"region {name!r} has no (:target …)", form)
        for x0, y0, x1, y1 in values.get("ranges", ()):
            if x1 <= x0 or y1 <= y0:
                raise self.fail(f"region {name!r}: range {x0, y0, x1, y1} has no area", form)
        return Region(name=f"{target}_{name}", target=target, line=form.line, **values)

    def _numbers(self, item: Atom | Form, region: str, *, count: int) -> tuple[float, ...]:
        try:
            numbers = tuple(float(x) for x in item) if isinstance(item, Form) else ()  # type: ignore[arg-type]
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise self.fail(f"region {region!r}: expected {count} finite numbers, found {item!r}", item)
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
        for predicate in problem.init + problem.goal:
            for arg in predicate.args:
                if arg not in names:
                    message = f"{predicate}: nothing is called {arg!r}{suggest(arg, sorted(names))}"
                    raise DataError(self.path, message, line=predicate.line)
        # Regions that nothing uses may name an absent target: libero_goal's files do.
        used = [
            problem.regions[arg]
            for p in problem.init + problem.goal
            for arg in p.args
            if arg in problem.regions
        ]
        known = [*problem.fixtures, *problem.objects]
        for region in used:
            if region.target not in known:
                what = f"nothing is called {region.target!r}{suggest(region.target, known)}"
                raise DataError(self.path, f"region {region.name!r}: {what}", line=region.line)
