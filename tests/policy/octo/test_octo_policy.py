"""Octo as a policy, from a card to commands: windows, noise, batches, goals, conventions, errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.spatial.transform import Rotation
from support.octo import TEXT, card_of, config, diffusion, spec, statistics, write_checkpoint

from vla_bench.errors import (
    ConventionError,
    DataError,
    MissingCapabilityError,
    MissingDataError,
    UnknownNameError,
)
from vla_bench.policy.base import act_batch, explain
from vla_bench.policy.bench.scene import histories
from vla_bench.policy.bench.timing import timed
from vla_bench.policy.octo.adapter import build
from vla_bench.policy.octo.conventions import Conventions, to_commands
from vla_bench.types import Observation

PERIOD_NS = 200_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("octo") / "tiny")


@pytest.fixture(scope="module")
def policy(folder):
    return build(card_of(folder), "fp32")


def observation(step: int, seed: int = 0, instruction: str = "open the drawer") -> Observation:
    random = np.random.default_rng([seed, step])
    images = {name: random.integers(0, 256, (48, 48, 3)).astype(np.uint8) for name in ("agentview", "wrist")}
    proprio = {
        "robot0_eef_pos": random.uniform(-1, 1, 3),
        "robot0_eef_quat": np.array([0.0, 1.0, 0.0, 0.0]),
        "robot0_gripper_qpos": np.array([0.04, -0.04]),
    }
    return Observation(images, proprio, instruction, step * PERIOD_NS)


def history(step: int, seed: int = 0, **changes: str) -> list[Observation]:
    """What the runner hands over: the first observation stands for those before it."""
    first = observation(max(step - 1, 0), seed, **changes)
    return [first, first if step == 0 else observation(step, seed, **changes)]


def actions(policy, given, seed: int = 0) -> np.ndarray:
    policy.reset(given[-1].instruction, seed)
    return policy.act(given).actions


def test_a_card_declares_what_the_policy_sees_and_says(policy):
    spec = policy.spec
    assert (spec.cameras, spec.image_px, spec.proprio) == (("agentview",), (48, 48), ())
    assert (spec.history, spec.history_stride_s, spec.control_hz) == (2, 0.2, 5)
    chunk = policy.act(history(3))
    assert chunk.actions.shape == (spec.chunk_length, spec.action_size) == (4, 7)
    assert np.abs(chunk.actions).max() <= 1
    parts = {f"inference.{name}" for name in ("text", "vision", "transformer", "head")}
    assert set(chunk.timings_ms) == {"preprocess", "inference", "postprocess", *parts}


def test_noise_belongs_to_the_seed_and_the_time_and_to_nothing_else(policy):
    expected = actions(policy, history(3), seed=5)
    for step in (0, 7, 3):  # what was asked before does not matter
        found = actions(policy, history(step), seed=5)
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(actions(policy, history(3), seed=6), expected)
    later = [replace(seen, time_ns=seen.time_ns + PERIOD_NS) for seen in history(3)]
    assert not np.array_equal(actions(policy, later, seed=5), expected)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_batch_gives_every_episode_the_actions_that_it_has_alone(policy, rows):
    texts = ["open the drawer", "lift the red block", "a"]
    batch = [history(i, seed=i, instruction=texts[i % 3]) for i in range(rows)]
    seeds = [10 * i + 1 for i in range(rows)]
    together = act_batch(policy, batch, seeds)
    for given, seed, chunk in zip(batch, seeds, together, strict=True):
        np.testing.assert_allclose(chunk.actions, actions(policy, given, seed), rtol=0, atol=1e-4)
    turned = act_batch(policy, batch[::-1], seeds[::-1])[::-1]
    for one, other in zip(together, turned, strict=True):
        np.testing.assert_allclose(one.actions, other.actions, rtol=0, atol=1e-4)


def test_a_batch_without_seeds_is_refused(policy):
    with pytest.raises(ConventionError, match="2 episodes need as many seeds, found 0"):
        act_batch(policy, [history(0), history(1)])


def normalised(policy, given) -> np.ndarray:
    policy.reset("", 0)
    return np.asarray(explain(policy, given).normalised)


def test_what_stands_for_the_time_before_the_start_is_not_looked_at(policy):
    first = observation(0)
    black = replace(first, images={name: np.zeros_like(image) for name, image in first.images.items()})
    np.testing.assert_allclose(
        normalised(policy, [black, first]), normalised(policy, [first, first]), atol=1e-5
    )
    # as soon as it is a time step of its own, it is
    earlier = replace(black, time_ns=-PERIOD_NS)
    assert np.abs(normalised(policy, [earlier, first]) - normalised(policy, [first, first])).max() > 1e-4


def test_a_short_first_window_is_one_time_step(folder):
    short = build(card_of(folder, first_window="short"), "fp32")
    alone = build(card_of(folder, window=1), "fp32")
    given = history(0)
    np.testing.assert_allclose(normalised(short, given), normalised(alone, given[1:]), atol=1e-5)
    mixed, seeds = [history(0), history(4), history(0, seed=2)], [1, 2, 3]
    for given, seed, chunk in zip(mixed, seeds, short.act_seeded(mixed, seeds), strict=True):
        np.testing.assert_allclose(chunk.actions, actions(short, given, seed), rtol=0, atol=1e-4)


def test_the_instruction_and_every_observation_count(policy):
    expected = normalised(policy, history(3))
    for other in (history(3, instruction="lift the red block"), history(3, seed=1),
                  [observation(2, seed=1), observation(3)]):  # fmt: skip
        assert np.abs(normalised(policy, other) - expected).max() > 1e-4


def test_an_instruction_longer_than_the_text_is_cut(policy):
    long, longer = "open " * 16, "open " * 200
    np.testing.assert_array_equal(
        normalised(policy, history(3, instruction=long)), normalised(policy, history(3, instruction=longer))
    )


def test_a_history_of_another_length_is_refused(policy):
    with pytest.raises(ConventionError, match="asks for 2 observations, found 1"):
        policy.act([observation(0)])


def test_a_missing_camera_and_a_wrong_picture_are_named(policy):
    seen = observation(0)
    with pytest.raises(ConventionError, match=r"camera 'agentview' is not in the observation; it has wrist"):
        policy.act([replace(seen, images={"wrist": seen.images["wrist"]})] * 2)
    wrong = {"agentview": seen.images["agentview"].astype(np.float32)}
    with pytest.raises(
        ConventionError, match=r"camera 'agentview': expected \(H, W, 3\) uint8, found float32"
    ):
        policy.act([replace(seen, images=wrong)] * 2)


def test_a_second_camera_is_looked_at_where_the_card_names_it(folder, policy):
    cameras = {"primary": {"camera": "agentview", "crop_area": 0.9}, "wrist": {"camera": "wrist"}}
    both = build(card_of(folder, cameras=cameras), "fp32")
    assert both.spec.cameras == ("agentview", "wrist")
    expected = normalised(both, history(3))
    dark = [replace(s, images={**s.images, "wrist": np.zeros_like(s.images["wrist"])}) for s in history(3)]
    assert np.abs(normalised(both, dark) - expected).max() > 1e-4
    np.testing.assert_array_equal(normalised(policy, dark), normalised(policy, history(3)))


def test_a_picture_of_the_goal_can_be_the_task(folder, tmp_path):
    for name, seed in (("one.png", 1), ("two.png", 2)):
        image = np.random.default_rng(seed).integers(0, 256, (60, 80, 3)).astype(np.uint8)
        PIL.Image.fromarray(image).save(tmp_path / name)

    def of(task: str, name: str):
        return build(card_of(folder, task=task, goal={"primary": str(tmp_path / name)}), "fp32")

    goal, other, both = of("goal", "one.png"), of("goal", "two.png"), of("both", "one.png")
    told, changed = history(3), history(3, instruction="lift the red block")
    assert np.abs(normalised(goal, told) - normalised(other, told)).max() > 1e-4
    np.testing.assert_array_equal(normalised(goal, told), normalised(goal, changed))
    assert np.abs(normalised(both, told) - normalised(both, changed)).max() > 1e-4
    assert np.isfinite(normalised(goal, told)).all(), "a text that nothing may look at gives no NaN"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "goal"}, "task = 'goal' with 0 goal pictures"),
        ({"goal": {"primary": "x.png"}}, "task = 'language' with 1 goal pictures"),
        ({"task": "goal", "goal": {"wrist": "x.png"}}, "a goal for 'wrist'"),
        ({"window": 6}, "window is 6, the model in .* has positions for 5 steps"),
        ({"state": True}, "takes no numbers"),
        ({"choice": "most_likely"}, "is for bins"),
    ],
)
def test_a_card_that_contradicts_itself_or_the_checkpoint_is_refused(folder, options, said):
    with pytest.raises(ConventionError, match=said):
        build(card_of(folder, **options), "fp32")


def test_another_chunk_or_camera_than_the_checkpoints_is_refused(folder):
    with pytest.raises(ConventionError, match=r"chunk_predicted is 8, the head in .* gives 4"):
        build(card_of(folder, chunk=8), "fp32")
    with pytest.raises(UnknownNameError, match=r"'primry'.*'primary'"):
        build(card_of(folder, cameras={"primry": {"camera": "agentview"}}), "fp32")
    with pytest.raises(DataError, match=r"unknown key 'options.gripperr'.*'gripper'"):
        build(card_of(folder, gripperr="one_opens"), "fp32")


def test_statistics_that_do_not_fit_are_refused_with_both_sides(tmp_path):
    made = write_checkpoint(tmp_path / "a", tables={"bridge_dataset": statistics(9)})
    with pytest.raises(DataError, match="actions have 9 numbers, the model's 7"):
        build(card_of(made), "fp32")
    (made / "dataset_statistics.json").write_text(json.dumps({"bridge_dataset": statistics(6)}))
    with pytest.raises(ConventionError, match="actions have 6 numbers, those of one arm 7"):
        build(card_of(made), "fp32")
    with pytest.raises(UnknownNameError, match=r"'bridge_datset'.*'bridge_dataset'"):
        build(card_of(made, unnorm_key="bridge_datset"), "fp32")
    (made / "dataset_statistics.json").write_text(json.dumps({"bridge_dataset": {"action": {"mean": [1.0]}}}))
    with pytest.raises(DataError, match=r"bridge_dataset\.action: expected mean and std, found mean"):
        build(card_of(made), "fp32")
    (made / "dataset_statistics.json").unlink()
    with pytest.raises(MissingDataError, match=r"dataset_statistics\.json: missing"):
        build(card_of(made), "fp32")


def test_statistics_of_a_single_data_set_need_no_name(tmp_path, folder):
    made = write_checkpoint(tmp_path / "a", tables=statistics())
    single, named = build(card_of(made), "fp32"), build(card_of(folder), "fp32")
    np.testing.assert_array_equal(actions(single, history(3)), actions(named, history(3)))


def test_actions_are_unnormalised_by_mean_or_by_bounds(folder):
    table = statistics()["action"]
    for kind, low, high in (("normal", table["mean"], table["std"]), ("bounds", table["p01"], table["p99"])):
        told = explain(build(card_of(folder, normalisation=kind), "fp32"), history(3))
        first, second = np.array(low), np.array(high)
        linear = told.normalised * second + first
        bounds = (told.normalised + 1) * (second - first) / 2 + first
        expected = np.where(table["mask"], linear if kind == "normal" else bounds, told.normalised)
        np.testing.assert_allclose(told.physical, expected, rtol=0, atol=1e-12)


def test_fewer_numbers_than_the_model_has_are_noise_to_the_sampler(tmp_path):
    """A body with fewer numbers: the others must be what they were in training, or the first ones change."""
    content = config(heads={"action": diffusion(action_dim=9)})
    made = write_checkpoint(tmp_path / "a", content)
    policy = build(card_of(made), "fp32")
    assert normalised(policy, history(3)).shape == (4, 9)
    assert actions(policy, history(3)).shape == (4, 7)


@pytest.mark.parametrize(("gripper", "closed"), [("one_opens", 0.0), ("one_closes", 1.0)])
def test_commands_are_in_the_controllers_units(gripper, closed):
    conventions = Conventions.model_validate(
        {"cameras": {"primary": {"camera": "a"}}, "mirrored": False, "normalisation": "normal",
         "units": "metres", "gripper": gripper, "control_hz": 5}
    )  # fmt: skip
    action = np.array(
        [[0.025, -0.1, 0.0, 0.1, -0.05, 0.2, closed], [0.0] * 6 + [1.0 - closed], [0.0] * 6 + [0.4]]
    )
    commands = to_commands(action, conventions)
    np.testing.assert_allclose(commands[0, :3], [0.5, -1.0, 0.0])
    turned = Rotation.from_rotvec(commands[0, 3:6] * 0.5).as_matrix()
    np.testing.assert_allclose(turned, Rotation.from_euler("xyz", action[0, 3:6]).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(commands[:2, 6], [1.0, -1.0])
    assert commands[2, 6] == pytest.approx(0.2 if gripper == "one_opens" else -0.2), (
        "undecided stays undecided"
    )


HEADS = {
    "L1ActionHead": {"use_map": True},
    "MSEActionHead": {"use_map": False},
    "DiscreteActionHead": {"use_map": True, "vocab_size": 16, "normalization_type": "normal"},
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("reads", ["readout_action", "obs"])
def test_other_heads_answer_too(tmp_path, name, reads):
    kwargs = {"readout_key": reads, "action_horizon": 4, "action_dim": 7, **HEADS[name]}
    made = write_checkpoint(tmp_path / "a", config(heads={"action": spec(name, "action_heads", **kwargs)}))
    policy = build(card_of(made), "fp32")
    found = [normalised(policy, history(3)), normalised(policy, history(3))]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (4, 7)
    assert np.isfinite(found[0]).all()
    if name == "DiscreteActionHead":
        likely = build(card_of(made, choice="most_likely"), "fp32")
        likely.reset("", 1)
        assert len(np.unique(normalised(likely, history(3)))) <= 16
        drawn = {actions(policy, history(3), seed).tobytes() for seed in range(4)}
        assert len(drawn) > 1
        assert len({actions(likely, history(3), seed).tobytes() for seed in range(4)}) == 1


def test_the_robots_state_can_be_an_input(tmp_path):
    content = config()
    content["model"]["observation_tokenizers"]["proprio"] = spec(
        "LowdimObsTokenizer", "tokenizers", obs_keys=["proprio"], n_bins=256, bin_type="normal",
        discretize=True, low=-2.0, high=2.0,
    )  # fmt: skip
    made = write_checkpoint(tmp_path / "a", content)
    with_state, without = (build(card_of(made, state=state), "fp32") for state in (True, False))
    assert with_state.spec.proprio == ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    given = history(3)
    moved = [replace(s, proprio={**s.proprio, "robot0_eef_pos": np.array([0.9, -0.9, 0.3])}) for s in given]
    assert np.abs(normalised(with_state, given) - normalised(with_state, moved)).max() > 1e-4
    np.testing.assert_array_equal(normalised(without, given), normalised(without, moved))


def test_version_1_0_runs_by_its_own_rules(tmp_path):
    """Other names in config.json, no repeated text, and the attention that its weights were trained with."""
    made = write_checkpoint(tmp_path / "a", config(repeat_task_tokens=False, use_correct_attention=False))

    def answer(content) -> np.ndarray:
        (made / "config.json").write_text(json.dumps(content))
        policy = build(card_of(made), "fp32")
        return normalised(policy, history(3))

    old = config()
    kwargs = old["model"]["heads"]["action"]["kwargs"]
    kwargs["pred_horizon"] = kwargs.pop("action_horizon")
    del old["model"]["repeat_task_tokens"], old["model"]["use_correct_attention"]
    expected = answer(old)
    said = config(repeat_task_tokens=False, use_correct_attention=False)
    np.testing.assert_array_equal(answer(said), expected)
    for flags in ({"repeat_task_tokens": True}, {"use_correct_attention": True}):
        other = {**said, "model": {**said["model"], **flags}}
        assert np.abs(answer(other) - expected).max() > 1e-4


def test_the_head_stays_in_full_precision(folder):
    policy = build(card_of(folder), "bf16")
    assert {p.dtype for p in policy.parts.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in policy.parts.head.parameters()} == {torch.float32}
    report = policy.precision_report
    assert (report.precision, report.activations, report.settings["head"]) == ("bf16", "bfloat16", "float32")
    assert np.isfinite(actions(policy, history(3))).all()


def test_conventions_can_be_exchanged_without_loading_again(policy):
    said = {choice.option: choice for choice in policy.choices()}
    assert said["unnorm_key"].others == ("other",)
    flipped = policy.with_option("gripper", "one_closes")
    assert flipped.parts.model is policy.parts.model
    np.testing.assert_allclose(actions(flipped, history(3))[:, 6], -actions(policy, history(3))[:, 6])
    mirrored = policy.with_option("mirrored", True)
    given = history(3)
    turned = [replace(s, images={n: i[:, ::-1] for n, i in s.images.items()}) for s in given]
    np.testing.assert_array_equal(actions(mirrored, given), actions(policy, turned))


def of_head(**changes):
    return lambda model: model["heads"]["action"]["kwargs"].update(changes)


def of_transformer(**changes):
    return lambda model: model["transformer_kwargs"].update(changes)


def of_primary(**changes):
    return lambda model: model["observation_tokenizers"]["primary"]["kwargs"].update(changes)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda m: m["heads"]["action"].update(name="UNetHead"), MissingCapabilityError, "'UNetHead' is not"),
        (of_head(hidden_dm=3), MissingCapabilityError, r"hidden_dm.*'hidden_dim'"),
        (of_head(hidden_dim=32), DataError, r"head\.score.*expected \(32.*found \(16"),
        (of_head(readout_key="readout_actio"), UnknownNameError, "did you mean 'readout_action'"),
        (of_transformer(num_layers=3), DataError, r"lacks the tensor 'blocks\.2"),
        (of_transformer(num_layers=1), DataError, r"unknown tensor 'blocks\.1"),
        (
            of_transformer(num_attention_heads=4),
            DataError,
            r"expected \(features, 4 heads.*found \(32, 2, 16\)",
        ),
        (of_transformer(num_attention_heads=3), DataError, "32 features do not divide into 3"),
        (of_transformer(add_position_embedding=True), DataError, "add_position_embedding"),
        (of_primary(task_stack_keys=[]), DataError, r"expected \(32, 3, 3, 3\), found \(32, 6, 3, 3\)"),
        (of_primary(use_token_learner=True), DataError, "use_token_learner"),
        (lambda m: m.update(token_embedding_size=64), DataError, r"expected \(16, 124\), found \(16, 92\)"),
        (lambda m: m.update(readouts={"action": 2}), DataError, "2 tokens of readout 'action', found 1"),
        (lambda m: m.update(new_idea=True), MissingCapabilityError, r"unknown setting model\.new_idea"),
        (lambda m: m["observation_tokenizers"].pop("wrist"), DataError, "unknown tensor .*wrist"),
        (lambda m: m["task_tokenizers"]["language"]["kwargs"].update(encoder="bert"), DataError, "'t5-base'"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_with_both_sides(
    tmp_path, folder, change, error, said
):
    content = config()
    change(content["model"])
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(error, match=said):
        build(card_of(tmp_path), "fp32")


def test_a_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config()))
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"bridge_dataset": statistics()}))
    with pytest.raises(MissingDataError, match=r"expected <step>/default/checkpoint .* found config\.json"):
        build(card_of(tmp_path), "fp32")


def test_a_text_needs_t5s_tokenizer(tmp_path, folder, monkeypatch):
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer.json").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDataError, match=r"hf download google-t5/t5-base tokenizer.json"):
        build(card_of(tmp_path), "fp32")
    named = build(card_of(tmp_path, tokenizer=str(folder)), "fp32")
    assert np.isfinite(actions(named, history(0))).all()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: is not a tokenizer"):
        build(card_of(tmp_path), "fp32")


@pytest.mark.parametrize("rows", [1, 3])
def test_a_policy_that_draws_noise_can_be_timed_in_batches(policy, rows):
    given = histories(policy.spec, rows, 0)
    chunks, spent = timed(policy, given, "cpu")
    assert len(chunks) == rows
    assert spent["total"] >= spent["inference"] > 0


@pytest.mark.parametrize("precision", ["bnb_int8", "bnb_nf4", "torchao_int8wo"])
def test_quantised_models_answer_and_say_what_was_kept(tmp_path, monkeypatch, precision):
    pytest.importorskip("torchao" if precision.startswith("torchao") else "bitsandbytes")
    monkeypatch.setattr("support.octo.TEXT", {**TEXT, "width": 64, "hidden": 128})
    # regression: diffusion would turn small differences into large ones
    kwargs = {"readout_key": "obs", "use_map": False, "action_horizon": 4, "action_dim": 7}
    content = config(
        token_embedding_size=64,
        transformer_kwargs={"num_layers": 2, "mlp_dim": 128, "num_attention_heads": 2},
        heads={"action": spec("MSEActionHead", "action_heads", **kwargs)},
    )
    made = write_checkpoint(tmp_path / "a", content)
    plain, quantised = (build(card_of(made), name) for name in ("fp32", precision))
    report = quantised.precision_report
    assert report.share > 0.5
    kept = {name for name in report.kept if "head" in name or name.endswith(".wo")}
    assert len([name for name in kept if name.endswith(".wo")]) == TEXT["depth"]
    assert any(name.startswith("head.") for name in kept)
    found, expected = normalised(quantised, history(3)), normalised(plain, history(3))
    assert not np.array_equal(found, expected)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
