"""What is logged to W&B, read back from the file of an offline run, and the dashboard."""

import json

import pytest

from helpers.tiny import review_overrides, runner
from helpers.wandb_file import Offline
from thaw.cli.jobs import short
from thaw.dashboard import main, workspace
from thaw.errors import ThawError
from thaw.report.sections import Table
from thaw.report.wandb_upload import bars


@pytest.fixture(scope="module")
def classified(tiny_bert, reviews, tmp_path_factory):
    """A finished classifier and its W&B run."""
    overrides = [w for w in review_overrides(tiny_bert, reviews) if w != "logger=csv"]
    options = ["logger=wandb", "task.layer_decay=0.5", "callbacks.early_stopping=null"]
    directory = runner([*overrides, *options], tmp_path_factory.mktemp("wandb"))()
    return directory, Offline(directory)


def test_a_run_logs_scores_speed_memory_and_a_learning_rate_for_each_group(
    classified, tiny_bert, reviews
):
    _, wandb = classified
    for key in (
        "train/loss",
        "train/tokens_per_second",
        "train/memory_mib",
        "lr/head",
        "lr/block 1",
        "lr/block 1, no decay",
        "lr/embeddings",
    ):
        assert len(wandb.history[key]) == 16, key
    assert len(wandb.history["val/f1"]) >= 2
    top, below = wandb.history["lr/head"][0], wandb.history["lr/block 1"][0]
    assert below == pytest.approx(top / 2)
    assert min(wandb.history["train/tokens_per_second"]) > 0
    assert wandb.history["train/memory_mib"][-1] > 50
    assert wandb.tags == ["sequence", reviews.name, "/".join(tiny_bert.parts[-2:])]


def test_a_label_without_a_text_in_the_test_has_no_bar():
    rows = [["sales", "-", 0], ["billing", 0.5, 3]]
    [chart] = bars(Table("per label", ("label", "f1", "support"), rows)).values()
    assert chart.table.data == [["billing", 0.5]]


def test_a_finished_run_logs_what_its_report_shows(classified):
    directory, wandb = classified
    assert not (directory / "metrics.csv").exists(), "that is logger=csv"
    metrics = json.loads((directory / "metrics.json").read_text())
    for key in ("test/f1/pos", "fit_seconds", "test/accuracy"):
        assert wandb.summary[key] == pytest.approx(metrics[key])
    scores = dict(wandb.table("test metrics")["data"])
    assert scores["f1"] == pytest.approx(metrics["test/f1"])
    labels = wandb.table("per label")
    assert labels["columns"] == ["label", "f1", "precision", "recall", "support"]
    assert [(row[0], row[-1]) for row in labels["data"]] == [("neg", 11), ("pos", 11)]
    assert wandb.summary["weights"].startswith("of step ")
    assert wandb.summary["training ended"] == "trainer.max_epochs=2 is reached"
    assert wandb.history["confusion.png"]
    predictions, errors = wandb.table("predictions")["data"], wandb.table("errors")["data"]
    assert len(predictions) == 22
    assert len(errors) == sum(label != prediction for _, label, prediction, *_ in predictions)
    confusion = wandb.table("confusion matrix_table")
    assert confusion["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert sum(count for *_, count in confusion["data"]) == 22
    assert "f1 per label_table" in wandb.history
    [report] = (wandb.directory / "files" / "media" / "html").iterdir()
    assert report.read_text() == (directory / "report.html").read_text()
    assert all(artifact.type != "model" for artifact in wandb.artifacts)


def test_the_model_is_an_artifact_if_asked_for_and_checkpoints_never_are(run, overrides):
    overrides.remove("logger=csv")
    directory = run("logger=wandb", "logger.wandb.log_model=true", "trainer.max_epochs=1")
    models = [a for a in Offline(directory).artifacts if a.type == "model"]
    [model] = models
    assert sorted(model.aliases) == ["best", "latest"]
    names = {entry.path for entry in model.manifest.contents}
    assert names == {p.name for p in (directory / "model").iterdir()}


def test_entities_and_their_errors_are_tables(run_ner, ner_overrides):
    ner_overrides.remove("logger=csv")
    directory = run_ner("logger=wandb", "trainer.max_epochs=1")
    wandb = Offline(directory)
    entities = wandb.table("entities")
    assert entities["columns"][:3] == ["type", "right", "wrong type"]
    errors = [json.loads(line) for line in (directory / "errors.jsonl").read_text().splitlines()]
    wrong = sum(sum(row[2:]) for row in entities["data"])
    assert wrong == len(errors) > 0
    assert len(wandb.table("errors")["data"]) == len({error["sentence"] for error in errors})
    assert len(wandb.table("predictions")["data"]) == 22


def test_values_in_the_name_of_a_run_are_shortened():
    assert short("task.learning_rate", "1e-4") == "task.learning_rate=1e-4"
    assert short("data.train", "/data/of/mine/train.csv") == "data.train=train.csv"
    assert len(short("data.text", "x" * 99)) == len("data.text=") + 24


def metrics_of(made):
    """The keys that the panels of a workspace draw."""
    for section in made.sections:
        for panel in section.panels:
            for key in getattr(panel, "y", None) or getattr(panel, "metrics", None) or []:
                yield getattr(key, "name", key)
            yield from getattr(panel, "media_keys", None) or []


def test_the_dashboard_draws_what_runs_log(classified):
    pytest.importorskip("wandb_workspaces")
    _, wandb = classified
    made = workspace("team", "thaw", "thaw")
    drawn = set(metrics_of(made))
    assert {"train/loss", "val/f1", "test/f1", "train/tokens_per_second", "report"} <= drawn
    assert drawn - {"val/perplexity"} <= {*wandb.history, *wandb.summary}
    model = made._to_model()
    assert (model.entity, model.project, model.display_name) == ("team", "thaw", "thaw")
    assert [key.name for key in model.spec.section.run_sets[0].grouping] == ["group"]


def test_a_dashboard_without_an_account_is_refused(monkeypatch, tmp_path):
    pytest.importorskip("wandb_workspaces")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ThawError, match="needs an account"):
        main(["entity=team"])
    with pytest.raises(ThawError, match="entity must be given"):
        main([])
