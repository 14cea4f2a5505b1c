import itertools

import pytest

from vla_bench.errors import DataError, MissingDataError, UnknownNameError, VlaBenchError
from vla_bench.run.study import Study, load_study
from vla_bench.types import Arm


def write(tmp_path, text, name="mine"):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_file_and_the_same_flags_are_the_same_study(tmp_path):
    path = write(
        tmp_path,
        'title = "words"\nsuites = ["libero_object"]\npolicies = ["expert", "noop"]\nepisodes = 3\n'
        "budget = { steps = 60 }\n[outputs]\nvideo = 2\n[statistics]\nconfidence = 0.9\n",
    )
    from_file = load_study(path)
    from_flags = load_study(
        suites=("libero_object",), policies=("expert", "noop"), episodes=3, budget={"steps": 60},
        outputs={"video": 2}, statistics={"confidence": 0.9}, precisions=None,
    )  # fmt: skip
    assert from_file.hash == from_flags.hash
    assert (from_file.name, from_flags.name) == ("mine", "study")
    assert from_file.folder_name == f"mine-{from_file.hash[:8]}"


def test_arms_are_the_cross_product_then_the_single_ones_each_once():
    study = load_study(
        policies=("a", "b"), precisions=("bf16", "bnb_int8"), chunks=(4, 8),
        arm=({"policy": "c", "precision": "bf16"}, {"policy": "a", "precision": "bf16", "chunk_executed": 4}),
    )  # fmt: skip
    crossed = [
        Arm(p, q, "blocking", "zero", c)
        for p, q, c in itertools.product(("a", "b"), ("bf16", "bnb_int8"), (4, 8))
    ]
    assert study.arms == (*crossed, Arm("c", "bf16"))


def test_writing_a_cross_product_out_gives_the_same_hash():
    crossed = load_study(suites=("s",), policies=("a", "b"), precisions=("bf16", "fp32"))
    written = load_study(
        suites=("s",), arm=[{"policy": p, "precision": q} for p in "ab" for q in ("bf16", "fp32")]
    )
    assert crossed.hash == written.hash


@pytest.mark.parametrize(
    "change",
    [
        {"suites": ("t",)}, {"tasks": ("s/x",)}, {"task_axis": ("visual",)}, {"variations": ("", "x@1")},
        {"policies": ("b",)}, {"precisions": ("bf16",)}, {"pacings": ("realtime",)},
        {"latencies": ("trace",)}, {"chunks": (2,)}, {"episodes": 9},
        {"first_episode": 1}, {"budget": {"time_s": 1.0}},
        {"outputs": {"video": "all"}}, {"statistics": {"confidence": 0.99}},
        {"resample": True}, {"namespace": "select"},
        {"crossed": {"reference": "bf16", "latencies": {"bf16": "zero", "fp32": "zero"}}},
    ],
)  # fmt: skip
def test_whatever_changes_the_content_changes_the_hash(change):
    base = {"suites": ("s",), "policies": ("a",), "episodes": 5}
    assert load_study(**base).hash != load_study(**{**base, **change}).hash


def test_a_study_that_uses_no_later_key_keeps_the_hash_that_its_results_carry():
    assert load_study("quick").hash[:8] == "683cb4b9"


CROSSED = {"reference": "bf16", "latencies": {"bf16": "zero", "bnb_int8": "constant:9ms"}}


def test_a_crossed_table_gives_each_policy_those_of_its_precisions_that_the_card_lists():
    study = load_study(policies=("expert", "octo-small"), latencies=("zero", "constant:9ms"), crossed=CROSSED)
    pairs = {(arm.policy, arm.precision, arm.latency) for arm in study.arms}
    latencies = ("zero", "constant:9ms")
    assert pairs == {
        *(("octo-small", precision, latency) for precision in CROSSED["latencies"] for latency in latencies),
        *(("expert", "fp32", latency) for latency in latencies),
    }
    named = load_study(policies=("octo-small",), precisions=("bf16",), crossed=CROSSED)
    assert {arm.precision for arm in named.arms} == {"bf16"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"reference": "bf61"}, "reference = 'bf61' has no latency.*did you mean 'bf16'"),
        ({"latencies": {"bf16": "zero"}}, "crossed.latencies"),
        ({"refrence": "bf16"}, "unknown key 'crossed.refrence'; did you mean 'reference'"),
    ],
)
def test_a_crossed_table_is_checked(table, message):
    with pytest.raises(DataError, match=message):
        load_study(crossed={**CROSSED, **table})


def test_words_do_not_change_the_hash():
    assert Study(name="a", title="x").hash == Study(name="b", title="y").hash


def test_an_alias_and_the_id_are_the_same_study():
    alias = load_study(tasks=("libero_spatial/0",), policies=("noop",))
    stem = "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
    assert alias.tasks == (f"libero_spatial/{stem}",)
    assert alias.hash == load_study(tasks=(f"libero_spatial/{stem}",), policies=("noop",)).hash


def test_flags_replace_keys_of_the_file(tmp_path):
    path = write(tmp_path, 'suites = ["libero_object"]\nepisodes = 3\n[[arm]]\npolicy = "expert"\n')
    study = load_study(path, episodes=7, policies=("noop",))
    assert (study.episodes, study.suites, study.arms) == (7, ("libero_object",), (Arm("noop"),))
    with pytest.raises(VlaBenchError, match="precisions cannot be changed alone"):
        load_study(path, precisions=("bf16",))


def test_the_shipped_quick_study_is_found_by_name():
    study = load_study("quick")
    assert [arm.policy for arm in study.arms] == ["expert", "random", "noop"]
    suites = {task.partition("/")[0] for task in study.tasks}
    assert suites == {"bridge_base", "bridge"}, "the quick start needs no download"


def test_unknown_names_and_paths_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        load_study("quik")
    with pytest.raises(MissingDataError, match="no such file"):
        load_study(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("episode = 3", "unknown key 'episode'; did you mean 'episodes'"),
        ("episodes = 0", "episodes = 0: input should be greater than 0"),
        ('[[arm]]\npolcy = "a"', "unknown key 'arm.0.polcy'; did you mean 'policy'"),
        ("budget = {}", "a budget needs steps or time_s"),
        ('[statistics]\ninterval = "wald"', "wilson"),
        ("statistics = { confidence = 95 }", "less than 1"),
        ('task_axis = ["colour"]', "visual"),
        ('name = "other"', "called like its file: 'mine'"),
        ("variations = []", "at least 1 item"),
        ("episodes = ", "is not valid TOML"),
    ],
)
def test_mistakes_in_a_file_name_the_file_and_what_is_expected(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        load_study(path, episodes=2)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_mistakes_in_flags_name_the_command_line():
    with pytest.raises(DataError, match="command line: episodes = -1"):
        load_study(episodes=-1)
