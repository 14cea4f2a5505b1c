"""MLflow; where it keeps things is for its own variables (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from vla_bench.run.records import Record, RunHeader
from vla_bench.run.trackers.numbers import PROJECT, described, identity, numbers_of, title

_TAG = "vla_bench.run"
_EPISODES = "episodes"  # how many were logged: the step of the next


class Mlflow:
    """One run of MLflow."""

    name = "mlflow"

    def __init__(self) -> None:
        self._client: Any = None
        self._run_id = ""
        self._step = 0
        self._sent: Any = None

    def begin(self, header: RunHeader) -> None:
        """Begin or continue."""
        client, own = MlflowClient(), identity(header)
        self._client = client
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        found = client.search_runs([experiment], f"tags.`{_TAG}` = '{own}'", max_results=1)
        if found:
            self._run_id = found[0].info.run_id
            self._step = int(found[0].data.metrics.get(_EPISODES, 0))
            client.update_run(self._run_id, status="RUNNING")
            return
        run = client.create_run(experiment, run_name=title(header), tags={_TAG: own})
        self._run_id = run.info.run_id
        about = described(header)
        for name in ("study_name", "study_hash", "plan_hash", "planned", "device"):
            client.log_param(self._run_id, name, about[name])
        client.log_dict(self._run_id, about, "run.json")

    def record(self, record: Record) -> None:
        """Log the numbers of an episode."""
        self._step += 1
        self._log({**numbers_of(record), _EPISODES: float(self._step)})

    def end(self, summary: Mapping[str, float]) -> None:
        """Log the counts, and finish."""
        self._log(summary)
        self._sent.wait()
        self._client.set_terminated(self._run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return self._client.create_experiment(name) if found is None else found.experiment_id

    def _log(self, numbers: Mapping[str, float]) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [Metric(_named(name), value, now_ms, self._step) for name, value in numbers.items()]
        self._sent = self._client.log_batch(self._run_id, metrics, synchronous=False)  # no episode waits


def _named(name: str) -> str:
    """A name with letters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)
