"""Passes of Octo and Diffusion Policy can be recorded: laws that do not need the GPU that records them.

What is recorded runs again on other numbers in the same places. So the function that was first called with a
name, a key and shapes must answer all later calls with them, must not read what it computes, and must not
bring anything from the processor to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support import diffusion, octo
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.cards import load_policy
from vla_bench.policy.graphs import Graphs
from vla_bench.policy.octo.adapter import OctoPolicy, build
from vla_bench.policy.stopwatch import Stopwatch


class Replays(Graphs):
    """As CUDA does it: the first function is kept, with the places of its inputs."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.kept: dict[Hashable, tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]] = {}

    def __call__(self, name, function, *inputs, key=None):
        place = (name, key, *((x.shape, x.dtype) for x in inputs))
        first, held = self.kept.setdefault(place, (function, [x.clone() for x in inputs]))
        for mine, given in zip(held, inputs, strict=True):
            mine.copy_(given)
        return tuple(output.clone() for output in first(*held))


SAMPLERS = {"ddpm": {}, "ddim": {"sampler": "ddim", "steps": 5}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Name → a policy of its own."""
    folder = tmp_path_factory.mktemp("cards")
    checkpoint = octo.write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")
    path = diffusion.write_official(tmp_path_factory.mktemp("official") / "latest.ckpt")
    for name, options in SAMPLERS.items():
        diffusion.write_card(folder, name, path, options)

    def make(name: str) -> Any:
        if name == "octo":
            return build(octo.card_of(checkpoint, first_window="short"), "fp32")
        return load_policy(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(POLICIES_DIR_VARIABLE, str(folder))
        yield make


def replaying(policy: Any) -> tuple[Any, Replays]:
    """The same policy, with passes that are kept."""
    graphs, passes = Replays(), policy.parts.passes
    others = (passes.model, passes.head) if isinstance(policy, OctoPolicy) else (passes.net, passes.schedule)
    return type(policy)(replace(policy.parts, passes=type(passes)(*others, graphs))), graphs


def windows(policy: Any, rows: int, scene: int) -> list:
    """Histories of several scenes; the third is the first of its episode, and repeats its observation."""
    batch = histories(policy.spec, rows, scene)
    return batch if scene != 2 else [history[:1] * len(history) for history in batch]


@pytest.mark.parametrize("name", ["octo", *SAMPLERS])
def test_what_was_first_kept_answers_all_later_calls(made, name):
    policy = made(name)
    kept, graphs = replaying(policy)
    for scene in (0, 1, 2, 0, 3):
        for rows in (1, 2):
            batch, seeds = windows(policy, rows, scene), list(range(scene, scene + rows))
            pairs = zip(policy.act_seeded(batch, seeds), kept.act_seeded(batch, seeds), strict=True)
            for expected, found in pairs:
                np.testing.assert_array_equal(found.actions, expected.actions)
    names = [place[0] for place in graphs.kept]  # type: ignore[index]
    assert len(names) < 5 * 2 * len(set(names)), "calls share what was kept"


def test_other_conventions_of_a_checkpoint_share_what_was_kept(made):
    policy = made("octo")
    kept, graphs = replaying(policy)
    given = histories(kept.spec, 1, 0)[0]
    kept.act(given)
    count = len(graphs.kept)
    for option, value in (("mirrored", True), ("unnorm_key", "other"), ("gripper", "one_closes")):
        expected = policy.with_option(option, value).act(given).actions
        np.testing.assert_array_equal(kept.with_option(option, value).act(given).actions, expected)
    assert len(graphs.kept) == count


class Crossings(TorchDispatchMode):
    """Finds what leads from the processor to the device; back from it, the device `meta` cannot go at all."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given, back = tree_leaves((args, kwargs)), tree_leaves(made)
        lands = any(isinstance(x, Tensor) and x.is_meta for x in back)
        # a number beside a tensor is handed to the kernel by value
        small = 0 if "copy" in str(func) else 1
        brings = any(isinstance(x, Tensor) and x.is_cpu and x.ndim >= small for x in given)
        if lands and brings:
            self.found.append(str(func))
        return made


@torch.inference_mode()
def test_octos_passes_bring_nothing_to_the_device_and_read_nothing_from_it(made):
    policy = made("octo")
    parts = policy.parts
    told = parts.told(parts.prepare(histories(policy.spec, 1, 0)), ["lift it"])
    drawn = torch.zeros(1, *policy._noise(histories(policy.spec, 1, 0), [0]).shape[1:], device="meta")
    parts.model.to("meta")
    parts.head.to("meta")
    moved = replace(
        told,
        steps=told.steps.to("meta"),
        pictures={name: each.to("meta") for name, each in told.pictures.items()},
        text=told.text.to("meta"),
        has_text=told.has_text.to("meta"),
    )
    watch = Stopwatch(torch.device("cpu"))
    parts.passes(moved, drawn, 7, watch)  # what is made once is made now
    with Crossings() as crossings:
        assert parts.passes(moved, drawn, 7, watch).shape == (1, 4, 7)
    assert crossings.found == []


@pytest.mark.parametrize("name", SAMPLERS)
@torch.inference_mode()
def test_diffusions_passes_bring_nothing_to_the_device_and_read_nothing_from_it(made, name):
    policy = made(name)
    batch = histories(policy.spec, 1, 0)
    seen = {key: value.to("meta") for key, value in policy.parts.prepared(batch).items()}
    noise = policy._noise(batch, [0]).to("meta")
    policy.parts.net.to("meta")
    passes = policy.parts.passes
    with Crossings() as crossings:
        assert passes.denoise(passes.features(seen), noise).shape == (1, 8, 7)
    assert crossings.found == []


def test_a_crossing_would_be_found():
    with Crossings() as crossings:
        torch.tensor([1.0, 2.0]).to("meta")
        torch.ones(2, device="meta") * torch.tensor(2.0)
    assert len(crossings.found) == 1
    assert "copy" in crossings.found[0]
    with pytest.raises(RuntimeError):
        torch.ones(1, device="meta").item()
