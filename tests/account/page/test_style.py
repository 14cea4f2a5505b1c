"""Colours of the page: what is read stands out from what is behind it, in both modes."""

import re
from itertools import product

import pytest

from vla_bench.account.page.render import TEMPLATES

STYLE = (TEMPLATES / "page.css").read_text(encoding="utf-8")
TEXTS = ("ink", "muted", "accent", "success", "failure", "error")
GROUNDS = ("paper", "panel")


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6});", block))


LIGHT = colours(STYLE.partition("@media")[0])
DARK = LIGHT | colours(STYLE.partition("prefers-color-scheme: dark")[2].partition("* {")[0])


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1], as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_stand_out_from_every_ground(mode):
    shown = [*product(TEXTS, GROUNDS), ("ink", "mark"), ("on-accent", "accent")]
    weak = {pair: contrast(mode[pair[0]], mode[pair[1]]) for pair in shown}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    assert {ground for ground in GROUNDS if contrast(mode["control"], mode[ground]) < 3} == set()


def test_both_modes_are_different_and_no_colour_is_set_elsewhere():
    assert LIGHT.keys() == DARK.keys()
    assert all(LIGHT[name] != DARK[name] for name in LIGHT)
    rest = re.sub(r"--[\w-]+:\s*#[0-9a-f]{3,6};", "", STYLE)
    # the grounds of pictures and films, which have no dark mode
    assert set(re.findall(r"#[0-9a-f]{3,6}\b", rest)) <= {"#fff", "#000"}


def test_style_and_script_ask_for_nothing_outside():
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    for text in (STYLE, script):
        assert not re.search(r"https?:|//\w|@import|url\(|fetch\(|XMLHttp|import\(|eval\(|innerHTML", text)
    assert "prefers-reduced-motion" in STYLE
    assert "@media print" in STYLE
