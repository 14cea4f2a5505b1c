"""Each strategy trains exactly its weights, and as many as OpenVLA's paper counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training import changed, config, demonstrations, goal, opened, trained

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError
from vla_bench.learn.training.config import Limits, TrainingConfig
from vla_bench.learn.training.loop import train
from vla_bench.learn.training.openvla import strategies
from vla_bench.learn.training.openvla.learner import ADAPTER_FOLDER, OpenVlaLearner
from vla_bench.learn.training.openvla.objective import action_logits
from vla_bench.learn.training.session import write_card, write_policy
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.config import TOWERS, ModelConfig
from vla_bench.policy.openvla.model import OpenVla
from vla_bench.policy.openvla.parts import Inputs
from vla_bench.policy.tensors import SINGLE

LAST = ("language_model.model.layers.1.", "language_model.model.embed_tokens.", "language_model.lm_head.")
TRAINED = {
    "full": ("",),
    "last_layer": LAST,
    "frozen_vision": ("projector.", "language_model."),
    "sandwich": ("vision_backbone.", "projector.", *LAST),
}
# what the checkpoint holds and nothing computes: the last block of a tower, its norm, its pooling
IDLE = (".blocks.1.", "featurizer.norm.", ".attn_pool.")
# table 1 of the paper, in millions; its model has SigLIP alone
PAPER = {
    ("full", 32): 7188, ("last_layer", 32): 465, ("frozen_vision", 32): 6760, ("sandwich", 32): 914,
    ("lora", 32): 97.6, ("lora", 64): 195,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A checkpoint that trainings start from."""
    return opened(data, tmp_path_factory.mktemp("base")).learner.origin.base


def logits_of(parts, session):
    batch = session.batches.measured(range(4))
    wanted = torch.from_numpy(session.learner.parts.tokens.encode(batch.values)).reshape(4, -1)
    with torch.no_grad():
        return action_logits(parts, Inputs(batch.prompts, batch.pixels.to(parts.model.dtype), None), wanted)


@pytest.fixture(scope="module")
def siglip_7b():
    llama = {
        "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }  # fmt: skip
    return ModelConfig((TOWERS["vit_so400m_patch14_siglip_224"],), llama, 256, 32000)


@pytest.mark.parametrize("strategy", TRAINED)
def test_a_strategy_changes_its_weights_and_no_other(data, base, tmp_path, strategy):
    session, ended = trained(data, tmp_path, 2, config(strategy=strategy, batch=12), goal(base=base))
    before, after = load_file(base / SINGLE), load_file(ended.checkpoint / SINGLE)
    used = {name for name in before if not any(part in name for part in IDLE)}
    expected = {name for name in used if name.startswith(TRAINED[strategy])}
    assert changed(before, after) == expected
    assert set(session.learner.trained()) == {n for n in before if n.startswith(TRAINED[strategy])}


def test_lora_changes_nothing_of_the_base_and_adapts_every_linear_layer(data, base, tmp_path):
    session, _ = trained(data, tmp_path, 2, config(strategy="lora", rank=4), goal(base=base))
    model = session.learner.parts.model
    stored = load_file(base / SINGLE)
    for name, value in model.named_parameters():
        if strategies.ADAPTER not in name:
            assert torch.equal(value, stored[name.replace(".base_layer.", ".")])
    adapted = {name.partition(strategies.ADAPTER)[0] for name in session.learner.trained()}
    assert adapted == {
        name
        for name, module in OpenVla.on_meta(model.config).named_modules()
        if type(module) is torch.nn.Linear
    }


def test_an_adapter_changes_nothing_before_its_first_step(data, base, tmp_path):
    plain = opened(data, tmp_path / "plain", what=goal(base=base))
    adapted = opened(data, tmp_path / "adapted", config(strategy="lora", rank=4), goal(base=base))
    assert torch.equal(logits_of(plain.learner.parts, plain), logits_of(adapted.learner.parts, plain))


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_adapters_are_read_beside_their_base_and_merged_into_it(data, base, tmp_path, monkeypatch, strategy):
    how = config(strategy=strategy, rank=4, learning_rate=1e-2)
    session, ended = trained(data, tmp_path, 5, how, goal(base=base))
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    write_card(session, ended.checkpoint.resolve(), tmp_path / "cards")
    beside = load_policy("tiny", "fp32")
    write_policy(session, 5, ("fp32",))
    write_card(session, (tmp_path / "policy").resolve(), tmp_path / "cards")
    merged = load_policy("tiny", "fp32")
    ours, theirs = logits_of(session.learner.parts, session), logits_of(beside.parts, session)
    # four bits leave the model another one than the base in full
    torch.testing.assert_close(ours.float(), theirs, atol=1e-4 if strategy == "lora" else 2.0, rtol=1e-3)
    # merged weights are rounded to bfloat16
    torch.testing.assert_close(logits_of(merged.parts, session), theirs, atol=0.1, rtol=0.05)
    untrained = opened(data, tmp_path / "base", what=goal(base=base))
    assert (theirs - logits_of(untrained.learner.parts, session)).abs().max() > 0.3


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_adapters_continue_exactly(data, base, tmp_path, strategy):
    how = config(strategy=strategy, rank=4)
    _, through = trained(data, tmp_path / "through", 4, how, goal(base=base))
    trained(data, tmp_path / "parts", 2, how, goal(base=base))
    _, parts = trained(data, tmp_path / "parts", 4, how, goal(base=base))
    files = [f"{ADAPTER_FOLDER}/adapter_model.safetensors", "optimizer.safetensors"]
    for file in files:
        assert (through.checkpoint / file).read_bytes() == (parts.checkpoint / file).read_bytes()


def test_adapters_of_another_rank_are_refused(data, base, tmp_path):
    session, ended = trained(data, tmp_path, 1, config(strategy="lora", rank=4), goal(base=base))
    with pytest.raises(DataError, match=r"expected \(8, .*found \(4"):
        OpenVlaLearner(
            session.learner.origin, config(strategy="lora", rank=8), torch.device("cpu"), ended.checkpoint
        )


def test_ofts_recipe_learns_chunks_with_state_and_two_cameras(data, base, tmp_path, monkeypatch):
    what = goal(
        base=base, chunk=4, head="l1", state=True, cameras=("agentview", "robot0_eye_in_hand"), bounds="q99"
    )
    session = opened(data, tmp_path, config(augment="none", batch=12), what)
    first = float(measure_all(session))
    ended = train(session.learner, session.batches, tmp_path, Limits(max_steps=40))
    last = float(measure_all(session))
    assert last < 0.5 * first
    names = set(session.learner.trained())
    assert {"action_head.model.fc2.weight", "proprio_projector.fc1.weight"} <= names
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path / "cards"))
    write_card(session, ended.checkpoint.resolve(), tmp_path / "cards")
    policy = load_policy("tiny", "fp32")
    assert policy.spec.chunk_length == 4
    from vla_bench.learn.samples import Samples
    from vla_bench.types import Observation

    samples = Samples(data, chunk=4, cameras=what.conventions.cameras)
    seen = Observation(samples[0].images, samples[0].proprio, samples[0].instruction, 0)
    said = policy.act([seen]).actions
    wanted = samples[0].actions
    shown = policy.commands(session.batches.measured([0]).values[0])
    assert abs(said - shown).mean() < abs(said - shown[::-1]).mean()
    assert said.shape == wanted.shape


def measure_all(session):
    with torch.no_grad():
        return session.learner.measure(session.batches.measured(range(12))).loss


def test_actions_beyond_the_end_of_an_episode_do_not_count(data, base, tmp_path):
    session = opened(data, tmp_path, what=goal(base=base, chunk=3, head="discrete"))
    batch = session.batches.measured([3])  # the last frame of an episode of 4
    assert batch.mask.tolist() == [[True, False, False]]
    assert session.learner.measure(batch).counted.tolist() == [1.0] * 7
    other = session.batches.measured([3])
    other.values[0, 1:] = -1.0
    first, second = (session.learner.measure(each).loss.detach() for each in (batch, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("options", [{"film": True, "head": "l1"}, {"head": "diffusion"}])
def test_what_is_not_trained_here_is_said(data, base, tmp_path, options):
    with pytest.raises(MissingCapabilityError, match="not trained here"):
        opened(data, tmp_path, what=goal(base=base, chunk=2, **options))


def test_a_base_that_is_not_there_is_named(data, tmp_path):
    with pytest.raises(MissingDataError, match="nowhere"):
        opened(data, tmp_path, what=goal(base=Path("nowhere")))


@pytest.mark.parametrize(("strategy", "rank"), PAPER)
def test_as_many_weights_are_trained_as_the_paper_says(siglip_7b, strategy, rank):
    model = OpenVla.on_meta(siglip_7b)
    strategies.prepare(model, TrainingConfig(strategy=strategy, rank=rank, learning_rate=1.0))
    assert strategies.count(model) / 1e6 == pytest.approx(PAPER[strategy, rank], rel=1e-3)
