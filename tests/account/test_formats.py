import csv
import dataclasses
import io
import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vla_bench.account.formats import latex_escape, markdown_escape, to_csv, to_latex, to_markdown, to_text
from vla_bench.account.tables import Table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HARD = r"a & b % c _d_ # $x$ {e} ~~f~~ ^ \g | `h` *i* **j** <k> [l](m) ![n] &amp; \| __o__ p_q"
LATEX_NAMES = {
    r"\&": "&", r"\%": "%", r"\$": "$", r"\#": "#", r"\_": "_", r"\{": "{", r"\}": "}",
    r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbackslash{}": "\\",
    r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|", r"\textdagger{}": "†",
    r"\textdaggerdbl{}": "‡",
    r"\textmu{}": "μ", r"$\uparrow$": "↑", r"$\downarrow$": "↓", r"$\rightarrow$": "→", r"$\pm$": "±",
    r"$\times$": "×", r"$-$": "−", r"$\leq$": "≤", r"$\geq$": "≥", r"$\Delta$": "Δ",
    r"\textsuperscript{3}": "³", r"\textsuperscript{2}": "²",
}  # fmt: skip


def table_of(*rows, bold=()):
    """Two columns of words and one of numbers."""
    return Table(
        name="some_name", title="Title & more", caption=("Caption: 50 %", "Bold: it."),
        header=("suite", "policy", "n"),
        rows=tuple((a, b, "1/2") for a, b in rows), text_columns=2, bold=frozenset(bold),
        numbers_header=("suite", "policy", "rate"), numbers=tuple((a, b, 0.1 + 0.2) for a, b in rows),
    )  # fmt: skip


def one_line(text):
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


@given(TEXT)
@example(HARD)
@example("Ω ↑ 漢字 [U+6F22] m/s³")
def test_escaped_latex_reads_back_and_holds_no_command(text):
    escaped = latex_escape(text)
    command = "|".join(re.escape(name) for name in LATEX_NAMES)
    pieces = re.findall(rf"{command}|\[U\+[0-9A-F]{{4,}}\]|[^\\&%$#_{{}}~^<>|]", escaped)
    assert "".join(pieces) == escaped, "nothing but known commands and harmless characters"
    told = "".join(
        chr(int(piece[3:-1], 16)) if len(piece) > 5 and piece[0] == "[" else LATEX_NAMES.get(piece, piece)
        for piece in pieces
    )
    assert told == one_line(text).replace("[U+6F22]", "漢")


def test_latex_names_letters_that_it_lacks():
    assert latex_escape("bowl 碗 é") == "bowl [U+7897] é"


@given(TEXT)
@example(HARD)
def test_escaped_markdown_shows_what_was_meant_also_in_a_table(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    source = to_markdown(table_of((text, "plain"), ("x" + text + "y", "b"), bold=[1]))
    tokens = parser.parse(source)
    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 6, "no text adds or removes a cell"
    shown = ["".join(child.content for child in cell.children or ()) for cell in cells]
    assert shown[0].strip() == one_line(text).strip()
    assert shown[3] == one_line("x" + text + "y")
    assert {child.type for child in cells[0].children or ()} <= {"text", "text_special"}
    assert [child.type for child in cells[4].children or ()] == [
        "strong_open",
        "text",
        "strong_close",
    ] or any(child.type == "strong_open" for child in cells[4].children or ())


def test_names_with_underscores_stay_readable():
    assert markdown_escape("libero_object/pick_up_it") == "libero_object/pick_up_it"
    assert markdown_escape("_emphasis_") == r"\_emphasis\_"


def test_latex_is_booktabs_with_groups_and_bold_rows():
    text = to_latex(table_of(("s_1", "a"), ("s_1", "b"), ("[s2", "a"), bold=[1]))
    for line in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{llr}", r"\label{tab:some-name}"):
        assert line in text.splitlines()
    assert text.count(r"\addlinespace") == 1
    assert r"\textbf{s\_1} & \textbf{b} & \textbf{1/2} \\" in text
    assert r"{}[s2 & a & 1/2 \\" in text, "a bracket after a line break would be its argument"
    assert r"\caption{Caption: 50 \% Bold: it.}" in text


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_csv_reads_back_with_all_digits(rows):
    read = list(csv.reader(io.StringIO(to_csv(table_of(*rows)), newline="")))
    assert read[0] == ["suite", "policy", "rate"]
    assert [row[2] for row in read[1:]] == [repr(0.1 + 0.2)] * len(rows)
    assert [row[:2] for row in read[1:]] == [[one_line(a), one_line(b)] for a, b in rows]


def test_text_groups_by_the_first_column_and_stars_the_best():
    text = to_text(table_of(("s1", "a"), ("s1", "b"), ("s2", "a"), bold=[1]), 80)
    assert text.splitlines() == [
        "Title & more",
        "  policy    n",
        "s1",
        "  a       1/2",
        "  b *     1/2",
        "s2",
        "  a       1/2",
        "Caption: 50 % Star: it.",
    ]
    assert "50 %" not in to_text(table_of(("s1", "a")), 80, known={"Caption: 50 %"})


def wide_table(columns, rows=2):
    header = ("suite", "policy", *(f"column {i}" for i in range(columns)))
    return dataclasses.replace(
        table_of(), header=header, rows=tuple((f"s{r}", "a", *"x" * columns) for r in range(rows))
    )


def test_columns_that_do_not_fit_the_terminal_follow_in_a_block_of_their_own():
    text = to_text(wide_table(9), 40)
    table = text[: text.index("Caption")].splitlines()
    assert max(map(len, table)) <= 40
    heads = [line for line in table if line.startswith("  policy")]
    assert (
        " ".join(heads).split()
        == " ".join(
            f"policy  {' '.join(f'column {i}' for i in block)}" for block in ([0, 1, 2], [3, 4, 5], [6, 7, 8])
        ).split()
    )
    assert table.count("s1") == 3, "each block has all rows"
    assert to_text(wide_table(3), 5).count("policy") == 3, "one column is the least"


def test_long_latex_tables_break_over_pages_under_repeated_heads():
    text = to_latex(wide_table(2, rows=60)).splitlines()
    assert text[0] == r"% \usepackage{booktabs,longtable}"
    assert r"\begin{longtable}{lrr}" in text
    assert text.count(r"policy & column 0 & column 1 \\") == 2, "on the first page and on the others"
    assert text.count(r"\multicolumn{3}{@{}l}{s7}\\*") == 1
    assert r"\begin{table}" not in text
    assert r"\begin{longtable}{lrr}" not in to_latex(wide_table(2, rows=20))


def test_wide_latex_tables_stand_on_a_turned_page():
    assert r"\begin{sidewaystable}" in to_latex(wide_table(30))
    assert r"\begin{landscape}" in to_latex(wide_table(30, rows=60))
    assert r"\begin{table}" in to_latex(wide_table(5))
