"""The model against the original, stage by stage: text, pictures, who attends to whom, readout, actions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.goldens import goldens
from support.octo import fair, recorded, recorded_config, recorded_parameters

from vla_bench.policy.octo.checkpoint import load_octo
from vla_bench.policy.octo.model import Inputs
from vla_bench.policy.octo.names import translate
from vla_bench.policy.octo.scaling import Statistics
from vla_bench.policy.octo.sequence import Group, attention_mask
from vla_bench.policy.octo.text import text_encoder, text_sizes
from vla_bench.policy.precision import backend
from vla_bench.policy.tensors import fill

CPU, FP32 = torch.device("cpu"), backend("fp32")
MASK = "mid/octo_transformer/BlockTransformer_0/attention_mask"
TEXT = "mid/octo_transformer/task_tokenizers_language/__call__/tokens"
IDS = ("task/language_instruction/input_ids", "task/language_instruction/attention_mask")
BASE = "case_lang.npz"  # the case that holds the inputs of the others
LAST = (..., -1, slice(None), slice(None))


def cases() -> list:
    """One pytest parameter a recorded case; skipped where the recordings have no weights of the stems."""
    folder = goldens("octo")
    if folder is None or not (folder / BASE).is_file():
        return recorded("case_lang.npz")
    names = json.loads((folder / "cases.json").read_text())
    with np.load(folder / "params.npz") as data:
        whole = any("observation_tokenizers" in name for name in data.files)
    why = "these recordings leave the cameras' weights out: set VLA_BENCH_GOLDENS to a folder with all"
    marks = () if whole else (pytest.mark.skip(reason=why),)
    return [pytest.param(folder / f"case_{name}.npz", id=name, marks=marks) for name in names]


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def close(found, recording, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), recording, rtol=0, atol=bound)


def inputs_of(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Observations and task of a case: parts of the base case's, as `cases.json` says."""
    case = json.loads((path.parent / "cases.json").read_text())[path.stem.removeprefix("case_")]
    with np.load(path.parent / BASE) as data:
        seen = {n.removeprefix("obs/"): data[n] for n in data.files if n.startswith("obs/")}
        task = {n.removeprefix("task/"): data[n] for n in data.files if n.startswith("task/")}
    if case["task"] == "goal":
        with np.load(path.parent / "goal_inputs.npz") as data:
            task = {n.removeprefix("task/"): data[n] for n in data.files if n.startswith("task/")}
    if "items" in case:
        seen = {name: value[case["items"]][:, case["steps"]] for name, value in seen.items()}
        task = {name: value[case["items"]] for name, value in task.items()}
    seen = {name: value for name, value in seen.items() if name not in case.get("drop", [])}
    return {**seen, **{name: np.array(value) for name, value in case.get("obs", {}).items()}}, task


def as_inputs(model, seen: dict[str, np.ndarray], task: dict[str, np.ndarray]) -> Inputs:
    def of(place: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
        names = [name for name in model.config.cameras if prefix + name in place]
        return {name: tensor(place[prefix + name]) for name in names}

    ids, mask = (tensor(task[name.removeprefix("task/")]) for name in IDS)
    return Inputs(
        steps=tensor(seen["timestep_pad_mask"]), pictures=of(seen, "image_"), goals=of(task, "image_"),
        seen=of(seen, "pad_mask_dict/image_"), text=model.encode(ids, mask),
        has_text=tensor(task["pad_mask_dict/language_instruction"]),
    )  # fmt: skip


def model_of(path: Path):
    """Model and head with the flags of a case."""
    case = json.loads((path.parent / "cases.json").read_text())[path.stem.removeprefix("case_")]
    flags = {name: case[name] for name in ("repeat_task_tokens", "use_correct_attention")}
    config = recorded_config(path.parent, **flags)
    parameters = translate(recorded_parameters(path.parent), config)
    return load_octo(config, parameters, path.parent, FP32, CPU)


@pytest.mark.parametrize("path", recorded(BASE))
@torch.inference_mode()
def test_octo_text_is_encoded_as_recorded(path):
    assert path is not None, "CI must have the recordings"
    ours = translate(recorded_parameters(path.parent), recorded_config(path.parent))
    own = {name.removeprefix("text."): t for name, t in ours.items() if name.startswith("text.")}
    encoder = text_encoder(text_sizes(ours, path.parent)).eval()
    fill(encoder, own, dtype=torch.float32, device=CPU, source=path.parent)
    with np.load(path) as data:
        ids, mask = (tensor(data[name]) for name in IDS)
        found = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        close(found, data[TEXT], fair(path.parent, "text encoder"))


@pytest.mark.parametrize("path", recorded(BASE))
def test_octo_attends_to_what_the_recording_attends_to(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        # all but the two that repeat others
        names = [n.split("/")[1] for n in data.files if re.fullmatch(r"out/\w+_\w+/mask", n)]
        groups = [
            Group(
                name, torch.empty(*data[f"out/{name}/mask"].shape, 0), tensor(data[f"out/{name}/mask"]).bool()
            )
            for name in names
        ]
        task = [group for group in groups if group.name.startswith("task_")]
        steps = [group for group in groups if not group.name.startswith("task_")]
        np.testing.assert_array_equal(attention_mask(task, steps, correct=True), data[MASK].astype(bool))


@pytest.mark.parametrize("path", cases())
@torch.inference_mode()
def test_octo_model_gives_the_recorded_tokens_and_actions(path):
    assert path is not None, "CI must have the recordings"
    folder = path.parent
    model, head = model_of(path)
    seen, task = inputs_of(path)
    groups = model(as_inputs(model, seen, task))
    with np.load(path) as data:
        for name, group in groups.items():
            if f"out/{name}/mask" in data.files:
                np.testing.assert_array_equal(group.mask, data[f"out/{name}/mask"].astype(bool))
            if f"out/{name}/tokens" in data.files:
                check = "readout tokens" if name.startswith("readout_") else "other output tokens"
                close(group.tokens, data[f"out/{name}/tokens"], fair(folder, check))
        readout = groups[head.reads]
        embedding = head.pooled(readout.tokens, readout.mask)
        predicted = head.score(embedding, tensor(data["eps/noisy"]), tensor(data["eps/time"]))
        close(predicted, data["eps/pred"], fair(folder, "eps"))
        start, noise = tensor(data["noise/x_T"]), tensor(data["noise/z"])
        bound = fair(folder, "actions end to end")
        actions = head.sample(embedding, start, noise, head.size)[LAST].numpy()
        close(actions, data["actions_norm"], bound)
        table = json.loads((folder / "config.json").read_text())["stats"]
        scaling = Statistics({"only": {"action": table}}, folder).scaling("only", "action", "normal")
        close(scaling.unnormalise(actions), data["actions_unnorm"], bound)


@pytest.mark.parametrize("path", cases())
@torch.inference_mode()
def test_octo_answers_from_the_last_time_step_alone(path):
    """What a policy does: only the last step's noise is drawn, and only its tokens reach the head."""
    assert path is not None, "CI must have the recordings"
    model, head = model_of(path)
    readout = model(as_inputs(model, *inputs_of(path)))[head.reads]
    with np.load(path) as data:
        start, noise = tensor(data["noise/x_T"])[..., -1, :], tensor(data["noise/z"])[..., -1, :]
        drawn = torch.cat([start[None], noise]).movedim(0, -2)
        found = head(readout.tokens[:, -1], readout.mask[:, -1], drawn, head.size)
        close(found, data["actions_norm"], fair(path.parent, "actions end to end"))


@pytest.mark.parametrize("path", [each for each in cases() if each.id in ("lang", "none")])
@torch.inference_mode()
def test_octo_stems_give_the_recorded_features(path):
    assert path is not None, "CI must have the recordings"
    model, _ = model_of(path)
    with np.load(path) as data:
        for name, stem in model.stems.items():
            recording = data[f"mid/octo_transformer/observation_tokenizers_{name}/SmallStem16_0/__call__"]
            pictures = tensor(data[f"obs/image_{name}"]).flatten(0, 1)[: len(recording)]
            found = stem(torch.cat([pictures, torch.zeros_like(pictures)], dim=-1))
            flat = recording.reshape(len(recording), -1, recording.shape[-1])
            close(found, flat, fair(path.parent, "image stem"))
