"""Nothing is downloaded unless the user named a repository."""

from __future__ import annotations

import pytest

from vla_bench.errors import MissingDataError
from vla_bench.policy.cards import Card, Checkpoint
from vla_bench.policy.hub import card_folder, named_folder


def card(tmp_path, **checkpoint) -> Card:
    return Card(
        name="c", source=tmp_path / "c.toml", title="", family="openvla", adapter="a:b", licence="MIT",
        checkpoint=Checkpoint(**checkpoint),
    )  # fmt: skip


def test_a_card_alone_fetches_nothing_and_says_how_to(tmp_path):
    with pytest.raises(MissingDataError, match=r"hf download nobody/nothing --revision abc"):
        card_folder(card(tmp_path, repo="nobody/nothing", revision="abc"))


def test_a_folder_is_relative_to_its_card(tmp_path):
    (tmp_path / "weights").mkdir()
    assert card_folder(card(tmp_path, folder="weights")) == tmp_path / "weights"
    with pytest.raises(MissingDataError, match="does not exist"):
        card_folder(card(tmp_path, folder="elsewhere"))
    with pytest.raises(MissingDataError, match=r"neither checkpoint\.folder nor checkpoint\.repo"):
        card_folder(card(tmp_path))


def test_what_is_neither_folder_nor_repository_is_said_to_be(tmp_path):
    assert named_folder(str(tmp_path)) == tmp_path
    with pytest.raises(MissingDataError, match="no such folder"):
        named_folder(str(tmp_path / "a/b/c"))
