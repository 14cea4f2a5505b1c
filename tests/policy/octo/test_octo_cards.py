"""Every shipped card of the family says all that it must."""

from __future__ import annotations

import pytest

from vla_bench import catalog
from vla_bench.errors import MissingDataError
from vla_bench.policy.cards import load_policy, read_card
from vla_bench.policy.octo.conventions import read_conventions
from vla_bench.policy.precision import backend

CARDS = [name for name in catalog.policy_files() if read_card(name).family == "octo"]


def test_all_published_checkpoints_have_a_card():
    assert set(CARDS) == {f"octo-{size}{version}" for size in ("small", "base") for version in ("", "-1.5")}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_names_licence_checkpoint_and_conventions(name):
    card = read_card(name)
    assert card.licence
    assert card.checkpoint.repo == f"rail-berkeley/{name}"
    assert card.checkpoint.is_pinned == (card.checkpoint.note == ""), (
        "a branch can move, and its card says so"
    )
    assert [backend(precision).name for precision in card.precisions] == list(card.precisions)
    assert card.chunk_executed <= card.chunk_predicted == 4
    conventions = read_conventions(card)
    assert (conventions.gripper, conventions.units, conventions.control_hz) == ("one_opens", "metres", 5)
    assert conventions.unnorm_key == ("bridge_dataset",)
    assert conventions.cameras["primary"].crop_area == 0.9


@pytest.mark.parametrize("name", CARDS)
def test_the_statistics_are_an_option(name):
    card = read_card(name)
    other = {**card.options, "unnorm_key": "fractal20220817_data", "control_hz": 3}
    conventions = read_conventions(card.model_copy(update={"options": other}))
    assert (conventions.unnorm_key, conventions.control_hz) == (("fractal20220817_data",), 3)


@pytest.mark.parametrize("name", CARDS)
def test_choosing_a_card_downloads_nothing(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingDataError, match=f"hf download rail-berkeley/{name}"):
        load_policy(name)


def test_published_numbers_are_means_of_their_tasks():
    """What a note lists and what the row says belong together."""
    for name in CARDS:
        for number in read_card(name).reference:
            tasks = number.note.partition(" tasks: ")[2].partition(";")[0]
            if tasks:
                values = [float(task.rsplit(" ", 1)[1]) for task in tasks.split(", ")]
                assert number.value == pytest.approx(sum(values) / len(values), abs=0.06)
    listed = {name: {number.suite for number in read_card(name).reference} for name in CARDS}
    assert listed == {
        "octo-small": {"simpler_widowx"},
        "octo-base": {"bridge", "google", "simpler_widowx", "simpler_google"},
        "octo-small-1.5": set(),
        "octo-base-1.5": {"bridge", "google"},
    }
