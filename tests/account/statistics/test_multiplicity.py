import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from vla_bench.account.statistics import benjamini_hochberg, letters


@settings(max_examples=15)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_benjamini_and_hochberg_equal_statsmodels(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(list(multipletests(p_values, method="fdr_bh")[1]))


def test_of_nothing_is_nothing():
    assert benjamini_hochberg([]) == []
    assert letters([], {}, 0.05) == {}
    assert letters(["a"], {}, 0.05) == {"a": "a"}


PAIRS = [(first, second) for i, first in enumerate("uvwxyz") for second in "uvwxyz"[i + 1 :]]


@given(st.lists(st.floats(0, 1), min_size=len(PAIRS), max_size=len(PAIRS)))
def test_arms_share_a_letter_where_they_do_not_differ(p_values):
    p_of = dict(zip(PAIRS, p_values, strict=True))
    shown = letters("uvwxyz", p_of, 0.5)
    for first, second in PAIRS:
        assert bool(set(shown[first]) & set(shown[second])) == (p_of[first, second] >= 0.5)
    assert "a" in shown["u"]


def test_pairs_that_were_not_compared_share_a_letter_and_strangers_are_refused():
    assert letters(["best", "worst"], {}, 0.05) == {"best": "a", "worst": "a"}
    assert letters(["best", "worst"], {("worst", "best"): 0.01}, 0.05) == {"best": "a", "worst": "b"}
    with pytest.raises(ValueError, match="stranger"):
        letters(["best", "worst"], {("best", "stranger"): 0.01}, 0.05)
