"""Templates, style and script of the page: values are escaped, and browsers told to load nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_bench.account.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
# Not allowed in HTML, in any form: they become what browsers would show instead.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render(template: str, **values: Any) -> str:
    """A template with these values, as HTML."""
    return _environment().get_template(template).render(**values)


def strip(table: Table, index: int) -> tuple[float, float, float] | None:
    """Low end, rate and high end in percent of a row, where the table's numbers have them row by row."""
    names = table.numbers_header
    if len(table.numbers) != len(table.rows) or not {"low", "rate", "high"} <= set(names):
        return None
    if table.numbers[index][0] != table.rows[index][0]:
        return None
    low, rate, high = (table.numbers[index][names.index(name)] for name in ("low", "rate", "high"))
    if not (isinstance(low, float) and isinstance(rate, float) and isinstance(high, float)):
        return None
    return (round(100 * low, 1), round(100 * rate, 1), round(100 * high, 1))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style, script = (
        (TEMPLATES / name).read_text(encoding="utf-8").strip() for name in ("page.css", "page.js")
    )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_legal,
    )  # fmt: skip
    environment.globals |= {
        "style": Markup(style), "script": Markup(script), "policy": _policy(style, script), "strip": strip,
    }  # fmt: skip
    return environment


def _policy(style: str, script: str) -> str:
    """What a browser may load: this style, this script, and pictures and videos from beside the page."""
    beside = "'self' file: data:"
    rules = {
        "default-src": "'none'", "script-src": _digest(script), "style-src": _digest(style),
        "img-src": beside, "media-src": beside, "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _legal(value: Any) -> Any:
    return _FORBIDDEN.sub("�", value) if isinstance(value, str) and _FORBIDDEN.search(value) else value
