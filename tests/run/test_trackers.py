"""Trackers with their real packages, which keep everything on this machine; skipped where they are absent."""

import logging
import sys

import pytest
from support.records import make_header, make_record, make_session

from vla_bench.errors import MissingCapabilityError, UnknownNameError
from vla_bench.run.trackers import TRACKERS, Sinks, make_tracker
from vla_bench.run.trackers.numbers import described, identity, numbers_of

MADE = [make_record(index=0), make_record("failure", index=1), make_record("error", index=2)]
SUMMARY = {"p fp32 blocking zero/successes": 1.0, "p fp32 blocking zero/n": 2.0}
SUCCESS = "p fp32 blocking zero/success"


def tell(tracker, header, records):
    tracker.begin(header)
    for record in records:
        tracker.record(record)
    tracker.end(SUMMARY)


def continued(header):
    return header.model_copy(update={"sessions": (*header.sessions, make_session(started_at="later"))})


def test_a_run_that_goes_on_is_the_same_and_another_is_not():
    header = make_header(MADE)
    assert identity(continued(header)) == identity(header)
    assert identity(make_header(MADE, session=make_session(started_at="later"))) != identity(header)
    assert described(header)["study_hash"] == header.study_hash


def test_an_error_is_no_failure_for_trackers_either():
    assert [numbers_of(record).get(SUCCESS) for record in MADE] == [1.0, 0.0, None]
    assert [numbers_of(record)["p fp32 blocking zero/error"] for record in MADE] == [0.0, 0.0, 1.0]


def test_mlflow_keeps_a_run_and_continues_it(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    header = make_header(MADE)
    tell(make_tracker("mlflow"), header, MADE[:2])
    tell(make_tracker("mlflow"), continued(header), MADE[2:])
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "vla-bench"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["study_hash"] == header.study_hash
    assert run.data.metrics["episodes"] == 3
    assert run.data.metrics["p fp32 blocking zero/successes"] == 1
    history = client.get_metric_history(run.info.run_id, SUCCESS)
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.0)]


def test_a_place_that_mlflow_cannot_use_does_not_stop_a_run(tmp_path, monkeypatch, caplog):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://here")
    with caplog.at_level(logging.WARNING, "vla_bench.run"):
        tell(Sinks([make_tracker("mlflow")]), make_header(MADE), MADE)
    (message,) = [m.getMessage() for m in caplog.records if m.name == "vla_bench.run"]
    assert message.startswith("tracker mlflow failed and is told nothing more: ")


def test_trackio_keeps_a_run(tmp_path, monkeypatch, capfd):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    import trackio.sqlite_storage as storage
    import trackio.utils as utils

    for module in (utils, storage):
        if hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    header = make_header(MADE)
    tell(make_tracker("trackio"), header, MADE)
    assert capfd.readouterr().out == "", "what programs read stays clean"
    (name,) = storage.SQLiteStorage.get_runs("vla-bench")
    assert name.endswith(identity(header))
    logged = storage.SQLiteStorage.get_logs("vla-bench", name)
    assert [row[SUCCESS] for row in logged if SUCCESS in row] == [1.0, 0.0]
    assert logged[-1]["p fp32 blocking zero/successes"] == 1.0


def test_wandb_keeps_a_run_without_a_network(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker, header = make_tracker("wandb"), make_header(MADE)
    tracker.begin(header)
    run = wandb.run
    assert (run.id, run.config["study_hash"]) == (identity(header), header.study_hash)
    for record in MADE:
        tracker.record(record)
    assert run.summary[SUCCESS] == 0.0, "of the last episode that was no error"
    tracker.end(SUMMARY)
    assert wandb.run is None
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert kept.name == f"run-{identity(header)}.wandb"


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(caplog):
    class Broken:
        name = "broken"

        def begin(self, header):
            pass

        def record(self, record):
            raise ConnectionError("nobody answers")

        def end(self, summary):
            raise AssertionError("it is told nothing more")

    class Kept(Broken):
        name = "kept"

        def __init__(self):
            self.told = []

        def record(self, record):
            self.told.append(record)

        def end(self, summary):
            self.told.append(summary)

    kept = Kept()
    sinks = Sinks([Broken(), kept])
    with caplog.at_level(logging.WARNING, "vla_bench.run"):
        tell(sinks, make_header(MADE), MADE)
    assert [message.getMessage() for message in caplog.records] == [
        "tracker broken failed and is told nothing more: ConnectionError: nobody answers; the results folder "
        "has all records"
    ]
    assert kept.told == [*MADE, SUMMARY]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_missing_is_a_sentence_with_what_to_type(monkeypatch, name):
    for module in [name, *(each for each in sys.modules if each.startswith(f"{name}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"vla_bench.run.trackers.to_{name}", raising=False)
    with pytest.raises(MissingCapabilityError, match=rf"pip install 'vla-bench\[{name}\]'"):
        make_tracker(name)


def test_an_unknown_tracker_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown tracker 'wandbb'; did you mean 'wandb'"):
        make_tracker("wandbb")
