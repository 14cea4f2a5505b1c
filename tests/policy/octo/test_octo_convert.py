"""Official checkpoints as safetensors: the same policy, written once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from support.octo import card_of, write_checkpoint
from typer.testing import CliRunner

from vla_bench.cli import app
from vla_bench.errors import DataError, MissingDataError
from vla_bench.policy.octo.adapter import build
from vla_bench.policy.octo.convert import convert
from vla_bench.types import Observation

FILES = ("config.json", "dataset_statistics.json", "model.safetensors", "tokenizer.json")


def actions(folder) -> np.ndarray:
    policy = build(card_of(folder), "fp32")
    random = np.random.default_rng(0)
    seen = [
        Observation(
            {"agentview": random.integers(0, 256, (48, 48, 3)).astype(np.uint8)}, {}, "open the drawer", t
        )
        for t in (0, 1)
    ]
    policy.reset("", 4)
    return policy.act(seen).actions


@pytest.mark.parametrize("form", ["msgpack", "zarr"])
def test_a_converted_checkpoint_is_the_same_policy(tmp_path, form):
    official = write_checkpoint(tmp_path / "official", form=form)
    made = convert(official, tmp_path / "made")
    assert made.files == FILES
    assert made.parameters == sum(t.numel() for t in load_file(tmp_path / "made/model.safetensors").values())
    np.testing.assert_array_equal(actions(tmp_path / "made"), actions(official))


def test_nothing_is_overwritten_and_nothing_is_converted_twice(tmp_path):
    official = write_checkpoint(tmp_path / "official")
    convert(official, tmp_path / "made")
    before = (tmp_path / "made/model.safetensors").read_bytes()
    with pytest.raises(DataError, match="is not overwritten"):
        convert(official, tmp_path / "made")
    assert (tmp_path / "made/model.safetensors").read_bytes() == before
    with pytest.raises(DataError, match="has been converted"):
        convert(tmp_path / "made", tmp_path / "again")


def test_what_does_not_fit_together_is_not_written(tmp_path):
    official = write_checkpoint(tmp_path / "official")
    content = json.loads((official / "config.json").read_text())
    content["model"]["transformer_kwargs"]["num_layers"] = 5
    (official / "config.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="lacks the tensor"):
        convert(official, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_converted_weights_of_another_model_are_refused(tmp_path):
    convert(write_checkpoint(tmp_path / "official"), tmp_path / "made")
    path = tmp_path / "made/model.safetensors"
    state = load_file(path)
    state["norm.wieght"] = state.pop("norm.weight")
    save_file(state, path)
    with pytest.raises(DataError, match=r"norm\.wieght.*norm\.weight"):
        actions(tmp_path / "made")


def test_the_command_writes_and_says_what_it_wrote(tmp_path):
    official = write_checkpoint(tmp_path / "official")
    arguments = ["convert", "octo", "--checkpoint", str(official), "--out", str(tmp_path / "made")]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert all(name in told.output for name in FILES)
    told = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "other"), "--json"])
    assert json.loads(told.output)["files"] == list(FILES)
    told = CliRunner().invoke(
        app, ["convert", "octo", "--checkpoint", str(tmp_path / "no"), "--out", str(tmp_path)]
    )
    assert isinstance(told.exception, MissingDataError)
