"""The real vla-eval on the other end: its server with our client, its client with our server."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import urllib.request

import numpy as np
import pytest
from support.runs import plan_of, run
from support.servers import STATE, Looks, card_of, observations, serving
from support.worlds import BRIDGE

from vla_bench import catalog
from vla_bench.errors import ConventionError
from vla_bench.policy.arm import robot_state
from vla_bench.policy.base import PolicySpec
from vla_bench.policy.cards import load_policy
from vla_bench.policy.remote.exchange import AnswerError

pytest.importorskip("vla_eval", reason="vla-eval is not installed: pip install 'vla-bench[interop]'")

import anyio
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.connection import Connection
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve_async
from vla_eval.runners.sync_runner import SyncEpisodeRunner
from vla_eval.specs import (
    GRIPPER_CLOSE_POS,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    ROTATION_AA,
    ROTATION_EULER,
    STATE_EEF_POS_AA_GRIP,
    DimSpec,
    check_specs,
)

SPEC = PolicySpec(cameras=("agentview", "robot0_eye_in_hand"), proprio=STATE)
SEEN = observations(6, SPEC)
ARM = {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}


class Theirs(PredictModelServer):
    """A model server of theirs: chunks of three that count, and keeps what it was shown."""

    def __init__(self, *, rotation=ROTATION_AA, params=None, broken=False, **settings):
        super().__init__(**settings)
        self.rotation, self.params, self.broken = rotation, params or {}, broken
        self.seen, self.episodes = [], []

    def predict(self, obs, ctx):
        if self.broken:
            raise KeyError("no such state")
        self.seen.append(obs)
        base = len(self.seen) / 100 + np.arange(3)[:, None] / 1000
        return {"actions": np.tile(base, (1, 7))}

    async def on_episode_start(self, config, ctx):
        self.episodes.append(config)
        await super().on_episode_start(config, ctx)

    def get_action_spec(self):
        return {**ARM, "rotation": self.rotation}

    def get_observation_spec(self):
        return {"image": IMAGE_RGB, "language": LANGUAGE}

    def get_observation_params(self):
        return self.params


@contextlib.contextmanager
def their_server(model):
    """Their server in a thread; gives HOST:PORT."""
    ports: queue.Queue[int] = queue.Queue()
    stop: list = []

    async def main():
        async with anyio.create_task_group() as group:
            stop.append((anyio.lowlevel.current_token(), group.cancel_scope))
            ports.put(await group.start(serve_async, model, "127.0.0.1", 0))

    thread = threading.Thread(target=anyio.run, args=(main,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{ports.get(timeout=30)}"
    finally:
        token, scope = stop[0]
        anyio.from_thread.run_sync(scope.cancel, token=token)
        thread.join(10)


def chunks(count):
    """The actions that `Theirs` gives to that many observations, as they come through float32."""
    rows = [(i // 3 + 1) / 100 + (i % 3) / 1000 for i in range(count)]
    return np.tile(np.float32(rows)[:, None], (1, 7)).astype(np.float64)


def test_their_server_serves_our_client():
    params = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
    model = Theirs(chunk_size=3, params=params)
    with their_server(model) as address:
        policy = load_policy(f"remote:vla-eval@{address}")
        assert policy.spec.cameras == SPEC.cameras
        for episode in range(2):
            policy.reset("lift it", episode)
            found = np.concatenate([policy.act([seen]).actions for seen in SEEN])
            np.testing.assert_array_equal(found, chunks(12)[6 * episode : 6 * episode + 6])
        policy.close()
    assert [config["task"] for config in model.episodes] == [{"name": "lift it"}] * 2
    shown = model.seen[1]
    np.testing.assert_array_equal(shown["images"]["agentview"], SEEN[3].images["agentview"])
    np.testing.assert_array_equal(shown["images"]["wrist"], SEEN[3].images["robot0_eye_in_hand"])
    np.testing.assert_array_equal(shown["states"], robot_state(SEEN[3]))
    assert shown["task_description"] == "lift it"


def test_episodes_run_against_their_server(tmp_path):
    model = Theirs(chunk_size=3)
    with their_server(model) as address:
        plan = plan_of(
            tasks=(BRIDGE,), policies=(f"remote:vla-eval@{address}",), episodes=2, budget={"steps": 4}
        )
        records = run(plan, tmp_path / "run")
    assert [(r.status, r.cause, r.steps) for r in records] == [("failure", "horizon", 4)] * 2
    assert len(model.seen) == 1 + 2 * 2  # a chunk of three serves three of four steps
    assert model.seen[0]["images"]["agentview"].shape == (256, 256, 3)


def test_what_their_server_declares_is_compared_with_the_card():
    with (
        their_server(Theirs(chunk_size=3, rotation=ROTATION_EULER)) as address,
        pytest.raises(
            ConventionError, match=r"\(Theirs\) does not fit policy 'vla-eval': its rotation is 'euler_xyz'"
        ),
    ):
        load_policy(f"vla-eval:{address}")


def test_what_goes_wrong_in_their_server_is_told():
    with their_server(Theirs(chunk_size=3, broken=True)) as address:
        policy = load_policy(f"vla-eval:{address}")
        policy.reset("x", 0)
        with pytest.raises(AnswerError, match=f"server at {address} failed: observation_failed: KeyError"):
            policy.act(SEEN[:1])
        policy.close()
    with their_server(Theirs()) as address:  # without chunk_size it gives whole chunks
        policy = load_policy(f"vla-eval:{address}")
        policy.reset("x", 0)
        with pytest.raises(
            AnswerError, match=r"actions of shape \(3, 7\); policy 'vla-eval' expects \(1, 7\)"
        ):
            policy.act(SEEN[:1])
        policy.close()


# ── our server ─────────────────────────────────────────────────────────────────────────────────────────


def sent(seen):
    """An observation as their LIBERO benchmark sends it."""
    return {
        "images": {"agentview": seen.images["agentview"], "wrist": seen.images["robot0_eye_in_hand"]},
        "states": robot_state(seen),
        "task_description": seen.instruction,
    }


class Sees(Looks):
    """Two pictures of any size and the robot's state; which comes as a rotation vector and is rounded."""

    def __init__(self, chunk=1, **spec):
        super().__init__(chunk, **{"cameras": SPEC.cameras, "proprio": STATE, "control_hz": 20, **spec})

    def answer(self, history, seed=0):
        rounded = [
            type(seen)(
                seen.images,
                {name: np.round(np.abs(seen.proprio[name]), 6) for name in STATE},
                seen.instruction,
                seen.time_ns,
            )
            for seen in history
        ]
        return super().answer(rounded, seed)


def conversation(address, episodes):
    """What their client gets for episodes of observations, and what the server told it."""

    async def main():
        async with Connection(f"ws://{address}", timeout=20) as connection:
            answers = []
            for episode in episodes:
                await connection.start_episode({"task": {"name": episode[0].instruction}})
                answers += [(await connection.act(sent(seen)))["actions"] for seen in episode]
                await connection.end_episode({"metrics": {"success": False}})
            return connection.server_info, answers

    return anyio.run(main)


def test_our_server_serves_their_client():
    with serving(Sees(4), "vla-eval", executed=3) as address:
        said, answers = conversation(address, [SEEN[:4], SEEN[4:]])
        with urllib.request.urlopen(f"http://{address}/health", timeout=20) as health:
            assert json.load(health)["status"] == "ok"
    timed = [type(s)(s.images, s.proprio, s.instruction, i * 50_000_000) for i, s in enumerate(SEEN)]
    again = [type(s)(s.images, s.proprio, s.instruction, i * 50_000_000) for i, s in enumerate(SEEN[4:])]
    policy = Sees(4)
    first, later, other = (policy.act([seen]).actions for seen in (timed[0], timed[3], again[0]))
    expected = [*first[:3], later[0], *other[:2]]
    np.testing.assert_array_equal(answers, expected)
    assert said["protocol_version"] == 1
    assert said["observation_params"] == {
        "send_wrist_image": True,
        "send_state": True,
        "quat_no_antipodal": True,
    }


def test_what_our_server_declares_satisfies_their_check():
    with serving(Sees(), "vla-eval") as address:
        said, _ = conversation(address, [SEEN[:1]])
    action, seen = (
        {name: DimSpec.from_dict(spec) for name, spec in said[key].items()}
        for key in ("action_spec", "observation_spec")
    )
    theirs = {
        "agentview": IMAGE_RGB,
        "wrist": IMAGE_RGB,
        "state": STATE_EEF_POS_AA_GRIP,
        "language": LANGUAGE,
    }
    assert check_specs(action, ARM, seen, theirs) == []


def test_a_mistake_of_their_client_is_told_and_its_connection_goes_on():
    async def main(address):
        async with Connection(f"ws://{address}", timeout=20) as connection:
            await connection.start_episode({"task": {"name": "x"}})
            wrong = sent(SEEN[0])
            del wrong["states"]
            with pytest.raises(RuntimeError, match="mine at bf16 needs state 'states'"):
                await connection.act(wrong)
            return (await connection.act(sent(SEEN[0])))["actions"]

    with serving(Sees(), "vla-eval") as address:
        assert anyio.run(main, address).shape == (7,)


class Bench(StepBenchmark):
    """A benchmark of theirs over recorded observations."""

    def __init__(self):
        super().__init__()
        self.actions = []

    def get_tasks(self):
        return [{"name": "lift it"}]

    def reset(self, task):
        return SEEN[0]

    def step(self, action):
        self.actions.append(action["actions"])
        at = len(self.actions)
        return StepResult(obs=SEEN[min(at, 5)], reward=0.0, done=at == 5, info={})

    def make_obs(self, raw_obs, task):
        return sent(raw_obs)

    def check_done(self, step_result):
        return step_result.done

    def get_step_result(self, step_result):
        return {"success": step_result.done}

    def get_metadata(self):
        return {}

    def get_action_spec(self):
        return ARM

    def get_observation_spec(self):
        return {}


def test_their_runner_plays_an_episode_against_our_server():
    bench = Bench()

    async def main(address):
        async with Connection(f"ws://{address}", timeout=20) as connection:
            return await SyncEpisodeRunner().run_episode(bench, bench.get_tasks()[0], connection, max_steps=8)

    with serving(Sees(), "vla-eval") as address:
        result = anyio.run(main, address)
    assert (result["metrics"], result["steps"]) == ({"success": True}, 5)
    assert [action.shape for action in bench.actions] == [(7,)] * 5


def test_pictures_that_their_client_mirrors_are_seen_upright(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.POLICIES_DIR_VARIABLE, str(tmp_path))
    card_of(tmp_path, "vla-eval", like="vla-eval-libero")
    mirrored = [type(s)({n: i[:, ::-1] for n, i in s.images.items()}, s.proprio, "x", 0) for s in SEEN[:1]]
    with serving(Sees(), "vla-eval") as address:
        _, (answer,) = conversation(address, [mirrored])
    seen = type(SEEN[0])(SEEN[0].images, SEEN[0].proprio, "x", 0)
    np.testing.assert_array_equal(answer, Sees().act([seen]).actions[0])
