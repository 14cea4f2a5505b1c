"""Action tokens, prompts and statistics against the original's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.openvla import fair, recorded

from vla_bench.policy.openvla.actions import ActionTokens
from vla_bench.policy.openvla.prompts import STOP, prompt, with_empty


@pytest.mark.parametrize("path", recorded("action_tokenizer*.npz"))
def test_openvla_action_tokens_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        tokens = ActionTokens(len(data["bins"]), int(data["vocab_size"]))
        np.testing.assert_array_equal(tokens.edges, data["bins"])
        np.testing.assert_array_equal(tokens.encode(data["actions"]), data["token_ids"])
        for ids, values in (("token_ids", "decoded"), ("probe_ids", "probe_decoded")):
            bound = fair(path, f"action_tokenizer/{values}")
            np.testing.assert_allclose(tokens.decode(data[ids]), data[values], rtol=0, atol=bound)


@pytest.mark.parametrize("path", recorded("prompts*.json"))
def test_openvla_prompts_are_the_recorded_ones(path):
    assert path is not None, "CI must have the recordings"
    for case in json.loads(path.read_text())["prompts"]:
        assert prompt(case["task"], case["format"]) == case["prompt"]
        assert with_empty(case["input_ids"]) == case["input_ids_inference"]


@pytest.mark.parametrize("path", recorded("prompts*.json"))
def test_openvla_continues_a_prompt_where_the_training_text_has_its_actions(path):
    assert path is not None, "CI must have the recordings"
    begins = {case["prompt"]: case["input_ids"] for case in json.loads(path.read_text())["prompts"]}
    for case in json.loads(path.read_text())["training"]:
        text = next(text for text in begins if case["prompt"].startswith(text))
        assert [*with_empty(begins[text]), *case["action_ids"], STOP] == case["input_ids"]
