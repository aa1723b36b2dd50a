"""What is logged to MLflow, in a store of this disk."""

import json
from pathlib import Path

import pytest

from thaw.training.callbacks.resumable_checkpoint import Checkpoint

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """MLflow's client of the store that a user's working directory holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda: mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def kill(callback, trainer, *args):
    """Ends a run after steps that it has logged and saved no checkpoint of."""
    if trainer.global_step == 5:
        raise RuntimeError("killed")


def only_run(client):
    [found] = client.search_runs([client.get_experiment_by_name("thaw").experiment_id])
    return found


def steps_of(client, name):
    """The steps of a metric's points, in the order in which they were logged."""
    points = client.get_metric_history(only_run(client).info.run_id, name)
    return [p.step for p in sorted(points, key=lambda p: (p.timestamp, p.step))]


def files(client, run_id, path=""):
    """The paths of a run's artifacts."""
    for item in client.list_artifacts(run_id, path):
        yield from files(client, run_id, item.path) if item.is_dir else [item.path]


def test_a_run_that_was_killed_and_resumed_is_one_run_that_logs_each_step_once(
    run, overrides, client, monkeypatch
):
    overrides.remove("logger=csv")
    options = [
        "logger=[csv,mlflow]",
        "logger.mlflow.log_model=true",
        "trainer.val_check_interval=3",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", kill, raising=False)
        with pytest.raises(RuntimeError, match="killed"):
            run(*options)
    run(*options, f"resume={run.directory('run')}")
    directory, client = run.directory("run"), client()
    metrics = json.loads((directory / "metrics.json").read_text())
    found = only_run(client)
    assert found.info.run_id == (directory / "mlflow_id.txt").read_text()
    assert found.info.status == "FINISHED"
    assert found.data.metrics["test/f1"] == pytest.approx(metrics["test/f1"])
    assert found.data.params["task/learning_rate"] == "0.003"
    assert found.data.tags["task"] == "sequence"
    assert found.data.metrics["best/val/f1"] == pytest.approx(metrics["val/f1"])
    assert steps_of(client, "train/loss") == [*range(metrics["steps"])]
    for name in {*found.data.metrics} - {"epoch"}:  # which is logged with each of the others
        assert len({*steps_of(client, name)}) == len(steps_of(client, name)), name
    there = set(files(client, found.info.run_id))
    names = {"report.html", "learning_curve.png", "confusion.png", "data.json"}
    names |= {"tables/per label.json", "tables/confusion matrix.json", "tables/errors.json"}
    assert names <= there
    assert {f"model/{p.name}" for p in (directory / "model").iterdir()} <= there
    assert not [name for name in there if "ckpt" in name]
    path = Path(client.download_artifacts(found.info.run_id, "tables/per label.json"))
    table = json.loads(path.read_text())
    assert [row[0] for row in table["data"]] == ["neg", "pos"]
