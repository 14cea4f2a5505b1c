"""S-expressions: nested lists of words in parentheses, each with the line that it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vla_bench.errors import DataError


class Atom(str):
    """A token and the line it stands on."""

    __slots__ = ("line",)
    line: int


class Form(list["Atom | Form"]):
    """A parenthesised list and the line it opens on."""

    __slots__ = ("line",)
    line: int


def read_form(path: Path, text: str) -> Form:
    """The one list that a file's text consists of; a semicolon begins a comment.

    Args:
        path: Named in errors.
        text: What the file holds.

    Raises:
        DataError: The parentheses do not match, or there is more or less than one list.
    """
    stack: list[Form] = []
    top: Form | None = None
    for token in _tokens(text):
        if token == "(":
            opened = Form()
            opened.line = token.line
            if stack:
                stack[-1].append(opened)
            elif top is not None:
                raise DataError(path, "text after the end of the definition", line=token.line)
            else:
                top = opened
            stack.append(opened)
        elif not stack:
            raise DataError(path, f"expected '(', found {token!r}", line=token.line)
        elif token == ")":
            stack.pop()
        else:
            stack[-1].append(token)
    if stack:
        problem = "a parenthesis that opens here is never closed (file truncated?)"
        raise DataError(path, problem, line=stack[-1].line)
    if top is None:
        raise DataError(path, "the file is empty")
    return top


def _tokens(text: str) -> Iterator[Atom]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in re.finditer(r"[()]|[^\s()]+", line.split(";", 1)[0]):
            atom = Atom(match.group())
            atom.line = number
            yield atom
