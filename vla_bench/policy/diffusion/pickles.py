"""Reads pickles without executing anything: names become records that do nothing.

An interpreter of the few instructions that checkpoints of torch consist of. It calls nothing that a file
names, and has no instruction that would; a name that no such checkpoint needs is refused. What it builds
takes memory in proportion to the number of instructions, which is limited.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 64 << 20
MAX_INSTRUCTIONS = 2_000_000
MAX_DEPTH = 100
MAX_NUMBER_BITS = 64

# packages whose names may occur: configuration, and what pickled it
PACKAGES = ("omegaconf", "hydra", "dill", "diffusion_policy")
STORAGES = tuple(f"torch.{kind}Storage" for kind in (
    "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"
))  # fmt: skip
TABLES = ("collections.OrderedDict", "collections.defaultdict")
# of Python 2 and 3
_TYPES = tuple(f"{module}.{name}" for module in ("builtins", "__builtin__")
               for name in ("dict", "list", "tuple", "set", "int", "float", "str", "bool"))  # fmt: skip
REBUILD = "torch._utils._rebuild_tensor_v2"
NAMES = {
    *TABLES, *STORAGES, *_TYPES, REBUILD, "torch._utils._rebuild_parameter", "typing.Any", "_codecs.encode",
}  # fmt: skip


class RefusedError(Exception):
    """A pickle that is damaged, too large, or of something else; says why."""


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that the file names; never looked up."""

    path: str


@dataclass(slots=True, eq=False)
class Record:
    """What the file would have a function or class make.

    Attributes:
        name: Of the function or class.
        arguments: That it would get.
        state: What the object would be filled with.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A reference to an array of numbers beside the pickle, as (type, key, length)."""

    kind: str
    key: str
    length: int


def read_pickle(data: bytes) -> Any:
    """Return what a pickle describes: tables, lists, tuples, texts, numbers, records, storages.

    Raises:
        RefusedError: It names something else, has another instruction, or is too large, too deep or damaged.
    """
    if len(data) > MAX_BYTES:
        raise RefusedError(f"its pickle has {len(data)} bytes, at most {MAX_BYTES} are read")
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_INSTRUCTIONS:
                raise RefusedError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
            machine.do(code.name, argument)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise RefusedError(f"its pickle is damaged: {error}") from error
    found = machine.result()
    _require_shallow(found)
    return found


class _Machine:
    """The stack and the memory of an interpreter of pickles."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memory: dict[int, Any] = {}

    def do(self, instruction: str, argument: Any) -> None:
        """Follow one instruction."""
        if instruction in _PUSHES_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > MAX_NUMBER_BITS:
                raise RefusedError(f"it has a whole number of {argument.bit_length()} bits")
            self._stack.append(argument)
        elif instruction in _CONSTANTS:
            self._stack.append(_CONSTANTS[instruction]())
        elif instruction in _ACTS:
            _ACTS[instruction](self, argument)
        elif instruction not in _NOTHING:
            raise RefusedError(f"its pickle has the instruction {instruction}, which no checkpoint needs")

    def result(self) -> Any:
        """What is left when everything has been done."""
        if len(self._stack) != 1 or self._below:
            raise RefusedError(f"its pickle leaves {len(self._stack)} objects, expected one")
        return self._stack[0]

    def mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _above_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def remember(self, place: int) -> None:
        self._memory[place] = self._stack[-1]

    def memorise(self, _: Any) -> None:
        self._memory[len(self._memory)] = self._stack[-1]

    def recall(self, place: int) -> None:
        self._stack.append(self._memory[place])

    def tuple_above_mark(self, _: Any) -> None:
        items = self._above_mark()
        self._stack.append(tuple(items))

    def tuple_of(self, count: int) -> None:
        items = [self._stack.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(items)))

    def append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        self._expect(list, "a list").extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        self._update(self._above_mark())

    def _update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        for key in keys:
            inside = key if isinstance(key, tuple) else (key,)
            # a tuple of tuples of … takes for ever to hash, and so does a long one that is used often
            if len(inside) > 8 or not all(
                isinstance(each, str | int | float | bool | None) for each in inside
            ):
                raise RefusedError(f"a table has a {type(key).__name__} for a key")
        self._expect(dict, "a table").update(zip(keys, values, strict=True))

    def name(self, argument: str) -> None:
        self._push_name(*argument.split(" ", 1))

    def name_from_stack(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise RefusedError("its pickle names something by other things than texts")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        path = f"{module}.{name}"
        if path not in NAMES and module.partition(".")[0] not in PACKAGES:
            raise RefusedError(f"it names {path[:200]!r}, which no checkpoint of a diffusion policy needs")
        self._stack.append(Name(path))

    def call(self, _: Any) -> None:
        """Stands for calling a function, or making an object of a class."""
        arguments, made = self._stack.pop(), self._stack.pop()
        if not (isinstance(made, Name) and isinstance(arguments, tuple)):
            raise RefusedError(f"its pickle calls a {type(made).__name__}")
        # the factory of a `defaultdict` is not needed
        self._stack.append({} if made.path in TABLES else Record(made.path, arguments))

    def build(self, _: Any) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if isinstance(made, Record):
            made.state = state
        elif not isinstance(made, dict):  # a table of weights carries versions of modules
            raise RefusedError(f"its pickle fills a {type(made).__name__}")

    def reference(self, _: Any) -> None:
        """Stands for an array beside the pickle: ("storage", type, key, place, length)."""
        named = self._stack.pop()
        match named:
            case ("storage", Name(path), str(key), str(), int(length)) if path in STORAGES:
                self._stack.append(Storage(path, key, length))
            case _:
                raise RefusedError("its pickle refers to something that is no array of torch")

    def _expect(self, kind: type, what: str) -> Any:
        found = self._stack[-1]
        if type(found) is not kind:
            raise RefusedError(f"its pickle adds to a {type(found).__name__}, expected {what}")
        return found


_PUSHES_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "SHORT_BINSTRING", "BINSTRING",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_NOTHING = {"PROTO", "FRAME", "STOP"}
_ACTS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark, "TUPLE": _Machine.tuple_above_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": _Machine.append, "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember, "MEMOIZE": _Machine.memorise,
    "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.name, "STACK_GLOBAL": _Machine.name_from_stack,
    "REDUCE": _Machine.call, "NEWOBJ": _Machine.call, "BUILD": _Machine.build,
    "BINPERSID": _Machine.reference,
}  # fmt: skip


def parts(found: Any) -> Iterable[Any]:
    """What an object of a pickle directly consists of."""
    match found:
        case dict():
            return found.values()
        case list() | tuple():
            return found
        case Record():
            return (found.arguments, found.state)
        case _:
            return ()


def _require_shallow(found: Any) -> None:
    """Refuse what lies deeper than any checkpoint; objects may contain each other."""
    met, level = {id(found)}, [found]
    for _ in range(MAX_DEPTH):
        below = [part for each in level for part in parts(each)]
        level = []
        for part in below:
            if id(part) not in met:
                met.add(id(part))
                level.append(part)
        if not level:
            return
    raise RefusedError(f"its pickle is nested more than {MAX_DEPTH} deep")
