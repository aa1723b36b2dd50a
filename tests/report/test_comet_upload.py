"""What is logged to Comet, in an archive of this disk."""

import json
import signal
import zipfile

import pytest

from helpers.runs import metrics_of
from helpers.tiny import REPOSITORY
from helpers.warm import new_python, python

comet_ml = pytest.importorskip("comet_ml")


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Gives what the archives of a run hold, in the order in which they were written."""
    for name in ("COMET_API_KEY", "COMET_START_ONLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def read(directory):
        for path in sorted((directory / "comet").glob("*.zip"), key=lambda p: p.stat().st_mtime):
            with zipfile.ZipFile(path) as archive:
                lines = archive.read("messages.json").decode().splitlines()
                experiment = json.loads(archive.read("experiment.json"))
            yield experiment, [json.loads(line) for line in lines]

    return read


def test_a_resumed_run_is_one_experiment_with_scores_figures_and_the_report(
    overrides, archives, tmp_path
):
    overrides.remove("logger=csv")
    directory = tmp_path / "run"
    stop = f"{{_target_: helpers.watch.Signal, number: {int(signal.SIGINT)}, step: 5}}"
    options = ["logger=[csv,comet]", "trainer.max_epochs=1", f"+callbacks.signal={stop}"]
    words = ["train.py", *overrides, *options, f"hydra.run.dir={directory}"]
    environ = {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}"}
    first = new_python(*words, env=environ)
    assert first.returncode == 130, first.stdout + first.stderr
    again = python(*words, f"resume={directory}", env=environ)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "import comet_ml before" not in first.stderr
    (one, before), (two, after) = archives(directory)
    key = (directory / "comet_id.txt").read_text()
    assert one["offline_id"] == two["offline_id"] == key
    points = [m["payload"]["metric"] for m in [*before, *after] if m["type"] == "metric_msg"]
    losses = [p["step"] for p in points if p["metricName"] == "train/loss"]
    assert losses == [*range(8)]
    [f1] = [p["metricValue"] for p in points if p["metricName"] == "test/f1"]
    assert f1 == pytest.approx(metrics_of(directory)["test/f1"])
    kinds = {m["type"] for m in before}
    assert "standard_output" not in kinds
    uploads = [m["payload"]["additional_params"] for m in after if m["type"] == "file_upload"]
    assert {"report.html", "confusion.png", "data.json"} <= {u["fileName"] for u in uploads}
    assert "0.003" in json.dumps([m for m in before if m["type"] == "parameter_msg"])
