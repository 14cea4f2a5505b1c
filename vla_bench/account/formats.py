"""A table as Markdown, LaTeX (booktabs), CSV, or text for a terminal; what it says is escaped for each."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Container, Iterable, Sequence

from vla_bench.account.tables.table import Number, Table

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "±": r"$\pm$", "×": r"$\times$",
    "−": r"$-$", "≤": r"$\leq$", "≥": r"$\geq$", "μ": r"\textmu{}", "Δ": r"$\Delta$", "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "³": r"\textsuperscript{3}", "²": r"\textsuperscript{2}",
}  # fmt: skip
# pdfLaTeX has these without further packages; of other letters it knows nothing, and stops.
_LATEX_LETTERS = {*map(chr, range(0x20, 0x7F)), *map(chr, range(0xA1, 0x100)), *"–—‘’“”…•"}
# An underscore inside a word is no emphasis, and names are full of them.
_MARKDOWN = re.compile(r"[\\`*|<>&\[\]~$!]|(?<![^\W_])_|_(?![^\W_])")


_PAGE_ROWS = 45  # so many fit on a page,
_PAGE_CHARACTERS = 140  # and so many beside each other in small print


def latex_escape(text: str) -> str:
    """Text without anything that LaTeX would take for a command; letters that it lacks by code point."""
    return "".join(
        _LATEX.get(letter) or (letter if letter in _LATEX_LETTERS else f"[U+{ord(letter):04X}]")
        for letter in _one_line(text)
    )


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
        [f"## {markdown_escape(table.title)}", "", *lines, "", markdown_escape(" ".join(table.caption)), ""]
    )


def to_latex(table: Table) -> str:
    """A `table` environment; a `longtable` where the rows do not fit on a page; wide ones on a turned page.

    The document needs the packages that the first line names.
    """
    return _latex_pages(table) if len(table.rows) > _PAGE_ROWS else _latex_float(table)


def _latex_float(table: Table) -> str:
    page, package = ("sidewaystable", ",rotating") if _is_wide(table) else ("table", "")
    lines = [
        rf"% \usepackage{{booktabs,graphicx{package}}}",
        rf"\begin{{{page}}}",
        r"\centering",
        rf"\caption{{{_caption(table)}}}",
        rf"\label{{{_label(table)}}}",
        # as it is, or made smaller until it fits
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{_alignment(table.text_columns, len(table.header))}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
    ]
    for i, row in enumerate(table.rows):
        if i and row[0] != table.rows[i - 1][0]:
            lines.append(r"\addlinespace")
        lines.append(_latex_row(row, bold=i in table.bold))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", rf"\end{{{page}}}", ""])


def _latex_pages(table: Table) -> str:
    """Rows over pages, one column of the document; the first column stands above its rows."""
    page, package = ("landscape", ",pdflscape") if _is_wide(table) else ("center", "")
    columns = len(table.header) - 1
    head = [r"\toprule", _latex_row(table.header[1:]), r"\midrule"]
    lines = [
        rf"% \usepackage{{booktabs,longtable{package}}}",
        rf"\begin{{{page}}}\scriptsize\setlength{{\tabcolsep}}{{3pt}}\setlength{{\LTcapwidth}}{{\linewidth}}",
        rf"\begin{{longtable}}{{{_alignment(table.text_columns - 1, columns)}}}",
        rf"\caption{{{_caption(table)}}}\label{{{_label(table)}}}\\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        rf"\midrule\multicolumn{{{columns}}}{{r}}{{continued}}\\",
        r"\endfoot",
        r"\bottomrule",
        r"\endlastfoot",
    ]
    for i, row in enumerate(table.rows):
        if i == 0 or row[0] != table.rows[i - 1][0]:
            lines += [r"\addlinespace"] if i else []
            # the star forbids a page break between a name and its rows
            lines.append(rf"\multicolumn{{{columns}}}{{@{{}}l}}{{{latex_escape(row[0])}}}\\*")
        lines.append(_latex_row(row[1:], bold=i in table.bold))
    return "\n".join([*lines, r"\end{longtable}", rf"\end{{{page}}}", ""])


def _is_wide(table: Table) -> bool:
    """Whether the rows, without what may stand above them, are too wide for a page."""
    columns = [[head, *cells] for head, *cells in zip(table.header, *table.rows, strict=True)][1:]
    return sum(2 + max(map(len, column)) for column in columns) > _PAGE_CHARACTERS


def _alignment(text_columns: int, columns: int) -> str:
    return "l" * text_columns + "r" * (columns - text_columns)


def to_csv(table: Table) -> str:
    """The numbers with all their digits; undefined ones are empty."""
    return csv_text((table.numbers_header, *table.numbers))


def csv_text(rows: Iterable[Sequence[Number]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_one_line(value) if isinstance(value, str) else value for value in row])
    return text.getvalue()


def to_text(table: Table, width: int, *, known: Container[str] = ()) -> str:
    """The table for a terminal: the first column stands above its rows; a test's best rows have a star.

    Columns that do not fit follow in a second block; sentences of the caption that are `known` are left out.
    """
    marks = [" *" if i in table.bold else "" for i in range(len(table.rows))]
    rows = [
        [_one_line(row[1]) + mark, *map(_one_line, row[2:])]
        for row, mark in zip(table.rows, marks, strict=True)
    ]
    header = list(table.header[1:])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [table.title]
    for columns in _blocks(widths, table.text_columns - 1, width):
        some = [widths[c] for c in columns]
        lines.append(_text_row([header[c] for c in columns], some, table.text_columns - 1))
        for i, row in enumerate(rows):
            if i == 0 or table.rows[i][0] != table.rows[i - 1][0]:
                lines.append(_one_line(table.rows[i][0]))
            lines.append(_text_row([row[c] for c in columns], some, table.text_columns - 1))
    caption = " ".join(sentence for sentence in table.caption if sentence not in known)
    told = textwrap.wrap(caption.replace("Bold:", "Star:"), width)
    return "\n".join([*map(str.rstrip, lines), *told, ""])


def _blocks(widths: list[int], text_columns: int, width: int) -> list[list[int]]:
    """Indices of the columns that fit beside each other: all words in each block, as many numbers as fit."""
    words = list(range(text_columns))
    blocks = [words.copy()]
    for column in range(text_columns, len(widths)):
        taken = 2 + sum(2 + widths[c] for c in blocks[-1]) + widths[column]
        if taken > width and len(blocks[-1]) > text_columns:
            blocks.append(words.copy())
        blocks[-1].append(column)
    return blocks


def _text_row(row: list[str], widths: list[int], text_columns: int) -> str:
    return "  " + _aligned(row, widths, text_columns, "  ")


def _caption(table: Table) -> str:
    return latex_escape(" ".join(table.caption))


def _label(table: Table) -> str:
    return f"tab:{table.name.replace('_', '-')}"


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
