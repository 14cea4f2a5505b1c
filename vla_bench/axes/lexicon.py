"""Words for what instructions name, and the way back from a text to what it names.

The lexicon is data (`tasks/language/texts/lexicon.toml`). Texts are composed from it when they are written
(`authoring`), and checked with it: a text names the same things as the instruction it stands for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import model_validator

from vla_bench import catalog
from vla_bench.config import FileModel, parse, read_toml

FILE = "language/texts/lexicon.toml"
PHRASES = ("synonym", "kind", "looks", "use", "riddle")


class Noun(FileModel):
    """What else a thing may be called; phrases stand after "the"."""

    categories: tuple[str, ...]
    also: tuple[str, ...] = ()
    plural: bool = False
    synonym: str
    attribute: str
    kind: str
    looks: str
    use: str
    riddle: str


class Verb(FileModel):
    """Other verbs; `rare` goes from a little to very unusual, {} is where the object stands."""

    synonyms: tuple[str, ...]
    rare: tuple[str, str, str, str, str]


class Lexicon(FileModel):
    """Nouns and verbs as they stand in instructions."""

    nouns: dict[str, Noun]
    verbs: dict[str, Verb]

    @model_validator(mode="after")
    def _no_phrase_is_ambiguous(self) -> Lexicon:
        seen: dict[str, str] = {}
        for name, noun in self.nouns.items():
            for phrase in {name, *(getattr(noun, key) for key in PHRASES)}:
                if phrase in seen:
                    raise ValueError(f"{phrase!r} stands for {seen[phrase]!r} and for {name!r}")
                seen[phrase] = name
        return self

    def noun_of(self, category: str) -> str | None:
        """What a category is called, None if it has no word."""
        return next((name for name, noun in self.nouns.items() if category in noun.categories), None)

    def nouns_in(self, text: str) -> tuple[str, ...]:
        """The nouns that a text names, by any of their phrases, in the order of the text."""
        return tuple(self.phrases[match.group()] for match in self.pattern.finditer(text.lower()))

    def noun_for(self, category: str, instruction: str) -> str | None:
        """The noun of an instruction that means a category, None if there is none or several."""
        meant = [
            name
            for name in self.nouns_in(instruction)
            if category in (*self.nouns[name].categories, *self.nouns[name].also)
        ]
        return meant[0] if len(meant) == 1 else None

    @property
    def phrases(self) -> Mapping[str, str]:
        """Every phrase → its noun, in lower case."""
        return _phrases(self)[0]

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds the longest phrases in lower-case text."""
        return _phrases(self)[1]

    def __hash__(self) -> int:
        return id(self)


@functools.lru_cache(maxsize=4)
def _phrases(lexicon: Lexicon) -> tuple[Mapping[str, str], re.Pattern[str]]:
    found = {
        phrase.lower(): name
        for name, noun in lexicon.nouns.items()
        for phrase in (name, f"{noun.attribute} {name}", *(getattr(noun, key) for key in PHRASES))
    }
    longest_first = sorted(found, key=len, reverse=True)
    return found, re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")


def lexicon() -> Lexicon:
    """The project's lexicon, or the user's.

    Raises:
        DataError: It is broken, or a phrase stands for two things.
    """
    return _lexicon(tuple(catalog.data_folders("tasks")))


@functools.lru_cache(maxsize=4)
def _lexicon(folders: tuple[Path, ...]) -> Lexicon:
    path = next(p for p in (folder / FILE for folder in folders) if p.is_file())
    return parse(Lexicon, read_toml(path), path)
