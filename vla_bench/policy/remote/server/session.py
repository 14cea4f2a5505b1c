"""One client's episodes: its history, the actions still to come, and what its observations mean."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vla_bench.policy.arm import STATE_NAMES
from vla_bench.policy.remote import native
from vla_bench.policy.remote.conventions import ARM_ACTION, Conventions, from_commands, observation_of
from vla_bench.policy.remote.native import EpisodeId
from vla_bench.policy.remote.server.served import BusyError, Served
from vla_bench.policy.remote.wire import WireError
from vla_bench.types import ActionChunk, Array, Observation


class Session:
    """A connection, or a single request where the protocol knows no connections.

    Args:
        served: The policy.
        conventions: Of clients that know nothing of us.
    """

    def __init__(self, served: Served, conventions: Conventions) -> None:
        self._served, self._conventions = served, conventions
        self._id, self._episodes = uuid.uuid4().hex, 0
        self._known = ""  # the episode of ours that is running
        self._to_come: deque[Array] = deque()
        self.begin("")
        served.enter(self)

    @property
    def history(self) -> int:
        """How many observations the policy looks at."""
        return self._served.spec.history

    def begin(self, instruction: str) -> None:
        """An episode of a client that knows nothing of us begins; its seed is its number."""
        self._episode = EpisodeId(f"{self._id}-{self._episodes}", instruction, self._episodes, request=0)
        self._episodes += 1
        self._history: deque[Observation] = deque(maxlen=self._served.spec.history)
        self._to_come.clear()

    def chunk(self, found: Any) -> ActionChunk:
        """The whole chunk for a request of a client of ours: commands.

        Raises:
            WireError: The request cannot be used.
            VlaBenchError: What the policy raised.
        """
        episode, history = native.read_request(found, self._served.spec)
        return self._served.act(self, episode, history)

    def action(self, found: Any) -> ActionChunk:
        """The next action for a request of a client of ours; a new chunk is computed when one is used up.

        Raises:
            WireError: The request cannot be used.
            VlaBenchError: What the policy raised.
        """
        episode, history = native.read_request(found, self._served.spec)
        if episode.name != self._known:
            if episode.request != 0:
                raise BusyError("the episode was begun on another connection, and its actions stayed there")
            self._known = episode.name
            self._to_come.clear()
        return self._next(episode, history)

    def chunk_for(self, images: Mapping[str, Any], state: Mapping[str, Any], instruction: str) -> Array:
        """(T, A) for an observation of a client that knows nothing of us, as its protocol means them.

        Raises:
            WireError: The observation cannot be used.
            VlaBenchError: What the policy raised.
        """
        episode, history = self._seen(images, state, instruction)
        return from_commands(self._served.act(self, episode, history).actions, self._conventions)

    def action_for(self, images: Mapping[str, Any], state: Mapping[str, Any], instruction: str) -> Array:
        """(A,) the next action for an observation of a client that knows nothing of us.

        Raises:
            WireError: The observation cannot be used.
            VlaBenchError: What the policy raised.
        """
        episode, history = self._seen(images, state, instruction)
        return from_commands(self._next(episode, history).actions, self._conventions)[0]

    def close(self) -> None:
        """The client is gone."""
        self._served.leave(self)

    def _next(self, episode: EpisodeId, history: list[Observation]) -> ActionChunk:
        timings: Mapping[str, float] = {}
        if not self._to_come:
            chunk = self._served.act(self, episode, history)
            self._to_come.extend(chunk.actions[: self._served.chunk_executed])
            timings = chunk.timings_ms
        return ActionChunk(self._to_come.popleft()[None], timings)

    def _seen(
        self, images: Mapping[str, Any], state: Mapping[str, Any], instruction: str
    ) -> tuple[EpisodeId, list[Observation]]:
        """The episode, and its history with the newest observation; the first stands in for those before."""
        spec, episode = self._served.spec, self._episode
        observation = observation_of(images, state, instruction, self._conventions)
        self._require(observation)
        # one observation a period, as harnesses send them
        time_ns = round(episode.request * 1e9 / (spec.control_hz or 1.0))
        observation = replace(observation, time_ns=time_ns)
        self._episode = replace(episode, request=episode.request + 1, instruction=instruction)
        missing = spec.history - len(self._history)
        self._history.extend([observation] * max(1, missing))
        return replace(episode, instruction=instruction), list(self._history)

    def _require(self, observation: Observation) -> None:
        """See that the policy can act on what a client sent, under the protocol's names.

        Raises:
            WireError: Something is missing, or cannot be said in this protocol.
        """
        spec, conventions = self._served.spec, self._conventions
        if spec.action_size != ARM_ACTION or spec.action_convention != "delta_pose":
            said = f"{spec.action_size} numbers ({spec.action_convention})"
            raise WireError(f"actions of {said} mean nothing to clients other than vla_bench's")
        if unknown := sorted(set(spec.proprio) - set(STATE_NAMES)):
            raise WireError(f"{self._served.name} needs {unknown}, which only clients of vla_bench send")
        names = {camera: name for name, camera in conventions.cameras.items()}
        lacking = [f"picture {names.get(c, c)!r}" for c in spec.cameras if c not in observation.images]
        if spec.proprio and not observation.proprio:
            lacking += [f"state {name!r}" for name in conventions.state]
        if lacking:
            raise WireError(f"{self._served.name} needs {' and '.join(lacking)}")
