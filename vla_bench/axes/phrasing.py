"""Sentences around an instruction, and the order of its words; used when texts are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# from polite to roundabout; {} is the instruction, an imperative
POLITE = (
    "please {}",
    "could you {}?",
    "I would be glad if you could {}",
    "what is left for you to do now is to {}",
    "nothing else is wanted of you today than that you {}",
)

_MORNING = "good morning, I hope that you slept well"
_LIGHT = " and that the light is good enough for you today"
_WEATHER = ", because the weather outside is as grey as it gets at this time of the year"
_END = (
    "; there is only one thing that I need from you before lunch: {}, "
    "and then you are done for the rest of the day"
)

# 5, 10, 23, 42 and 58 words around the instruction
ADDED = (
    "when you are ready, please {}",
    "as soon as you are ready, please take your time: {}",
    f"{_MORNING}; there is one thing that I need from you: {{}}, that is all for now",
    f"{_MORNING}{_LIGHT}{_END}",
    f"{_MORNING}{_LIGHT}{_WEATHER}{_END}",
)

# things that are in no scene and ask for nothing
ASIDES = (
    "the umbrella stays where it is",
    "nobody needs the suitcase today",
    "my sister is still looking for her bicycle",
    "the piano was tuned last week",
    "and do not worry about the curtains",
)

_DESTINATION = re.compile(
    r"^(?P<object>it|them|.+?)(?: (?P<place>(?:into|onto|inside|in|on|to|under|near|out of|upright)\b.*))?$"
)
# verbs that bring a thing somewhere; after the others, a place says which thing is meant
_MOVING = frozenset(("put", "place", "push", "stack", "take", "move", "flip", "pour"))


def clauses(instruction: str, verbs: Iterable[str]) -> list[tuple[str, str, str]]:
    """(verb, object, place or "") of each imperative of an instruction."""
    pattern = "|".join(sorted(verbs, key=len, reverse=True))
    parts = re.split(rf"(?:^| and )(?=(?:{pattern})\b)", instruction)
    found = []
    for part in filter(None, parts):
        verb = re.match(pattern, part)
        if verb is None:
            return []
        rest = part[verb.end() :].strip()
        match = _DESTINATION.match(rest) if verb.group() in _MOVING else None
        what, where = (match["object"], match["place"] or "") if match else (rest, "")
        found.append((verb.group(), what, where))
    return found


def word_order(
    instruction: str,
    rung: int,
    verbs: Iterable[str],
    rename: Callable[[str], str] = lambda verb: verb,
    names: Iterable[str] = (),
) -> str | None:
    """The instruction with its parts in another order; rung 0 keeps the order, 5 reverses all words.

    `rename` gives other verbs, with {} where the object stands if not after it; `names` stay whole.
    """
    found = clauses(instruction, verbs)
    if not found:
        return None
    if rung == 5:
        whole = "|".join([*sorted(names, key=len, reverse=True), r"\S+"])
        return " and ".join(" ".join(re.findall(whole, f"{v} {o} {p}")[::-1]) for v, o, p in found)
    return " and ".join(_ordered(rung, rename(verb), what, where) for verb, what, where in found)


def _ordered(rung: int, verb: str, what: str, where: str) -> str:
    acts = verb if "{}" in verb else verb + " {}"
    it = what if what in ("it", "them") else "it"
    first, _, particle = verb.partition(" ")
    on_it = acts.format(it) if "{}" in verb else " ".join(filter(None, (first, it, particle)))
    said = {
        0: (acts.format(what), where),
        1: (f"{where}, {acts.format(what)}" if where else f"{what}, {on_it}",),
        2: (f"{what}:", on_it, where) if it != what else (f"{where}:", acts.format(what)),
        3: (what, verb, where),
        4: (what, where, verb),
    }[rung]
    return " ".join(filter(None, said))
