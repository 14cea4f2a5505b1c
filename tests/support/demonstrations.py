"""Small data sets of demonstrations, written without a simulator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vla_bench.lerobot.layout import Layout
from vla_bench.lerobot.writer import Recording

SIZE = (32, 48)
LAYOUT = Layout(5.0, {"agentview": SIZE, "robot0_eye_in_hand": SIZE}, "lossless")
MADE_WITH = {"fingerprint": "f"}


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture without symmetry: smooth in each channel, so that a film keeps it."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    channels = [rows * 5 + seed, columns * 3 + 2 * seed, rows + columns + 40]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def numbers(seed: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 8) states and (T, 7) actions in float32's numbers."""
    draws = np.random.default_rng(seed).uniform(-0.9, 0.9, size=(length, 15)).astype(np.float32)
    states, actions = draws[:, :8].astype(float), draws[:, 8:].astype(float)
    actions[:, 6] = np.sign(actions[:, 6])
    return states, actions


def add_episode(recording: Recording, index: int, length: int = 4) -> None:
    """Record one episode of made-up numbers and pictures."""
    states, actions = numbers(index, length)
    with recording.draft() as draft:
        for frame in range(length):
            images = {name: picture(10 * index + frame + 50 * i) for i, name in enumerate(LAYOUT.cameras)}
            draft.add(images, states[frame], actions[frame])
        draft.keep(f"mine/task{index % 2}#seed{index}", f"mine/task{index % 2}", f"do task {index % 2}")


def write_dataset(folder: Path, episodes: int = 3, layout: Layout = LAYOUT, length: int = 4) -> Path:
    """Write a LeRobot data set as `vla-bench demos` does."""
    with Recording(folder, layout, MADE_WITH) as recording:
        for index in range(episodes):
            add_episode(recording, index, length)
    return folder


def write_hdf5(path: Path, *, demos: int = 2, length: int = 5, late: bool = False, **attributes) -> Path:
    """Write a file in LIBERO's layout: pictures bottom row first, joints that belong to the states.

    Args:
        path: Named `<stem>_demo.hdf5`, as LIBERO does.
        demos: How many.
        length: Actions in each.
        late: Observation k is what was seen after action k, as in LIBERO's published files.
        attributes: Of the group `data`.
    """
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as root:
        data = root.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        data.attrs["bddl_file_name"] = f"libero/bddl_files/libero_goal/{path.stem.removesuffix('_demo')}.bddl"
        for name, value in attributes.items():
            data.attrs[name] = value
        for index in range(demos):
            states, actions = numbers(100 + index, length + 1)
            seen = slice(1, None) if late else slice(0, -1)
            joints = np.linspace(0, 1, 7 * (length + 1)).reshape(length + 1, 7)
            group = data.create_group(f"demo_{index}")
            group["actions"] = actions[:length]
            group["states"] = np.hstack([np.zeros((length, 1)), joints[:length], np.ones((length, 3))])
            pictures = np.stack([picture(index + frame, (24, 32)) for frame in range(length + 1)])
            obs = group.create_group("obs")
            obs["agentview_rgb"] = pictures[seen, ::-1]
            obs["eye_in_hand_rgb"] = pictures[seen, ::-1] // 2
            obs["joint_states"] = joints[seen]
            obs["ee_pos"], obs["ee_ori"] = states[seen, :3], states[seen, 3:6]
            obs["gripper_states"] = states[seen, 6:8]
    return path
