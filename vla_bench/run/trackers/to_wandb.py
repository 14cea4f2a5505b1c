"""Weights & Biases; where and whether it sends anything is for its own variables (`WANDB_MODE=offline`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import wandb

from vla_bench.run.records import Record, RunHeader
from vla_bench.run.trackers.numbers import PROJECT, described, identity, numbers_of, title

log = logging.getLogger("vla_bench.run")


class Wandb:
    """One run of Weights & Biases."""

    name = "wandb"

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, header: RunHeader) -> None:
        """Begin or continue."""
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=identity(header), name=title(header),
            resume="allow", config=described(header),
            settings=wandb.Settings(console="off", silent=True),  # the terminal is the run's
        )  # fmt: skip
        log.info("wandb: %s", self._run.dir if self._run.offline else self._run.url)

    def record(self, record: Record) -> None:
        """Log the numbers of an episode."""
        self._run.log(numbers_of(record))

    def end(self, summary: Mapping[str, float]) -> None:
        """Keep the counts, and finish."""
        self._run.summary.update(dict(summary))
        self._run.finish()
