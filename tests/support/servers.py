"""Policies, servers and strangers for tests of policies behind servers; real sockets on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vla_bench import catalog, seeding
from vla_bench.policy.base import Policy, PolicySpec
from vla_bench.policy.cards import Card, load_policy, read_card
from vla_bench.policy.remote.adapter import RemotePolicy
from vla_bench.policy.remote.server.endpoint import listen, running
from vla_bench.policy.remote.server.served import Served
from vla_bench.types import ActionChunk, Observation

STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
# our clients' cards by the protocol that the server speaks
CLIENTS = {"vla-eval": "vla-eval", "openpi": "openpi", "rest": "openvla-rest"}


class Answers:
    """Gives numbers that depend on every pixel, number and letter of the history, and on a seed."""

    def __init__(self, chunk: int = 1, **spec: object) -> None:
        keys = {"cameras": ("agentview",), "image_px": (24, 32), "proprio": STATE[:1], "control_hz": 5}
        self.spec = PolicySpec(**{**keys, "chunk_length": chunk, **spec})
        self.batches: list[int] = []

    def reset(self, instruction: str, seed: int) -> None:
        self.seed = seed

    def answer(self, history: Sequence[Observation], seed: int = 0) -> np.ndarray:
        material: list[str | int] = [seed]
        for seen in history:
            material += [seen.instruction, seen.time_ns]
            arrays = [seen.images[name] for name in self.spec.cameras]
            arrays += [np.asarray(seen.proprio[name]) for name in self.spec.proprio]
            material += [array.tobytes().hex() for array in arrays]
        stream = seeding.generator("policy", *material)
        return stream.uniform(-1, 1, (self.spec.chunk_length, self.spec.action_size))


class Looks(Answers):
    """Has no memory."""

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        return self.act_batch([observations])[0]

    def act_batch(self, batch: Sequence[Sequence[Observation]]) -> list[ActionChunk]:
        self.batches.append(len(batch))
        return [ActionChunk(self.answer(history), {"inference": 0.01}) for history in batch]


class Draws(Answers):
    """Draws noise that belongs to the episode."""

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        return self.act_seeded([observations], [self.seed])[0]

    def act_seeded(self, batch: Sequence[Sequence[Observation]], seeds: Sequence[int]) -> list[ActionChunk]:
        self.batches.append(len(batch))
        pairs = zip(batch, seeds, strict=True)
        return [ActionChunk(self.answer(history, seed)) for history, seed in pairs]


class Remembers(Answers):
    """Counts within an episode, so that it serves one at a time."""

    def reset(self, instruction: str, seed: int) -> None:
        self.seed, self.count = seed, 0

    def act(self, observations: Sequence[Observation]) -> ActionChunk:
        self.count += 1
        return ActionChunk(self.answer(observations, self.seed + self.count))


def observations(count: int, spec: PolicySpec, instruction: str = "lift it") -> list[Observation]:
    """What a simulation with the robot's whole state might have shown."""
    stream = seeding.generator("policy", "test observations", count)

    def one(index: int) -> Observation:
        images = {name: stream.integers(0, 256, (*spec.image_px, 3), dtype=np.uint8) for name in spec.cameras}
        quat = stream.normal(size=4)
        arm = (stream.uniform(-1, 1, 3), quat / np.linalg.norm(quat), stream.uniform(0, 0.04, 2))
        proprio = {**dict(zip(STATE, arm, strict=True)), "unasked": np.zeros(3)}
        return Observation(images, proprio, instruction, index * 200_000_000)

    return [one(index) for index in range(count)]


def card_of(
    folder: Path,
    name: str,
    /,
    *,
    like: str = "vla-eval",
    options: dict[str, object] | None = None,
    **keys: object,
) -> Card:
    """Write a card like a shipped one, quick to give up, with other keys and options."""
    table = tomllib.loads(catalog.policy_files()[like].read_text())
    quick = {"attempts": 2, "backoff_s": 0.01, "timeout_s": 20.0}
    table = {**table, **keys, "options": {**table["options"], **quick, **(options or {})}}
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {_toml(value)}" for key, value in table.items()]
    (folder / f"{name}.toml").write_text("\n".join(lines))
    return read_card(name)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def serving(
    policy: Policy,
    protocol: str,
    *,
    executed: int = 1,
    max_batch: int = 8,
    token: str | None = None,
    port: int = 0,
) -> Iterator[str]:
    """Serve a policy; gives HOST:PORT."""
    card = read_card("noop").model_copy(update={"name": "mine", "chunk_executed": executed})
    served = Served(policy, card, "bf16", max_batch=max_batch)
    try:
        with running(listen(served, protocol, host="127.0.0.1", port=port, token=token)) as address:
            yield str(address)
    finally:
        served.close()


def client(protocol: str, address: str) -> RemotePolicy:
    """Our client of a server that speaks a protocol."""
    made = load_policy(f"{CLIENTS[protocol]}:{address}")
    assert isinstance(made, RemotePolicy)
    return made


@contextlib.contextmanager
def stranger(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen, and let a function talk to whoever connects, one after the other; gives HOST:PORT."""
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"127.0.0.1:{held.getsockname()[1]}"
