"""A table as Markdown, LaTeX (booktabs), CSV, or text for a terminal; what it says is escaped for each."""

from __future__ import annotations

import csv
import io
import re
import textwrap

from vla_bench.account.tables import Table

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
# An underscore inside a word is no emphasis, and names are full of them.
_MARKDOWN = re.compile(r"[\\`*|<>&\[\]~$!]|(?<![^\W_])_|_(?![^\W_])")


def latex_escape(text: str) -> str:
    """Text without anything that LaTeX would take for a command."""
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def markdown_escape(text: str) -> str:
    """Text that Markdown shows as it stands, also within a table."""
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def to_markdown(table: Table) -> str:
    """A heading, a table padded to be read as it is, and the caption."""
    rows = [
        [f"**{markdown_escape(text)}**" if i in table.bold else markdown_escape(text) for text in row]
        for i, row in enumerate(table.rows)
    ]
    header = [markdown_escape(text) for text in table.header]
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]
    rules = [
        "-" * width if i < table.text_columns else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ]
    lines = [f"| {_aligned(row, widths, table.text_columns, ' | ')} |" for row in (header, rules, *rows)]
    return "\n".join(
        [f"## {markdown_escape(table.title)}", "", *lines, "", markdown_escape(table.caption), ""]
    )


def to_latex(table: Table) -> str:
    """A `table` environment; the document needs the package booktabs."""
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_escape(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{'l' * table.text_columns}{'r' * (len(table.header) - table.text_columns)}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
    ]
    for i, row in enumerate(table.rows):
        if i and row[0] != table.rows[i - 1][0]:
            lines.append(r"\addlinespace")
        lines.append(_latex_row(row, bold=i in table.bold))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def to_csv(table: Table) -> str:
    """The numbers with all their digits; undefined ones are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.numbers_header, *table.numbers):
        writer.writerow([_one_line(value) if isinstance(value, str) else value for value in row])
    return text.getvalue()


def to_text(table: Table, width: int) -> str:
    """The table for a terminal: the first column stands above its rows; a test's best rows have a star."""
    marks = [" *" if i in table.bold else "" for i in range(len(table.rows))]
    rows = [
        [_one_line(row[1]) + mark, *map(_one_line, row[2:])]
        for row, mark in zip(table.rows, marks, strict=True)
    ]
    header = list(table.header[1:])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [table.title, "  " + _aligned(header, widths, table.text_columns - 1, "  ")]
    for i, row in enumerate(rows):
        if i == 0 or table.rows[i][0] != table.rows[i - 1][0]:
            lines.append(_one_line(table.rows[i][0]))
        lines.append("  " + _aligned(row, widths, table.text_columns - 1, "  "))
    caption = table.caption.replace("Bold:", "Star:")
    return "\n".join([*map(str.rstrip, lines), textwrap.fill(caption, width), ""])


def _one_line(text: str) -> str:
    """Text without line breaks and other control characters, which end rows and commands."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def _aligned(row: list[str], widths: list[int], text_columns: int, between: str) -> str:
    padded = [
        text.ljust(width) if i < text_columns else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return between.join(padded)


def _latex_row(row: tuple[str, ...], *, bold: bool = False) -> str:
    texts = [rf"\textbf{{{latex_escape(text)}}}" if bold else latex_escape(text) for text in row]
    # A row that begins with a bracket would be read as the length of the line break before it.
    return f"{'{}' * texts[0].startswith('[')}{' & '.join(texts)} \\\\"
