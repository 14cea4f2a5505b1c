"""The autoregressive model against the original, from picture and prompt to the physical action."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from support.openvla import fair, recorded

from vla_bench.policy.openvla.actions import ActionTokens, read_statistics
from vla_bench.policy.openvla.checkpoint import Source, load_model
from vla_bench.policy.openvla.decoding import greedy
from vla_bench.policy.openvla.engine import Plain
from vla_bench.policy.openvla.fast import Fast
from vla_bench.policy.openvla.processor import read_processor
from vla_bench.policy.openvla.prompts import with_empty
from vla_bench.policy.precision import backend

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded():
    """Loads each recorded checkpoint once."""
    made: dict = {}

    def load(path):
        folder = path.parent / "tiny"
        if folder not in made:
            made[folder] = load_model(Source(folder), backend("fp32"), CPU)
        return made[folder]

    return load


def examples(data) -> list[str]:
    return sorted({name.split("_")[0] for name in data.files if re.match(r"ex\d+_", name)})


def close(found, recording, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), recording, rtol=0, atol=bound)


@pytest.mark.parametrize("path", recorded("openvla_e2e*.npz"))
@torch.inference_mode()
def test_openvla_features_are_the_recorded_ones(path, loaded):
    assert path is not None, "CI must have the recordings"
    model, processor = loaded(path), read_processor(path.parent / "tiny")
    with np.load(path) as data:
        for ex in examples(data):
            pixels = torch.from_numpy(processor(data[f"{ex}_image"])[None])
            if f"{ex}_pixel_values" in data.files:
                close(pixels, data[f"{ex}_pixel_values"], fair(path, "openvla/pixel_values"))
            features = model.vision_backbone(pixels)
            parts = [
                f"{ex}_{tower}_features" for tower in ("dino", "siglip") if f"{ex}_{tower}_features" in data
            ]
            widths = [data[name].shape[2] for name in parts]
            for name, found in zip(parts, features.split(widths, dim=2), strict=True):
                close(
                    found, data[name], fair(path, f"openvla/{name.removeprefix(f'{ex}_').replace('_', ' ')}")
                )
            close(model.see(pixels), data[f"{ex}_projected"], fair(path, "openvla/projected"))


@pytest.mark.parametrize("road", [Plain, Fast])
@pytest.mark.parametrize("path", recorded("openvla_e2e*.npz"))
def test_openvla_tokens_logits_and_actions_are_the_recorded_ones(path, road, loaded):
    assert path is not None, "CI must have the recordings"
    folder = path.parent / "tiny"
    model, processor = loaded(path), read_processor(folder)
    statistics = read_statistics(folder, model.config.statistics)
    tokens = ActionTokens(model.config.bins, model.config.vocabulary)
    first, last = model.config.vocabulary - model.config.bins, model.config.vocabulary
    bound = fair(path, "openvla/logits")
    with np.load(path) as data:
        for ex in examples(data):
            ids = with_empty(data[f"{ex}_input_ids"][0].tolist())
            assert ids == data[f"{ex}_input_ids_with_29871"][0].tolist()
            scaling = statistics.scaling(str(data[f"{ex}_unnorm_key"]), "action", "q99")
            pixels = torch.from_numpy(processor(data[f"{ex}_image"])[None])
            decoded = road(model).tokens(pixels, [ids], scaling.size)
            logits = decoded.logits[0]
            np.testing.assert_array_equal(decoded.tokens[0], data[f"{ex}_generated_ids"])
            close(logits[:, first:last], data[f"{ex}_step_logits_action_range"], bound)
            if f"{ex}_step_logits_lse" in data.files:
                close(logits.double().logsumexp(1), data[f"{ex}_step_logits_lse"], bound)
            close(logits.topk(5).values, data[f"{ex}_step_top5_logits"], bound)
            if f"{ex}_step_logits" in data.files:
                close(logits[: len(data[f"{ex}_step_logits"])], data[f"{ex}_step_logits"], bound)
            values = tokens.decode(decoded.tokens[0].numpy())
            close(values, data[f"{ex}_normalized_actions"], fair(path, "openvla/normalized actions"))
            close(scaling.unnormalise(values), data[f"{ex}_actions"], fair(path, "openvla/actions"))


@pytest.mark.parametrize("path", recorded("openvla_e2e*.npz"))
def test_openvla_batches_of_unequal_prompts_give_the_recorded_logits(path, loaded):
    assert path is not None, "CI must have the recordings"
    model, processor = loaded(path), read_processor(path.parent / "tiny")
    with np.load(path) as data:
        # the recording pads examples at the right; its rows are recognised by their ids
        prompts = [
            row[mask > 0].tolist()
            for row, mask in zip(data["batch_input_ids"], data["batch_attention_mask"], strict=True)
        ]
        known = {tuple(data[f"{ex}_input_ids"][0].tolist()): data[f"{ex}_image"] for ex in examples(data)}
        pixels = np.stack([processor(known[tuple(ids)]) for ids in prompts])
        decoded = greedy(model, torch.from_numpy(pixels), prompts, 1)
        logits = decoded.logits[:, 0]
        if "batch_last_ids" in data.files:  # of the whole vocabulary otherwise
            logits = logits[:, torch.from_numpy(data["batch_last_ids"])]
        close(logits, data["batch_last_logits"], fair(path, "openvla/batch logits, left padded"))


@pytest.mark.parametrize("road", [Plain, Fast])
@pytest.mark.parametrize("path", recorded("openvla_e2e*.npz"))
def test_openvla_batched_decoding_gives_the_tokens_of_single_decoding(path, road, loaded):
    assert path is not None, "CI must have the recordings"
    model, processor = loaded(path), read_processor(path.parent / "tiny")
    with np.load(path) as data:
        names = examples(data)
        pixels = torch.from_numpy(np.stack([processor(data[f"{ex}_image"]) for ex in names]))
        prompts = [data[f"{ex}_input_ids_with_29871"][0].tolist() for ex in names]
        steps = len(data[f"{names[0]}_generated_ids"])
        found = road(model).tokens(pixels, prompts, steps).tokens
        np.testing.assert_array_equal(found, np.stack([data[f"{ex}_generated_ids"] for ex in names]))
