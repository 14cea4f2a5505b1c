"""One observation from files to an answer: what is missing is named, what a policy can tell is told."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from vla_bench import seeding
from vla_bench.errors import ConventionError, DataError, MissingDataError, UnknownNameError
from vla_bench.policy.asking import ask, observation_of, read_given
from vla_bench.policy.base import PolicySpec
from vla_bench.types import ActionChunk, Observation

SPEC = PolicySpec(cameras=("agentview", "wrist"), proprio=("pos",), history=2)
RED = np.full((4, 6, 3), (200, 10, 10), np.uint8)


class Looks:
    """Answers with the mean colour of the first camera, and with noise of its own where asked."""

    spec = SPEC

    def __init__(self, noise: float = 0.0) -> None:
        self.noise, self.seen, self.resets = noise, [], []
        self._stream = seeding.generator("policy", "own stream")

    def reset(self, instruction: str, seed: int) -> None:
        self.resets.append((instruction, seed))

    def act(self, observations) -> ActionChunk:
        self.seen.append(observations)
        colour = np.resize(observations[-1].images["agentview"].mean((0, 1)) / 255, 7)
        return ActionChunk((colour + self.noise * self._stream.random(7))[None])


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "red.png"
    PIL.Image.fromarray(RED).save(path)
    return path


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "seen.npz"
    np.savez(path, agentview=RED, wrist=RED[::-1], pos=np.array([0.1, 0.2], np.float32))
    return path


def test_a_png_is_read_level_by_level_and_a_jpeg_nearly_so(tmp_path, picture):
    PIL.Image.fromarray(RED).save(tmp_path / "red.jpg", quality=95)
    given = read_given([str(picture), f"wrist={tmp_path / 'red.jpg'}"], None)
    np.testing.assert_array_equal(given.images[""], RED)
    np.testing.assert_allclose(given.images["wrist"].astype(int), RED.astype(int), atol=8)


def test_a_picture_with_transparency_or_one_channel_becomes_colour(tmp_path):
    for mode in ("RGBA", "L"):
        PIL.Image.fromarray(RED).convert(mode).save(tmp_path / "other.png")
        assert read_given([str(tmp_path / "other.png")], None).images[""].shape == RED.shape


def test_a_photograph_is_turned_as_its_metadata_says(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to be upright
    PIL.Image.fromarray(RED).save(tmp_path / "turned.jpg", exif=exif)
    assert read_given([str(tmp_path / "turned.jpg")], None).images[""].shape == (6, 4, 3)


def test_a_file_of_arrays_holds_pictures_and_numbers(arrays, picture):
    seen = observation_of(SPEC, read_given([f"wrist={picture}"], arrays), "lift it")
    np.testing.assert_array_equal(seen.images["agentview"], RED)
    np.testing.assert_array_equal(seen.images["wrist"], RED, "a picture of its own comes before")
    np.testing.assert_allclose(seen.proprio["pos"], [0.1, 0.2], rtol=1e-6)
    assert seen.proprio["pos"].dtype == np.float64
    assert seen.instruction == "lift it"


def test_a_name_with_an_equals_sign_may_be_a_file(tmp_path):
    path = tmp_path / "a=b.png"
    PIL.Image.fromarray(RED).save(path)
    assert list(read_given([str(path)], None).images) == [""]


def test_what_is_missing_is_named_with_what_was_given(picture, arrays):
    with pytest.raises(
        ConventionError, match=r"camera 'wrist' and the proprioception 'pos'; given: agentview"
    ):
        observation_of(SPEC, read_given([str(picture)], None), "x")
    with pytest.raises(UnknownNameError, match="unknown camera 'wirst'; did you mean 'wrist'"):
        observation_of(SPEC, read_given([f"wirst={picture}"], arrays), "x")
    for spec, sees in ((PolicySpec(), "nothing"), (PolicySpec(privileged=True), "the state of a simulation")):
        with pytest.raises(ConventionError, match=f"looks at no picture; it sees {sees}"):
            observation_of(spec, read_given([str(picture)], None), "x")


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"gone\.png: no such picture"):
        read_given([str(tmp_path / "gone.png")], None)
    with pytest.raises(MissingDataError, match=r"gone\.npz: no such file"):
        read_given([], tmp_path / "gone.npz")
    broken = tmp_path / "broken"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match="is not a picture"):
        read_given([str(broken)], None)
    with pytest.raises(DataError, match=r"is not an \.npz file"):
        read_given([], broken)
    np.savez(tmp_path / "odd.npz", agentview=RED.astype(np.float32))
    with pytest.raises(DataError, match=r"'agentview' is float32 of shape \(4, 6, 3\)"):
        read_given([], tmp_path / "odd.npz")
    np.savez(tmp_path / "objects.npz", thing=np.array([{}]))
    with pytest.raises(DataError, match=r"objects\.npz"):
        read_given([], tmp_path / "objects.npz")


@pytest.fixture
def seen(arrays) -> Observation:
    return observation_of(SPEC, read_given([], arrays), "lift it")


def test_a_policy_gets_its_history_and_begins_every_call_anew(seen):
    policy = Looks()
    answer = ask(policy, seen, seed=7, calls=2)
    assert policy.seen == [[seen, seen]] * 3
    assert policy.resets == [("lift it", 7)] * 3
    assert answer.repeats
    assert set(answer.timings_ms) == {"total"}
    assert answer.to_json()["commands"] == [pytest.approx(np.resize(np.array([200, 10, 10]) / 255, 7))]
    assert answer.to_json()["tokens"] is None, "it does not speak in tokens"


def test_a_policy_that_is_not_repeatable_is_found(seen):
    assert not ask(Looks(noise=0.1), seen).repeats
