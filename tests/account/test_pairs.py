from support.boards import suite_of
from support.records import make_record

from vla_bench.account.cells import outcomes
from vla_bench.account.pairs import best, pairs
from vla_bench.account.tables.differences import differences
from vla_bench.types import Arm


def test_comparisons_use_only_episodes_that_count_for_both():
    found = outcomes(suite_of({"a": "sssse", "b": "ffs f", "c": "sffff"}), [])
    result = {(pair.first.policy, pair.second.policy): pair.paired for pair in pairs("s", found, 0.95)}
    compared = result["a", "b"]
    assert compared is not None
    assert (compared.n, compared.first_only, compared.second_only) == (3, 2, 0)
    assert set(result) == {("a", "b"), ("a", "c"), ("b", "c")}


def test_arms_without_a_common_episode_are_compared_as_independent():
    found = outcomes(suite_of({"a": "s" * 12 + " " * 12, "b": " " * 12 + "f" * 12}), [])
    (pair,) = pairs("s", found, 0.95)
    assert pair.paired is None
    assert pair.test == "unpaired: Boschloo"
    assert (pair.n_first, pair.n_second, pair.left_out) == (12, 12, 0)
    assert pair.result is not None
    assert pair.result.difference == 1.0
    assert pair.result.p_value < 0.001
    assert pair.interval is not None
    assert pair.interval.low > 0.5


def test_arms_without_a_common_task_are_not_compared():
    made = [make_record(policy=policy, task=task) for policy, task in (("a", "t0"), ("b", "t1"))]
    (pair,) = pairs("s", outcomes(made, []), 0.95)
    assert (pair.result, pair.p_holm, pair.test) == (None, None, "")
    assert best([pair], 0.95) is None


def test_unpaired_arms_are_compared_on_the_tasks_that_both_ran():
    made = [make_record(policy="a", task=task, index=i) for task in ("t0", "t1") for i in range(5)]
    made += [make_record("failure", policy="b", task=task, index=i) for task in ("t1", "t2") for i in (7, 8)]
    (pair,) = pairs("s", outcomes(made, []), 0.95)
    assert (pair.n_first, pair.n_second, pair.left_out) == (5, 2, 7)


def test_partly_shared_arms_are_paired_where_they_share_and_the_rest_is_counted():
    (pair,) = pairs("s", outcomes(suite_of({"a": "sss ", "b": " fff"}), []), 0.95)
    assert pair.paired is not None
    assert (pair.paired.n, pair.left_out) == (2, 2)


def test_a_pair_of_one_episode_has_a_test_and_no_interval():
    (pair,) = pairs("s", outcomes(suite_of({"a": "s", "b": "f"}), []), 0.95)
    assert pair.result is not None
    assert (pair.result.p_value, pair.interval) == (1.0, None)


def test_intervals_of_arms_that_seldom_differ_are_marked_in_words_and_numbers():
    for differing, mark in ((7, True), (8, False)):
        arms = {"a": "s" * 100, "b": "s" * (100 - differing) + "f" * differing}
        compared = pairs("s", outcomes(suite_of(arms), []), 0.95)
        table = differences(compared, name="pairs", title="", confidence=0.95)
        [words], [numbers] = table.rows, table.numbers
        warning = dict(zip(table.numbers_header, numbers, strict=True))["warning"]
        assert words[table.header.index("95 % interval")].endswith(" ‡") == mark
        assert warning.startswith(f"arms differ in {differing} episodes, fewer than 8") == mark
        assert any(sentence.startswith("‡") for sentence in table.caption) == mark


def test_errors_of_either_arm_are_told_with_their_pair():
    (pair,) = pairs("s", outcomes(suite_of({"a": "sse", "b": "fff"}), []), 0.95)
    assert pair.errors == 1


def test_best_is_the_arm_that_beats_every_other_significantly():
    far = {"a": "s" * 20, "b": "f" * 20, "c": "f" * 20}
    assert best(pairs("s", outcomes(suite_of(far), []), 0.95), 0.95) == Arm("a")
    near = {"a": "s" * 20, "b": "s" * 17 + "fff", "c": "f" * 20}
    assert best(pairs("s", outcomes(suite_of(near), []), 0.95), 0.95) is None, "a does not beat b"
    assert best(pairs("s", outcomes(suite_of({"a": "s" * 20}), []), 0.95), 0.95) is None, (
        "nothing to be better than"
    )
