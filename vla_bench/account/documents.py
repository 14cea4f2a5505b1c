"""A report as files: `tables/`, `figures/`, and all of it in `report.md` and `report.tex`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_bench.account import formats
from vla_bench.account.assembly import Assembled
from vla_bench.account.figures import Figure, write_figure
from vla_bench.errors import VlaBenchError

FORMATS = {"md": formats.to_markdown, "csv": formats.to_csv, "tex": formats.to_latex}
_PREAMBLE = r"""
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[margin=2.5cm]{geometry}
\usepackage{booktabs,graphicx,longtable,pdflscape,rotating}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\begin{document}
""".strip()


def write_documents(folder: Path, title: str, header: Sequence[str], made: Assembled) -> list[Path]:
    """Write every table (Markdown, CSV, LaTeX) and figure (CSV, PDF, PNG, SVG), and the two documents.

    `header` holds sentences on where the numbers come from; every table carries them.

    Raises:
        VlaBenchError: Something cannot be written.
    """
    texts = {
        f"tables/{table.name}.{ending}": _heading(title, header, ending) + render(table)
        for table in made.tables
        for ending, render in FORMATS.items()
    }
    texts["report.md"] = _markdown(title, header, made)
    texts["report.tex"] = _latex(title, header, made)
    files: list[Path] = []
    try:
        for part in ("tables", "figures"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            files.append(folder / name)
            files[-1].write_text(text, encoding="utf-8", newline="\n")
        for figure in made.figures:
            files += write_figure(figure, folder / "figures")
    except OSError as error:
        raise VlaBenchError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    return files


def _heading(title: str, header: Sequence[str], ending: str) -> str:
    """The header in the comments or the text of a file; a CSV has none."""
    if ending == "md":
        lines = [f"# {formats.markdown_escape(title)}", ""]
        return "\n".join([*lines, *(f"- {formats.markdown_escape(line)}" for line in header), "", ""])
    if ending == "tex":
        return "".join(f"% {' '.join(line.split())}\n" for line in header)
    return ""


def _markdown(title: str, header: Sequence[str], made: Assembled) -> str:
    """All tables, then all figures."""
    parts = [formats.to_markdown(table) for table in made.tables]
    for figure in made.figures:
        name, caption = formats.markdown_escape(figure.title), formats.markdown_escape(_caption(figure))
        parts.append(f"## {name}\n\n![{name}](figures/{figure.name}.png)\n\n{caption}\n")
    return _heading(title, header, "md") + "\n".join(parts)


def _latex(title: str, header: Sequence[str], made: Assembled) -> str:
    """A document that compiles as it is: `pdflatex report.tex` in its folder."""
    lines = [
        _PREAMBLE,
        rf"\section*{{{formats.latex_escape(title)}}}",
        *(rf"\noindent {formats.latex_escape(line)}\par" for line in header),
        *(rf"\input{{tables/{table.name}}}\clearpage" for table in made.tables),
    ]
    for figure in made.figures:
        label = f"fig:{figure.name.replace('_', '-')}"
        lines += [
            r"\begin{figure}[p]\centering",
            rf"\resizebox{{\ifdim\width>\linewidth \linewidth\else\width\fi}}{{!}}"
            rf"{{\includegraphics{{figures/{figure.name}}}}}",
            rf"\caption{{{formats.latex_escape(_caption(figure))}}}\label{{{label}}}",
            r"\end{figure}\clearpage",
        ]
    return "\n".join([*lines, r"\end{document}", ""])


def _caption(figure: Figure) -> str:
    return " ".join((f"{figure.title}.", *figure.caption))
