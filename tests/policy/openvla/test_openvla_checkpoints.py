"""What is read from a checkpoint folder, and what is said when it cannot be."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.openvla import SIGLIP, write_checkpoint, write_json, write_part, write_weights

from vla_bench.errors import (
    ConventionError,
    DataError,
    MissingCapabilityError,
    MissingDataError,
    UnknownNameError,
)
from vla_bench.policy.openvla.actions import read_statistics
from vla_bench.policy.openvla.checkpoint import Source, load_model, load_part, require_parts
from vla_bench.policy.openvla.config import read_config
from vla_bench.policy.openvla.heads import L1Head
from vla_bench.policy.openvla.processor import read_processor
from vla_bench.policy.openvla.prompts import PromptTokenizer
from vla_bench.policy.precision import backend
from vla_bench.policy.tensors import INDEX, SINGLE, safetensors_of, weights_of

CPU, FP32 = torch.device("cpu"), backend("fp32")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of the checkpoint that a test may break."""
    for file in whole.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def state_of_model(folder) -> dict[str, torch.Tensor]:
    return load_model(Source(folder), FP32, CPU).state_dict()


def test_weights_are_the_stored_ones_in_the_asked_precision(whole):
    stored = load_file(whole / SINGLE)
    for name in ("fp32", "bf16"):
        model = load_model(Source(whole), backend(name), CPU)
        for key, tensor in model.state_dict().items():
            assert tensor.dtype == backend(name).dtype
            assert torch.equal(tensor, stored[key].to(tensor.dtype)), key


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_any_number_of_shards_gives_the_same_model(folder, shards):
    expected = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    write_weights(folder, expected, shards)
    found = state_of_model(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name].float()) for name in expected)


def test_one_tower_has_a_projector_of_two_layers(tmp_path):
    model = load_model(Source(write_checkpoint(tmp_path, towers=(SIGLIP,))), FP32, CPU)
    assert {n.split(".")[1] for n in model.state_dict() if n.startswith("projector")} == {"fc1", "fc2"}
    assert model.see(torch.zeros(2, 3, 224, 224)).shape == (2, 256, 64)


def test_a_missing_shard_is_named(folder):
    state = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    write_weights(folder, state, 3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(MissingDataError, match=r"model-00002-of-00003.*3 shards.*model-00001-of-00003"):
        state_of_model(folder)


def test_a_tensor_that_the_index_promises_and_the_shard_lacks_is_named(folder):
    state = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    write_weights(folder, state, 2)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["projector.fc9.weight"] = "model-00001-of-00002.safetensors"
    write_json(folder / INDEX, index)
    with pytest.raises(DataError, match=r"model-00001-of-00002.*projector\.fc9\.weight"):
        state_of_model(folder)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file_says_how_long_it_should_be(folder, kept):
    content = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(content[:kept])
    with pytest.raises(DataError, match=r"model\.safetensors.*(truncated|no safetensors).*\d+"):
        state_of_model(folder)


def test_a_file_that_is_no_safetensors_is_refused(folder):
    (folder / SINGLE).write_bytes((8).to_bytes(8, "little") + b"not json" + bytes(100))
    with pytest.raises(DataError, match="no safetensors file"):
        state_of_model(folder)


def test_every_dtype_and_shape_survives_reading(tmp_path):
    state = {
        "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "ints": torch.arange(6).reshape(2, 3),
        "half": torch.randn(5, generator=torch.Generator().manual_seed(0)).half(),
        "flags": torch.tensor([True, False]),
    }  # fmt: skip
    save_file(state, tmp_path / "x.safetensors")
    read = {name: tensor.read() for name, tensor in safetensors_of(tmp_path / "x.safetensors").items()}
    assert read.keys() == state.keys()
    assert all(
        torch.equal(read[name], state[name]) and read[name].dtype == state[name].dtype for name in state
    )


def test_an_unknown_tensor_is_named_with_the_nearest_known_one(folder):
    state = load_file(folder / SINGLE)
    state["projector.fc1.wieght"] = state.pop("projector.fc1.weight")
    write_weights(folder, state)
    with pytest.raises(
        DataError, match=r"model\.safetensors.*projector\.fc1\.wieght.*projector\.fc1\.weight"
    ):
        state_of_model(folder)


def test_a_wrong_shape_says_what_was_expected_and_found(folder):
    state = load_file(folder / SINGLE)
    state["projector.fc3.bias"] = torch.zeros(63, dtype=torch.bfloat16)
    write_weights(folder, state)
    with pytest.raises(DataError, match=r"projector\.fc3\.bias.*expected \(64,\), found \(63,\)"):
        state_of_model(folder)


def test_missing_tensors_are_named_and_counted(folder):
    state = load_file(folder / SINGLE)
    del state["projector.fc3.bias"], state["projector.fc3.weight"]
    write_weights(folder, state)
    with pytest.raises(DataError, match=r"lacks.*projector\.fc3.*1 more"):
        state_of_model(folder)


def test_a_pickle_of_weights_is_refused(folder):
    (folder / SINGLE).rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin.*pickle.*refused"):
        weights_of(folder)


def test_a_pickle_that_could_run_code_is_refused_and_does_not_run(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (eval, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    for write in (lambda p: torch.save({"x": Trap()}, p), lambda p: p.write_bytes(pickle.dumps(Trap()))):
        write(folder / "action_head--1_checkpoint.pt")
        with pytest.raises(DataError, match="refused"):
            load_part(L1Head(64, 7), Source(folder), "action_head", FP32, CPU)
        assert not (tmp_path / "ran").exists()


def test_two_action_heads_are_named(folder):
    path = write_part(folder, "action_head", L1Head(64, 7), seed=1)
    path.with_name("action_head--200_checkpoint.pt").write_bytes(path.read_bytes())
    with pytest.raises(
        DataError, match=r"action_head--100_checkpoint\.pt and action_head--200_checkpoint\.pt"
    ):
        require_parts(Source(folder), {"action_head"})


def test_parts_and_card_must_agree(folder):
    with pytest.raises(MissingDataError, match=r"action_head--STEP_checkpoint\.pt, found none"):
        require_parts(Source(folder), {"action_head"})
    write_part(folder, "action_head", L1Head(64, 7), seed=1)
    require_parts(Source(folder), {"action_head"})
    with pytest.raises(ConventionError, match=r"has an? action head"):
        require_parts(Source(folder), set())


def test_a_head_of_another_kind_is_refused(folder):
    write_part(folder, "action_head", torch.nn.Linear(3, 2), seed=1)
    with pytest.raises(DataError, match=r"action_head--100_checkpoint\.pt.*unknown tensor 'weight'"):
        load_part(L1Head(64, 7), Source(folder), "action_head", FP32, CPU)


def test_an_absent_or_foreign_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        PromptTokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingDataError, match=r"tokenizer\.json: missing"):
        PromptTokenizer(folder)


def test_prompts_begin_with_the_start_and_end_with_the_lone_word_boundary(whole):
    ids = PromptTokenizer(whole)("In: pick up\nOut:")
    assert ids[0] == 1
    assert ids[-2:] == [31999, 29871]


def test_a_wrong_or_missing_key_says_which_exist(folder):
    config = read_config(folder).statistics
    statistics = read_statistics(folder, config)
    assert statistics.key(()) == "bridge_orig"
    with pytest.raises(UnknownNameError, match=r"config\.json.*'bridge_org'.*'bridge_orig'"):
        statistics.key(("bridge_org",))
    write_json(
        folder / "dataset_statistics.json", {"a": config["bridge_orig"], "b_no_noops": config["bridge_orig"]}
    )
    replaced = read_statistics(folder, config)
    assert replaced.key(("b", "b_no_noops")) == "b_no_noops"
    for wanted in ((), ("bridge_orig",)):
        with pytest.raises(UnknownNameError, match=r"dataset_statistics\.json.*known: a, b_no_noops"):
            replaced.key(wanted)


def test_statistics_without_the_numbers_say_what_they_have(folder):
    write_json(folder / "dataset_statistics.json", {"a": {"action": {"mean": [0.0]}}})
    with pytest.raises(DataError, match=r"a\.action: expected q01 and q99, found mean"):
        read_statistics(folder, {}).scaling("a", "action", "q99")
    with pytest.raises(DataError, match=r"a\.proprio: expected min and max, found nothing"):
        read_statistics(folder, {}).scaling("a", "proprio", "minmax")
    write_json(folder / "dataset_statistics.json", {"a": {"action": {"q01": [0.0], "q99": [1.0, 2.0]}}})
    with pytest.raises(DataError, match="have 1, 2 and 1 values"):
        read_statistics(folder, {}).scaling("a", "action", "q99")


def test_a_broken_config_names_the_key(folder):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "use_fused_vision_backbone": False})
    with pytest.raises(DataError, match="use_fused_vision_backbone = False"):
        read_config(folder)
    write_json(folder / "config.json", {k: v for k, v in config.items() if k != "timm_model_ids"})
    with pytest.raises(DataError, match="timm_model_ids"):
        read_config(folder)
    (folder / "config.json").write_text('{\n"a": }')
    with pytest.raises(DataError, match=r"config\.json:2"):
        read_config(folder)


def test_towers_and_language_models_that_are_not_implemented_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    write_json(
        folder / "config.json", {**config, "timm_model_ids": ["vit_so400m_patch14_siglip_225", SIGLIP]}
    )
    with pytest.raises(MissingCapabilityError, match=r"siglip_225.*siglip_224"):
        read_config(folder)
    write_json(folder / "config.json", {**config, "text_config": {"model_type": "phi"}})
    with pytest.raises(MissingCapabilityError, match="'phi'"):
        read_config(folder)


def test_a_processor_without_a_key_or_with_an_unknown_strategy_is_refused(folder):
    path = folder / "preprocessor_config.json"
    table = json.loads(path.read_text())
    write_json(path, {k: v for k, v in table.items() if k != "means"})
    with pytest.raises(DataError, match=r"preprocessor_config\.json.*'means' is missing"):
        read_processor(folder)
    write_json(path, {**table, "image_resize_strategy": "stretch"})
    with pytest.raises(DataError, match=r"'stretch'.*resize-naive"):
        read_processor(folder)
