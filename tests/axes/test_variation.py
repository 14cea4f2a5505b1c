import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_bench.axes.factors import factors
from vla_bench.axes.variation import VariationError, canonical, expand, format_variation, parse, split_list
from vla_bench.errors import UnknownNameError

IDS = tuple(factors())
PAIRS = st.lists(
    st.tuples(st.sampled_from(IDS), st.integers(0, 5)), max_size=4, unique_by=lambda pair: pair[0]
).filter(
    lambda pairs: (
        not any(
            set(factors()[a].sets) & set(factors()[b].sets)
            for (a, _), (b, _) in itertools.combinations(pairs, 2)
        )
    )
)


def text(pairs):
    return "+".join(f"{name}@{level}" for name, level in pairs)


@given(PAIRS)
def test_the_canonical_form_is_a_fixed_point(pairs):
    once = canonical(text(pairs))
    assert canonical(once) == once
    assert format_variation(parse(once)) == once


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_factors_says_nothing(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    assert canonical(text(shuffled)) == canonical(text(pairs))


@given(PAIRS)
def test_level_0_is_the_same_as_not_being_there(pairs):
    kept = [(name, level) for name, level in pairs if level]
    assert canonical(text(pairs)) == canonical(text(kept))
    assert parse("") == ()


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ("visual.lightning@3", UnknownNameError, "did you mean 'visual.lighting'"),
        ("visual.lighting@6", VariationError, "from 0, the unchanged task, to 5"),
        ("visual.lighting@-1", VariationError, "expected factors at levels"),
        ("visual.lighting", VariationError, "such as visual.lighting@3"),
        ("visual.lighting@x", VariationError, "is no factor at a level"),
        ("visual.lighting@1,2", VariationError, "one variation has one"),
        ("visual.fog@1+visual.fog@2", VariationError, "names visual.fog twice"),
        ("motion.moving_target@1+motion.relocation@1", VariationError, "contradict each other"),
        ("language.synonyms@1+semantic.concepts@2", VariationError, "both set the instruction"),
    ],
)
def test_an_impossible_variation_is_refused_with_the_reason(wrong, error, reason):
    with pytest.raises(error, match=reason):
        parse(wrong)


def test_a_pattern_is_every_factor_that_it_matches_at_every_level():
    wanted = [name for name in IDS if name.startswith("visual.")]
    found = expand(["visual.*@0,2,4"])
    assert found[0] == "", "level 0 runs once"
    assert set(found) == {"", *(f"{name}@{level}" for name in wanted for level in (2, 4))}
    assert len(found) == len(set(found))


def test_patterns_multiply_and_leave_out_what_contradicts_itself():
    assert expand(["visual.fog@1,2+physical.mass@0,3"]) == (
        "visual.fog@1", "visual.fog@1+physical.mass@3", "visual.fog@2", "visual.fog@2+physical.mass@3",
    )  # fmt: skip
    pairs = expand(["language.*@1+language.*@1"])
    assert pairs == (), "every language factor sets the instruction"
    with pytest.raises(VariationError, match="contradict"):
        expand(["language.synonyms@1+language.verbosity@1"])
    with pytest.raises(UnknownNameError, match="visaul"):
        expand(["visaul.*@2"])


def test_commas_of_levels_survive_in_a_list():
    assert split_list("visual.*@0,2,4,physical.mass@1, motion.*@3 ,5") == [
        "visual.*@0,2,4", "physical.mass@1", "motion.*@3 ,5",
    ]  # fmt: skip
    assert split_list("") == []
