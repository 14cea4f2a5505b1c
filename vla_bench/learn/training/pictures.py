"""The pictures of a data set, as far on the policy's way as they are the same every time.

What that is (rotation, JPEG, resizing) is done once and kept in an array on the disk; crop and colours come
later.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from vla_bench.learn.decoded import Progress
from vla_bench.learn.samples import Samples
from vla_bench.learn.training.kind import Sight
from vla_bench.lerobot.layout import write_whole


def prepared_pictures(
    samples: Samples, sight: Sight, folder: Path, progress: Progress = lambda done, total: None
) -> NDArray[np.uint8]:
    """(N, cameras, H, W, 3) uint8, mapped from a file in `folder` that is made if it is not there.

    Args:
        samples: With the pictures of the policy's cameras.
        sight: The policy's way of preparing a picture.
        folder: Where the file is kept.
        progress: Called with (frames done, frames in all).
    """
    facts = [samples.digest, list(sight.cameras), list(sight.size), sight.facts]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = folder / f"pictures-{key}.npy"
    shape = (len(samples), len(sight.cameras), *sight.size, 3)

    def fill(draft: Path) -> None:
        stored = open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
        for index in range(len(samples)):
            images = samples[index].images
            for place, camera in enumerate(sight.cameras):
                stored[index, place] = sight.prepared(images[camera], place)
            progress(index + 1, len(samples))
        stored.flush()

    if not path.is_file():
        write_whole(path, fill)
    return np.load(path, mmap_mode="r", allow_pickle=False)
