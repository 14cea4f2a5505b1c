"""What every family that is trained keeps to: it learns, continues exactly, and acts as it was trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.openvla import BRIDGE
from support.training import FAMILIES, config, demonstrations, goal_of, opened, trained

from vla_bench import seeding
from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, DataError, MissingCapabilityError, UnknownNameError
from vla_bench.learn.architecture import architectures, read_architecture
from vla_bench.learn.samples import Samples
from vla_bench.learn.training import state
from vla_bench.learn.training.config import Limits, Rhythm
from vla_bench.learn.training.diffusion import objective as diffusion
from vla_bench.learn.training.diffusion.architecture import DiffusionArchitecture
from vla_bench.learn.training.diffusion.average import decay
from vla_bench.learn.training.diffusion.scalings import limits
from vla_bench.learn.training.kind import Origin, kind_of
from vla_bench.learn.training.loop import train
from vla_bench.learn.training.octo import objective as octo
from vla_bench.learn.training.octo.stems import Standardised
from vla_bench.learn.training.session import write_card, write_policy
from vla_bench.policy.base import explain
from vla_bench.policy.cards import load_policy
from vla_bench.policy.octo.names import _standardised
from vla_bench.policy.tensors import SINGLE, safetensors_of, weights_of
from vla_bench.types import Observation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_fits_into_15_megabytes_of_bfloat16(name, tmp_path):
    architecture = read_architecture(name)
    kind = kind_of(architecture.family)
    conventions = kind.conventions.model_validate(architecture.options)
    tables = {kind.statistics_key(conventions): BRIDGE}
    kind.create(architecture, Origin(tmp_path, conventions, kind.chunk(architecture), tables), 0)
    assert sum(2 * int(np.prod(tensor.shape)) for tensor in weights_of(tmp_path).values()) < 15e6


def histories(data, policy, count):
    """What the runner would show at every frame: the first observation also stands for those before it."""
    samples = Samples(data, cameras=policy.spec.cameras)
    period = int(1e9 / samples.hz)

    def seen(index):
        sample = samples[index]
        time_ns = int(samples.step[index]) * period
        return Observation(sample.images, sample.proprio, sample.instruction, time_ns)

    for index in range(count):
        first = index - int(samples.step[index])
        yield [seen(max(index - back, first)) for back in reversed(range(policy.spec.history))]


def answered(session, history, policy):
    """What the learner itself would answer, given the policy's noise; normalised."""
    learner, seed, time_ns = session.learner, 7, history[-1].time_ns
    step = time_ns // int(1e9 / policy.spec.control_hz)
    index = next(i for i in range(12) if session.batches._samples.step[i] == step and i >= 4)
    batch = session.batches.measured([index])
    family = session.goal.kind.family
    draws = seeding.generator("policy", family, seed, time_ns)
    with torch.no_grad():
        if family == "octo":
            drawn = torch.from_numpy(learner.head.draw(draws))[None]
            return octo.answer(learner.head, learner.embedding(batch), replace(batch, drawn=drawn))[0]
        noise = torch.from_numpy(draws.standard_normal((1, *batch.noise.shape[1:]), np.float32))
        said = diffusion.answer(learner.average, replace(batch, noise=noise))
        return said[0, learner.design.history - 1 :]


@pytest.mark.parametrize(
    ("family", "options"),
    [("octo", {"cameras": {"primary": {"camera": "agentview"}}, "mirrored": True}), ("diffusion", {})],
)
def test_the_policy_of_a_checkpoint_answers_as_what_was_trained(family, options, data, tmp_path, monkeypatch):
    session, ended = trained(data, tmp_path, 3, what=goal_of(family, **options))
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    write_card(session, ended.checkpoint.resolve(), tmp_path / "cards")
    policy = load_policy("tiny", "fp32")
    policy.reset("", 7)
    for history in list(histories(data, policy, 8))[4:]:
        told = explain(policy, history)
        assert told.normalised is not None
        np.testing.assert_allclose(answered(session, history, policy), told.normalised, atol=2e-3)
        assert told.chunk.actions.shape == (session.goal.chunk, 7)
    assert policy.spec.control_hz == 5.0
    assert policy.spec.image_px == (32, 48)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_several_noises_is_their_mean(family, data, tmp_path):
    session = opened(data, tmp_path, config(noises=2), goal_of(family))
    both = session.batches.measured([4, 5])
    halves = [
        replace(both, noise=n, steps=s) for n, s in zip(both.noise.chunk(2), both.steps.chunk(2), strict=True)
    ]
    with torch.no_grad():
        together, *apart = (float(session.learner.measure(batch).loss) for batch in (both, *halves))
    assert together == pytest.approx(np.mean(apart), rel=1e-5)
    assert abs(apart[0] - apart[1]) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns(family, data, tmp_path):
    how = config(augment="none", batch=12, learning_rate=5e-3, warmup_steps=10)
    session = opened(data, tmp_path, how, goal_of(family))
    everything = session.batches.measured(range(12))
    with torch.no_grad():
        before = session.learner.judge(everything)
    ended = train(session.learner, session.batches, tmp_path, Limits(max_steps=60))
    with torch.no_grad():
        after = session.learner.judge(everything)
    assert float(after.loss) < 0.6 * float(before.loss)
    assert {"loss", "gradient_norm"} <= ended.last.keys()
    assert not {"distance", "token_accuracy"} & ended.last.keys(), "saying actions costs more than the loss"


@pytest.mark.parametrize("family", FAMILIES)
def test_stopped_and_continued_it_is_a_training_that_ran_through(family, data, tmp_path):
    how = config(accumulate=2, warmup_steps=2, decay_steps=6, weight_decay=0.1, holdout=3, noises=2)
    _, through = trained(data, tmp_path / "through", 5, how, goal_of(family))
    trained(data, tmp_path / "parts", 3, how, goal_of(family))
    session = opened(data, tmp_path / "parts", how, goal_of(family))
    often = Rhythm(save=1, keep=1)  # the checkpoint that it continues from goes
    parts = train(session.learner, session.batches, tmp_path / "parts", Limits(max_steps=5), often)
    for file in (SINGLE, state.OWN, state.MOMENTS):
        assert (through.checkpoint / file).read_bytes() == (parts.checkpoint / file).read_bytes()
    assert {name: through.last[name] for name in ("held_out_loss", "held_out_distance")} == {
        name: parts.last[name] for name in ("held_out_loss", "held_out_distance")
    }
    card = write_policy(session, 5, ("fp32", "bf16"))
    stored = safetensors_of(tmp_path / "parts/policy" / SINGLE)
    assert torch.bfloat16 in {tensor.dtype for tensor in stored.values()}
    assert not (tmp_path / "parts/policy" / state.OWN).exists()
    assert "trained here" in card.read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_goes_on_from_a_policy_and_says_what_is_not_trained(family, data, tmp_path):
    first, ended = trained(data, tmp_path / "first", 1, what=goal_of(family))
    base = first.goal.__class__(
        "further", first.goal.kind, first.goal.conventions, first.goal.chunk, ended.checkpoint
    )
    further = opened(data, tmp_path / "further", what=base)
    before, after = (session.learner.trained() for session in (first, further))
    assert before.keys() == after.keys()
    with pytest.raises(MissingCapabilityError, match=r"strategy = 'lora': not implemented"):
        opened(data, tmp_path / "lora", config(strategy="lora"), base)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_reaches_back_to_the_beginning_of_its_episode_and_not_beyond(family, data, tmp_path):
    session = opened(data, tmp_path, what=goal_of(family))
    excerpts = [
        session.batches._excerpt(index, None) for index in (4, 5, 7)
    ]  # of the second of 4 frames each
    samples = Samples(data, cameras=())
    length = session.learner.reach.actions
    assert [each.real.tolist() for each in excerpts] == [[False, True], [True, True], [True, True]]
    ahead = [np.clip(np.arange(first, first + length), 4, 7) for first in (3, 4, 6)]
    for excerpt, frames in zip(excerpts, ahead, strict=True):
        assert np.array_equal(excerpt.actions, samples.actions[frames])
    assert excerpts[0].mask.tolist() == [False, *[True] * (length - 1)]
    assert excerpts[2].mask.tolist() == [True, True, *[False] * (length - 2)]
    assert np.array_equal(excerpts[1].proprio["robot0_eef_pos"], samples.proprio["robot0_eef_pos"][4:6])


def test_pictures_of_a_window_are_changed_alike(data, tmp_path):
    batches = opened(data, tmp_path, what=goal_of("octo")).batches
    first, second = batches._excerpt(4, 0).pictures  # the first frame stands for the one before it
    assert np.array_equal(first[0], second[0])
    other, _ = batches._excerpt(4, 1).pictures
    assert not np.array_equal(first[0], other[0])


def test_octo_is_trained_with_the_convolutions_that_its_loader_standardises():
    draws = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 3, 3, 3)))
    expected = _standardised(draws.permute(2, 3, 1, 0))
    torch.testing.assert_close(Standardised()(draws), expected)


def test_every_step_of_a_window_has_the_actions_from_it_on():
    values = torch.arange(5)[None, :, None]
    assert octo.windows(values, 2)[0, :, :, 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_the_average_of_weights_begins_as_the_weights_and_grows_slow():
    assert [decay(step) for step in (1, 2)] == [0.0, 0.0]
    assert decay(3) == pytest.approx(1 - 2**-0.75)
    assert decay(10**9) == 0.9999
    rates = [decay(step) for step in range(2, 1000)]
    assert rates == sorted(rates)


def test_extremes_become_one_and_what_never_moves_zero():
    scaling = limits(np.array([-2.0, 0.5]), np.array([4.0, 0.5]))
    found = scaling.normalise(torch.tensor([[-2.0, 0.5], [4.0, 0.5], [1.0, 0.5]]))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]


def test_pictures_of_another_size_than_the_models_are_refused(data, tmp_path):
    what = goal_of("diffusion")
    assert isinstance(what.architecture, DiffusionArchitecture)
    design = what.architecture.design
    camera = design.inputs[0].model_copy(update={"size": (32, 32), "crop": None})
    other = design.model_copy(update={"inputs": (camera, *design.inputs[1:])})
    what = what.__class__(
        what.name, what.kind, what.conventions, what.chunk,
        architecture=what.architecture.model_copy(update={"design": other}),
    )  # fmt: skip
    with pytest.raises(
        ConventionError, match=r"pictures of 'agentview' are \(32, 48\), the model takes \(32, 32\)"
    ):
        opened(data, tmp_path, what=what)


def test_a_family_must_be_named_and_known(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n')
    with pytest.raises(DataError, match="must name its family, one of openvla, octo, diffusion"):
        read_architecture(str(path))
    path.write_text('family = "octa"\n')
    with pytest.raises(UnknownNameError, match="did you mean 'octo'"):
        read_architecture(str(path))
