"""What every training keeps to: it learns, it continues exactly, and what it writes is what it had."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.demonstrations import LAYOUT
from support.openvla import BRIDGE_OPTIONS, write_checkpoint
from support.training import CPU, config, demonstrations, goal, opened, trained

from vla_bench.catalog import POLICIES_DIR_VARIABLE
from vla_bench.errors import ConventionError, MissingCapabilityError, VlaBenchError
from vla_bench.learn import held_out
from vla_bench.learn.samples import Samples
from vla_bench.learn.training import state
from vla_bench.learn.training.config import Limits, Rhythm
from vla_bench.learn.training.curve import read_curve
from vla_bench.learn.training.loop import Watchers, train
from vla_bench.learn.training.openvla import KIND
from vla_bench.learn.training.openvla.learner import OpenVlaLearner
from vla_bench.learn.training.openvla.objective import action_logits
from vla_bench.learn.training.parallel import Group, assembled
from vla_bench.learn.training.session import Goal, open_session, write_card, write_policy
from vla_bench.policy.cards import load_policy
from vla_bench.policy.openvla.conventions import Conventions, from_commands
from vla_bench.policy.openvla.parts import Inputs
from vla_bench.policy.tensors import SINGLE
from vla_bench.types import Observation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return demonstrations(tmp_path_factory.mktemp("data") / "set")


def loaded(session, checkpoint, folder, monkeypatch, **keys):
    """The policy of a checkpoint, as the runner would load it."""
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(folder))
    write_card(session, checkpoint.resolve(), folder, **keys)
    return load_policy("tiny", "fp32")


def inputs_of(session, indices):
    batch = session.batches.measured(indices)
    wanted = session.learner.parts.tokens.encode(batch.values)
    return Inputs(batch.prompts, batch.pixels, None), torch.from_numpy(wanted.reshape(len(wanted), -1))


def test_a_training_learns_a_small_set_by_heart_and_ends_when_it_does(data, tmp_path):
    session = opened(data, tmp_path, config(augment="none", batch=12))
    limits = Limits(max_steps=400, until_accuracy=0.95, window=5)
    ended = train(session.learner, session.batches, tmp_path, limits)
    assert ended.reason == "until_accuracy"
    said = session.learner.measure(session.batches.measured(range(12)))
    assert said.right is not None
    assert said.right.sum() / said.counted.sum() > 0.95
    curve = read_curve(tmp_path)
    assert float(curve[0]["token_accuracy"]) < 0.6 < float(curve[-1]["token_accuracy"])
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_policy_of_a_checkpoint_sees_and_says_what_training_saw_and_said(data, tmp_path, monkeypatch):
    session, ended = trained(data, tmp_path, 3)
    policy = loaded(session, ended.checkpoint, tmp_path / "cards", monkeypatch)
    samples = session.batches.training[:4]
    inputs, targets = inputs_of(session, samples)
    with torch.no_grad():
        ours = action_logits(session.learner.parts, inputs, targets)
        theirs = action_logits(policy.parts, inputs, targets)
    assert torch.equal(ours, theirs)
    # and through the policy's own eyes, prompt and decoding
    stored = Samples(data, cameras=("agentview",))
    for row, index in enumerate(samples):
        sample = stored[int(index)]
        seen = Observation(sample.images, sample.proprio, sample.instruction, 0)
        prepared = policy.parts.prepare([seen], policy._prompts([seen]))
        assert torch.equal(prepared.pixels[0], inputs.pixels[row])
        assert list(prepared.prompts[0]) == list(inputs.prompts[row])
        wanted = policy.encode_actions(sample.actions)
        assert wanted.ravel().tolist() == targets[row].tolist()
        # said without a mistake, they are the demonstrated commands but for bins and the extreme percents
        meant = policy.commands(policy.parts.values(targets[row : row + 1])[0])
        np.testing.assert_allclose(meant, sample.actions, atol=0.05)
        forced = policy.action_logits([seen], wanted)
        assert forced.tokens.ravel().tolist() == ours[row].argmax(-1).tolist()
        first = ours.shape[-1] - 64 - 256
        expected = ours[row].double().log_softmax(-1)[:, first : first + 256]
        np.testing.assert_allclose(forced.log_probs[0, :, :256], expected.numpy(), atol=1e-4)


def test_prompts_of_different_lengths_do_not_disturb_each_other(data, tmp_path):
    session = opened(data, tmp_path)
    inputs, targets = inputs_of(session, session.batches.training[:3])
    prompts = [[1, *range(40, 40 + length), 3] for length in (4, 9, 30)]
    with torch.no_grad():
        together = action_logits(session.learner.parts, Inputs(prompts, inputs.pixels, None), targets)
        for i, ids in enumerate(prompts):
            one = Inputs([ids], inputs.pixels[i : i + 1], None)
            alone = action_logits(session.learner.parts, one, targets[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_several_processes_are_refused_before_they_write_into_one_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingCapabilityError, match="find each other first"):
        opened(data, tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(MissingCapabilityError, match="weights are not sharded"), assembled("cpu"):
        pass
    with pytest.raises(ConventionError, match=r"no multiple of 2; --accumulate 4, with a smaller"):
        Group(0, 2).passes(3)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopped_and_continued_weights_are_those_of_a_training_that_ran_through(data, tmp_path, optimizer):
    how = config(
        accumulate=2, warmup_steps=2, decay_steps=6, weight_decay=0.1, optimizer=optimizer, label_spread=2.0,
        foresight=0.5,
    )  # fmt: skip
    _, through = trained(data, tmp_path / "through", 6, how)
    trained(data, tmp_path / "parts", 2, how)
    trained(data, tmp_path / "parts", 3, how)
    _, parts = trained(data, tmp_path / "parts", 6, how)
    for file in (SINGLE, state.MOMENTS):
        assert (through.checkpoint / file).read_bytes() == (parts.checkpoint / file).read_bytes()
    assert [row["step"] for row in read_curve(tmp_path / "parts")] == ["2", "3", "6"]


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_an_official_checkpoint_is_trained_further_and_read_by_its_own_card(data, tmp_path, strategy):
    base = write_checkpoint(tmp_path / "official")
    what = Goal("further", KIND, Conventions.model_validate(BRIDGE_OPTIONS), base=base)
    how = config(strategy=strategy, rank=4, batch=2, learning_rate=1e-2)
    session, ended = trained(data, tmp_path / "out", 2, how, what)
    if strategy == "full":
        whole = ended.checkpoint
    else:
        session.learner.write_policy(whole := tmp_path / "whole", 2, torch.float32)
    policy = load_policy(f"openvla-7b:{whole}", "fp32")
    inputs, targets = inputs_of(session, range(2))
    with torch.no_grad():
        ours = action_logits(session.learner.parts, inputs, targets)
        theirs = action_logits(policy.parts, inputs, targets)
        before = action_logits(load_policy(f"openvla-7b:{base}", "fp32").parts, inputs, targets)
    torch.testing.assert_close(ours, theirs, atol=0.0 if strategy == "full" else 1e-4, rtol=0.0)
    assert (before - theirs).abs().max() > 0.05
    # trained on metres and radians of this data set, which the card finds under the name it knows
    assert policy.parts.statistics.tables.keys() == {"bridge_orig"}
    moved = from_commands(Samples(data, cameras=()).actions, what.conventions)
    np.testing.assert_allclose(policy.parts.scaling.high[:6], np.quantile(moved, 0.99, axis=0)[:6])


def test_half_a_checkpoint_is_none(data, tmp_path, monkeypatch):
    _, first = trained(data, tmp_path, 2)
    kept = (first.checkpoint / SINGLE).read_bytes()

    def fail(*args):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(state, "write_json", fail)
        with pytest.raises(OSError, match="space"):
            trained(data, tmp_path, 3)
    assert state.newest(tmp_path) == first.checkpoint
    assert (first.checkpoint / SINGLE).read_bytes() == kept
    assert trained(data, tmp_path, 3)[1].progress.step == 3


def test_only_so_many_checkpoints_are_kept(data, tmp_path):
    session = opened(data, tmp_path)
    train(session.learner, session.batches, tmp_path, Limits(max_steps=5), Rhythm(save=1, keep=2))
    assert [place.name for place in sorted((tmp_path / state.FOLDER).iterdir())] == [
        "step-00000004", "step-00000005",
    ]  # fmt: skip


def test_the_one_who_stops_it_loses_nothing(data, tmp_path):
    steps = []
    watchers = Watchers(on_step=lambda step, *_: steps.append(step), is_stopping=lambda: len(steps) >= 2)
    _, ended = trained(data, tmp_path / "stopped", 4, watchers=watchers)
    assert (ended.reason, ended.progress.step) == ("interrupted", 2)
    _, after = trained(data, tmp_path / "stopped", 4)
    _, through = trained(data, tmp_path / "through", 4)
    assert (after.checkpoint / SINGLE).read_bytes() == (through.checkpoint / SINGLE).read_bytes()


def test_it_is_played_every_so_often_and_at_its_end_and_where_it_was_broken_off_but_not_when_stopped(
    data, tmp_path
):
    played, stopped = [], []

    def play(checkpoint, step):
        assert checkpoint == state.newest(tmp_path)
        played.append(step)

    def session_until(steps):
        session = opened(data, tmp_path)
        watchers = Watchers(on_checkpoint=play, is_stopping=lambda: bool(stopped))
        limits, rhythm = Limits(max_steps=steps), Rhythm(evaluate=2)
        return train(session.learner, session.batches, tmp_path, limits, rhythm, watchers)

    session_until(3)
    assert played == [2, 3]
    session_until(5)
    assert played == [2, 3, 4, 5]
    session_until(5)
    assert played == [2, 3, 4, 5, 5]
    stopped.append(True)
    assert session_until(9).reason == "interrupted"
    assert played == [2, 3, 4, 5, 5]


def test_passes_that_are_accumulated_are_one_large_batch(data, tmp_path):
    _, one = trained(data, tmp_path / "one", 2, config(batch=8, augment="none"))
    _, two = trained(data, tmp_path / "two", 2, config(batch=4, accumulate=2, augment="none"))
    first, second = (load_file(ended.checkpoint / SINGLE) for ended in (one, two))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=2e-4)


def test_computing_again_changes_no_weight(data, tmp_path):
    _, kept = trained(data, tmp_path / "kept", 3)
    _, again = trained(data, tmp_path / "again", 3, config(checkpointing=True))
    first, second = (load_file(ended.checkpoint / SINGLE) for ended in (kept, again))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_bfloat16_trains_weights_of_float32(data, tmp_path):
    session, ended = trained(data, tmp_path, 3, config(precision="bf16"))
    assert {value.dtype for value in load_file(ended.checkpoint / SINGLE).values()} == {torch.float32}
    write_policy(session, 3, ("fp32", "bf16"))
    assert {value.dtype for value in load_file(tmp_path / "policy" / SINGLE).values()} == {torch.bfloat16}


def test_the_written_policy_runs_by_its_card(data, tmp_path, monkeypatch):
    session, _ = trained(data, tmp_path, 1)
    write_policy(session, 1, ("fp32", "bf16"))
    monkeypatch.setenv(POLICIES_DIR_VARIABLE, str(tmp_path))
    for precision in ("fp32", "bf16"):
        policy = load_policy("tiny", precision)
        seen = Observation({"agentview": np.zeros((32, 48, 3), np.uint8)}, {}, "do it", 0)
        assert policy.act([seen]).actions.shape == (1, 7)
    assert policy.spec.control_hz == 5.0
    assert policy.spec.image_px == (32, 48)


def test_held_out_episodes_are_measured_and_never_trained_on(data, tmp_path):
    session, _ = trained(data, tmp_path, 3, config(holdout=3))
    batches = session.batches
    assert not set(batches.training) & set(batches.held_out)
    assert sorted([*batches.training, *batches.held_out]) == list(range(12))
    assert float(read_curve(tmp_path)[-1]["held_out_loss"]) > 0


def test_another_training_in_the_folder_is_refused_with_what_differs(data, tmp_path):
    trained(data, tmp_path, 1)
    with pytest.raises(ConventionError, match=r"config\.learning_rate was 0\.003 and is 0\.01"):
        opened(data, tmp_path, config(learning_rate=0.01))
    with pytest.raises(ConventionError, match="strategy"):
        opened(data, tmp_path, config(strategy="lora"))
    with pytest.raises(ConventionError, match=r"options\.mirrored"):
        opened(data, tmp_path, what=goal(mirrored=True))


def test_data_of_another_kind_of_action_are_refused(tmp_path):
    joints = replace(LAYOUT, action=tuple("abcdefg"), action_convention="joints")
    with pytest.raises(ConventionError, match=r"actions are 'joints'; 'delta_pose' is what is trained"):
        opened(demonstrations(tmp_path / "joints", layout=joints), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_says_what_it_learned_from_and_what_it_never_saw(data, tmp_path):
    opened(data, tmp_path)
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["tasks"] == ["mine/task0", "mine/task1"]
    assert facts["held_out"] == held_out.digest()
    assert not any(facts["held_out_changes"].values())


def test_what_was_added_is_learned_on_the_scale_of_the_first_data_set(data, tmp_path):
    more = demonstrations(tmp_path / "more", episodes=2)
    (more / held_out.FILE).write_text('{"visual/fog.toml": "as it was"}')
    session = open_session(goal(), config(holdout=5), [data, more], tmp_path / "out", CPU)
    assert sorted([*session.batches.training, *session.batches.held_out]) == list(range(20))
    train(session.learner, session.batches, session.folder, Limits(max_steps=2))
    alone = opened(data, tmp_path / "alone")
    assert session.learner.origin.statistics == alone.learner.origin.statistics
    facts = json.loads((tmp_path / "out/training.json").read_text())
    assert facts["data"]["folder"] == f"{data.resolve()}, {more.resolve()}"
    assert facts["held_out_changes"]["changed"] == ["visual/fog.toml"]
    with pytest.raises(ConventionError, match=r"data\.folder was .*more' and is"):
        opened(data, tmp_path / "out", config(holdout=5))


def test_a_checkpoint_of_another_strategy_is_refused(data, tmp_path):
    session, ended = trained(data, tmp_path, 1)
    path = ended.checkpoint / state.STATE
    path.write_text(json.dumps({**json.loads(path.read_text()), "training_hash": "other"}))
    with pytest.raises(ConventionError, match="other settings"):
        train(session.learner, session.batches, tmp_path, Limits(max_steps=2))


def test_without_memory_it_says_what_to_lower(data, tmp_path, monkeypatch):
    session = opened(data, tmp_path)

    def out_of_memory(*args):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(OpenVlaLearner, "measure", out_of_memory)
    with pytest.raises(
        MissingCapabilityError, match=r"--batch 2 --accumulate 2, or --checkpointing, or --str"
    ):
        train(session.learner, session.batches, tmp_path, Limits(max_steps=1))


def test_gradients_that_are_no_numbers_end_it_before_they_are_used(data, tmp_path):
    trained(data, tmp_path, 1)
    session = opened(data, tmp_path)
    session.learner.parts.model.projector.get_submodule("fc1").bias.data[0] = torch.nan
    with pytest.raises(
        VlaBenchError, match=r"step 2: the gradients are not finite.*lower learning rate than"
    ):
        train(session.learner, session.batches, tmp_path, Limits(max_steps=2))
    assert state.newest(tmp_path).name == "step-00000001"


def test_a_training_needs_an_end():
    with pytest.raises(ValueError, match="--max-steps or --max-minutes"):
        Limits(until_accuracy=0.95)
