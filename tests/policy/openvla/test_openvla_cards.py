"""Every shipped card of the family says all that it must."""

from __future__ import annotations

import pytest

from vla_bench import catalog
from vla_bench.errors import MissingDataError
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.openvla.conventions import read_conventions
from vla_bench.policy.precision import backend

CARDS = [name for name in catalog.policy_files() if read_card(name).family == "openvla"]
LIBERO = [name for name in CARDS if "libero" in name]


def test_all_published_checkpoints_have_a_card():
    suites = ("spatial", "object", "goal", "10")
    expected = {f"{kind}-libero-{suite}" for kind in ("openvla-7b", "openvla-oft") for suite in suites}
    assert set(CARDS) == expected | {"openvla-7b", "openvla-v01-7b", "openvla-oft-libero"}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_names_licence_checkpoint_and_conventions(name):
    card = read_card(name)
    assert "Llama 2" in card.licence
    assert card.checkpoint.repo
    assert card.checkpoint.revision
    assert card.argument in ("checkpoint", "unnorm_key")
    assert [backend(precision).name for precision in card.precisions] == list(card.precisions)
    assert read_conventions(card).gripper == "one_opens"


@pytest.mark.parametrize("name", CARDS)
def test_a_card_names_a_commit_or_says_that_it_does_not(name):
    checkpoint = read_card(name).checkpoint
    assert checkpoint.is_pinned == (checkpoint.note == ""), "a branch can move, and its card says so"


@pytest.mark.parametrize("name", CARDS)
def test_a_published_number_says_where_it_is_from_and_of_how_many_trials_its_error_is(name):
    for reference in read_card(name).reference:
        assert reference.suite in catalog.suites()
        assert reference.source
        assert 0 <= reference.value <= 100
        assert reference.stderr is None or reference.trials is not None


@pytest.mark.parametrize("name", LIBERO)
def test_a_card_for_libero_has_its_conventions_and_published_numbers(name):
    card = read_card(name)
    conventions = read_conventions(card)
    assert (conventions.mirrored, conventions.jpeg, conventions.lanczos, conventions.crop_area) == (
        True,
        True,
        True,
        0.9,
    )
    assert conventions.units == "controller"
    assert conventions.cameras[0] == "agentview"
    assert conventions.state == (len(conventions.cameras) == 2)
    # a joint checkpoint leaves its statistics to the user, the others have those of their suite
    keys = {key for number in card.reference for key in (number.suite, f"{number.suite}_no_noops")}
    assert set(conventions.unnorm_key) == (set() if card.argument == "unnorm_key" else keys)
    assert card.reference
    assert card.chunk_executed == card.chunk_predicted == (1 if conventions.head == "tokens" else 8)


@pytest.mark.parametrize("name", CARDS)
def test_choosing_a_card_downloads_nothing(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingDataError, match=f"hf download {read_card(name).checkpoint.repo}"):
        load_policy(name, "bf16")


def test_an_argument_names_the_checkpoint_or_the_statistics():
    assert read_conventions(read_card("openvla-7b:somewhere")).checkpoint == "somewhere"
    assert read_conventions(read_card("openvla-oft-libero:libero_goal_no_noops")).unnorm_key == (
        "libero_goal_no_noops",
    )
