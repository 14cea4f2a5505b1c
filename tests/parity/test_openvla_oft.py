"""OFT against the original: every head, one and two pictures, state and FiLM, from files as OFT writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support.openvla import fair, recorded

from vla_bench.policy.openvla.checkpoint import Source, load_part
from vla_bench.policy.openvla.conventions import Conventions
from vla_bench.policy.openvla.heads import Ddim, L1Head
from vla_bench.policy.openvla.parallel import assemble
from vla_bench.policy.openvla.parts import Inputs, Parts, load, load_denoiser
from vla_bench.policy.openvla.prompts import with_empty
from vla_bench.policy.precision import backend

CPU, FP32 = torch.device("cpu"), backend("fp32")
CASE = re.compile(r"(?P<film>film_)?(?P<head>l1|discrete|diffusion)_(?P<n>\d)img(?P<state>_proprio)?_actions")
BOUNDS = {"NormalizationType.BOUNDS_Q99": "q99", "NormalizationType.BOUNDS": "minmax"}


def cases(head: str = "") -> list:
    """(file, case) for every case of every file whose head is the named one, or any."""
    found = []
    for parameter in recorded("oft_e2e*.npz"):
        (path,) = parameter.values
        if path is None:
            found.append(pytest.param(None, None, id="none", marks=parameter.marks))
            continue
        with np.load(path) as data:
            names = [n for n in data.files if (match := CASE.fullmatch(n)) and match["head"].startswith(head)]
        found += [
            pytest.param(path, name.removesuffix("_actions"), id=f"{path.stem}-{name}") for name in names
        ]
    return found


def roads() -> list:
    """(file, case, road through the model) for every case.

    The diffusion head is judged on the plain road alone: with random weights each of its ten steps multiplies
    a difference in rounding by about three.
    """
    return [
        pytest.param(*each.values, road, id=f"{each.id}-{road}", marks=each.marks)
        for each in cases()
        for road in ("plain", "static")
        if road == "plain" or "diffusion" not in str(each.values[1])
    ]


def conventions(path: Path, case: str, road: str = "plain") -> Conventions:
    match = CASE.fullmatch(f"{case}_actions")
    assert match is not None
    constants = json.loads(path.with_suffix(".json").read_text())["constants"]
    with np.load(path) as data:
        key = str(data["unnorm_key"])
        trained, steps = len(data["diffusion_alphas_cumprod"]), len(data["diffusion_timesteps"])
    return Conventions(
        prompt="openvla", cameras=tuple(f"image{i}" for i in range(int(match["n"]))), mirrored=False,
        jpeg=False, lanczos=False, crop_area=1.0, unnorm_key=key, bounds=BOUNDS[constants["norm"]],
        units="controller", gripper="one_opens", head=match["head"], state=bool(match["state"]),
        film=bool(match["film"]), decode=road,
        diffusion_trained=trained, diffusion_steps=steps,
    )  # fmt: skip


def checkpoint(path: Path, used: Conventions, folder: Path) -> Source:
    """A folder as OFT leaves it behind: the model and the parts that these conventions use."""
    for file in (path.parent / "tiny").iterdir():
        (folder / file.name).symlink_to(file)
    parts = path.parent / "tiny_oft"
    for name in used.parts:
        file = next(
            parts.glob(
                f"{'diffusion_' if (name, used.head) == ('action_head', 'diffusion') else ''}{name}--*"
            )
        )
        (folder / file.name).symlink_to(file)
    return Source(folder)


def inputs(parts: Parts, data) -> Inputs:
    pixels = np.concatenate([parts.frames.processor(data[name]) for name in parts.conventions.cameras])
    state = None
    if parts.state_scaling is not None:
        state = torch.from_numpy(parts.state_scaling.normalise(data["raw_proprio"])).float()[None]
    return Inputs([with_empty(data["input_ids"][0].tolist())], torch.from_numpy(pixels[None]), state)


def close(found, recording, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), recording, rtol=0, atol=bound)


@pytest.mark.parametrize(("path", "case", "road"), roads())
@torch.inference_mode()
def test_openvla_oft_gives_the_recorded_actions(path, case, road, tmp_path):
    assert path is not None, "CI must have the recordings"
    used = conventions(path, case, road)
    source = checkpoint(path, used, tmp_path)
    with np.load(path) as data:
        recording = data[f"{case}_actions"]
        parts = load(source, used, len(recording), FP32, CPU)
        given = inputs(parts, data)
        close(
            given.pixels[0, :, ::9, ::9],
            data["pixel_values_2img_sample"][: given.pixels.shape[1]],
            fair(path, "oft/pixel_values"),
        )
        hidden, actions = decoded(parts, source, given, data)
        close(hidden, data[f"{case}_action_hidden"], fair(path, "oft/hidden"))
        bound = fair(path, {"l1": "oft/actions L1"}.get(used.head, f"oft/actions {used.head}"))
        close(parts.scaling.unnormalise(actions), recording, bound)


def decoded(parts: Parts, source: Source, given: Inputs, data) -> tuple[torch.Tensor, np.ndarray]:
    """Hidden states and (T, A) normalised actions."""
    if parts.conventions.head == "diffusion":
        denoiser = load_denoiser(parts, source, FP32)
        noise = torch.from_numpy(data["diffusion_noise"])
        sample, hidden = denoiser(parts.model, given.prompts, parts.visual(given), noise)
        return hidden, sample[0].numpy()
    hidden = parts.hidden(given)
    if parts.conventions.head == "l1":
        head = load_part(
            L1Head(parts.model.config.hidden, parts.scaling.size), source, "action_head", FP32, CPU
        )
        return hidden, head(hidden)[0].numpy()
    ids = parts.model.language_model.lm_head(hidden)[0].argmax(-1).numpy()
    return hidden, parts.tokens.decode(ids).reshape(parts.chunk, parts.scaling.size)


@pytest.mark.parametrize(("path", "case"), cases())
@torch.inference_mode()
def test_openvla_oft_sequence_is_the_recorded_one(path, case, tmp_path):
    assert path is not None, "CI must have the recordings"
    used = conventions(path, case)
    with np.load(path) as data:
        parts = load(checkpoint(path, used, tmp_path), used, len(data[f"{case}_actions"]), FP32, CPU)
        if parts.state_scaling is not None:
            normalised = parts.state_scaling.normalise(data["raw_proprio"])
            close(normalised, data["norm_proprio"], fair(path, "oft/normalized proprio"))
        if used.head == "diffusion":
            return  # has a token for time and its noise at the action positions: covered by its actions
        given = inputs(parts, data)
        sequence = assemble(parts.model, given.prompts, parts.visual(given), parts.slots)
        assert sequence.mask is None
        assert sequence.embeddings.shape[1] == data[f"{case}_seq_len"] == data[f"{case}_mask_sum"]
        width = sequence.embeddings.shape[2]
        close(
            sequence.embeddings.double().sum(2),
            data[f"{case}_embeds_sum"],
            width * fair(path, "openvla/projected"),
        )


@pytest.mark.parametrize(("path", "case"), cases("discrete"))
@torch.inference_mode()
def test_openvla_oft_tokens_and_their_logits_are_the_recorded_ones(path, case, tmp_path):
    assert path is not None, "CI must have the recordings"
    used = conventions(path, case)
    with np.load(path) as data:
        parts = load(checkpoint(path, used, tmp_path), used, len(data[f"{case}_actions"]), FP32, CPU)
        logits = parts.model.language_model.lm_head(parts.hidden(inputs(parts, data)))[0]
        np.testing.assert_array_equal(logits.argmax(-1), data[f"{case}_token_ids"])
        last = parts.model.config.vocabulary
        found = logits[:, last - parts.model.config.bins : last]
        close(found, data[f"{case}_logits_action_range"], fair(path, "oft/logits discrete"))


@pytest.mark.parametrize("path", recorded("oft_e2e*.npz"))
def test_openvla_oft_noise_schedule_is_the_recorded_one(path):
    assert path is not None, "CI must have the recordings"
    with np.load(path) as data:
        schedule = Ddim(len(data["diffusion_alphas_cumprod"]), len(data["diffusion_timesteps"]))
        assert schedule.timesteps == data["diffusion_timesteps"].tolist()
        close(schedule.alphas, data["diffusion_alphas_cumprod"], 1e-7)
