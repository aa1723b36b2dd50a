"""A run from config to run directory."""

import csv
import json
from mmap import mmap

import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

import thaw
from helpers.runs import metrics_of, typed
from helpers.sweeps import sweep_of
from helpers.tiny import write_csv
from helpers.wandb_file import Offline
from thaw.errors import ThawError
from thaw.report.figures import curves
from thaw.tasks.sequence import SequenceClassification
from thaw.training.callbacks.throughput import peak_memory_mib

pytestmark = pytest.mark.no_figures

SCORES = ("val/f1", "val/loss", "test/f1", "test/accuracy", "test/loss")


def rows_of(directory):
    return pq.read_table(directory / "predictions.parquet").to_pylist()


def test_a_run_directory_stands_alone(finished):
    directory = finished()
    names = {p.name for p in directory.iterdir()}
    assert {
        ".hydra",
        "checkpoints",
        "confusion.png",
        "data.json",
        "learning_curve.png",
        "metrics.csv",
        "metrics.json",
        "model",
        "predictions.parquet",
        "versions.json",
    } <= names
    assert {p.name for p in (directory / "checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    }
    metrics = metrics_of(directory)
    modes = {p.stat().st_mode for p in (directory / "model").iterdir()}
    assert modes == {(directory / "metrics.json").stat().st_mode}
    assert {*SCORES, "fit_seconds", "samples_per_second", "peak_memory_mib"} <= set(metrics)
    assert all(isinstance(value, int | float) for value in metrics.values())
    for name in ("confusion.png", "learning_curve.png"):
        assert (directory / name).read_bytes().startswith(b"\x89PNG")


def test_what_was_read_is_in_the_run_directory_and_in_its_report(finished, reviews):
    directory = finished()
    found = json.loads((directory / "data.json").read_text())
    assert {name: split["texts"] for name, split in found["splits"].items()} == {
        "train": 64,
        "validation": 20,
        "test": 22,
    }
    for name, split in found["splits"].items():
        with open(reviews / f"{name}.csv", newline="") as file:
            labels = [row["label"] for row in csv.DictReader(file)]
        assert split["labels"] == {"neg": labels.count("neg"), "pos": labels.count("pos")}
    assert [source["rows"] for source in found["sources"]] == [64, 20, 22]
    page = (directory / "report.html").read_text()
    assert "<h2>data read</h2>" in page
    assert "<h2>labels</h2>" in page


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (["data.text=nowhere"], "no column 'nowhere'"),  # before training
        (
            ["task=mlm", "task.probes=[]", "data.streaming=true"],
            "how long to train",
        ),  # as it begins
    ],
)
def test_a_mistake_leaves_the_directory_to_the_corrected_command(run, mistake, message):
    with pytest.raises(ThawError, match=message):
        run(*mistake)
    directory = run("data.eval_batch_size=7", "trainer.max_epochs=1")
    kept = (directory / ".hydra" / "resolved.yaml").read_text()
    assert "eval_batch_size: 7" in kept
    assert "nowhere" not in kept
    with pytest.raises(ThawError, match="holds a run already"):
        run("trainer.max_epochs=1")


def test_a_run_that_saved_something_keeps_its_directory(run, monkeypatch):
    def full(*args, **options):
        raise ThawError("no room left")

    monkeypatch.setattr("thaw.train.load_best", full)
    with pytest.raises(ThawError, match="no room left"):
        run("trainer.max_epochs=1")
    with pytest.raises(ThawError, match="holds a run already"):
        run("trainer.max_epochs=1")


def test_training_learns_the_words_that_decide_the_labels(run):
    directory = run("trainer.max_epochs=12", "callbacks.early_stopping=null")
    assert metrics_of(directory)["test/accuracy"] > 0.8


def test_predictions_hold_text_label_and_probabilities_in_the_order_of_test(finished, reviews):
    rows = rows_of(finished())
    texts = [line.split(",")[0] for line in (reviews / "test.csv").read_text().splitlines()[1:]]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        assert list(row) == ["text", "label", "prediction", "probability/neg", "probability/pos"]
        assert row["probability/neg"] + row["probability/pos"] == pytest.approx(1, abs=1e-5)
        best = max(("neg", "pos"), key=lambda name: row[f"probability/{name}"])
        assert row["prediction"] == best


def test_the_scores_are_those_of_the_predictions(finished):
    from sklearn.metrics import accuracy_score, f1_score

    directory = finished()
    true, predicted = zip(*((r["label"], r["prediction"]) for r in rows_of(directory)), strict=True)
    metrics = metrics_of(directory)
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert metrics["test/f1"] == pytest.approx(f1_score(true, predicted, pos_label="pos"))


def test_the_exported_model_predicts_the_same_in_a_pipeline(finished):
    from transformers import pipeline

    directory = finished()
    classify = pipeline("text-classification", model=str(directory / "model"), device="cpu")
    for row, got in zip(
        rows_of(directory), classify([r["text"] for r in rows_of(directory)]), strict=True
    ):
        assert got["label"] == row["prediction"]
        assert got["score"] == pytest.approx(row[f"probability/{got['label']}"], abs=1e-5)


def test_the_same_seed_gives_the_same_run(run, finished):
    one, two, other = finished(), run(name="b"), run("seed=7", name="c")
    assert [metrics_of(one)[k] for k in SCORES] == [metrics_of(two)[k] for k in SCORES]
    weights = [load_file(d / "model" / "model.safetensors") for d in (one, two, other)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert not torch.equal(weights[0]["classifier.weight"], weights[2]["classifier.weight"])


def test_frozen_weights_are_the_checkpoints_to_the_bit(run, tiny_bert):
    before = load_file(tiny_bert / "model.safetensors")
    after = load_file(run("freeze=head", "trainer.max_epochs=1") / "model" / "model.safetensors")
    for name, weight in before.items():
        assert torch.equal(weight, after[f"bert.{name}"]) == (not name.startswith("pooler")), name


def test_the_best_checkpoint_is_tested_not_the_last(run):
    # A rate that ruins the model late: the best validation F1 comes before the end.
    directory = run("trainer.max_epochs=6", "callbacks.early_stopping=null")
    state = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    exported = load_file(directory / "model" / "model.safetensors")
    for name, weight in exported.items():
        assert torch.equal(weight, state["state_dict"][f"model.{name}"])
    assert metrics_of(directory)["val/f1"] == pytest.approx(state["val_metrics"]["val/f1"])
    assert metrics_of(directory)["best_step"] == state["global_step"]


def test_checkpoints_hold_tensors_and_plain_values_only(finished):
    for path in (finished() / "checkpoints").iterdir():
        assert torch.load(path, weights_only=True)["state_dict"]


def test_training_stops_early_when_the_watched_metric_stands_still(run, caplog):
    caplog.set_level("INFO")
    directory = run(
        "task.learning_rate=0",
        "trainer.max_epochs=20",
        "trainer.val_check_interval=1.0",
        "callbacks.early_stopping.patience=2",
    )
    assert metrics_of(directory)["steps"] == 3 * 8
    assert (
        "(24 steps); training ended: early stopping: Monitored metric val/f1 did not improve"
        in caplog.text
    )
    assert "the weights of step 8 are the result, the best by val/f1" in caplog.text


@pytest.mark.parametrize("steps", [2, 20])
def test_training_and_validation_have_a_colour_each_in_every_learning_curve(tmp_path, steps):
    rows = [f"{n},0.5,," for n in range(steps)]
    rows.append(f"{steps - 1},,0.6,0.7")
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(["step,train/loss,val/loss,val/f1", *rows]))
    panels = curves(path, "val/f1", chosen=2)
    losses, scores = (Figure(layout="constrained").subplots() for _ in range(2))
    panels["loss against steps"](losses)
    panels["scores of validation against steps"](scores)
    *train, validation, _ = losses.get_lines()
    assert {line.get_color() for line in train} == {"C0"}
    assert validation.get_color() == scores.get_lines()[0].get_color() == "C1"
    assert (train[0].get_marker() == "o") == (steps < 10)
    assert losses.get_ylim()[1] > 0.6
    assert losses.get_legend() is None  # it stands below the figure, and hides no line
    assert len(losses.figure.legends) == 1


def test_the_learning_curve_counts_steps_that_are_done(run):
    directory = run("trainer.max_epochs=1", "trainer.val_check_interval=1.0")
    axes = Figure().subplots()
    curves(directory / "metrics.csv", "val/f1", chosen=8)["loss against steps"](axes)
    train, validation, chosen = axes.get_lines()
    assert [*train.get_xdata()] == [*range(1, 9)]
    assert [*validation.get_xdata()] == [8]
    assert ([*chosen.get_xdata()], chosen.get_label()) == ([8, 8], "chosen, step 8")


COMET = "lightning.pytorch.loggers.CometLogger"  # named by its class, and not as an extra


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.accelerator=gpu"], r"^trainer: No supported gpu backend"),
        (["trainer.max_steps=0"], r"^trainer.max_steps=0 or max_epochs=0 trains nothing"),
        (
            ["logger=tensorboard"],
            r"logger=tensorboard is not installed: pip .* '\.\[tensorboard\]'",
        ),
        (["logger=comet"], r"logger=comet is not installed: pip .* '\.\[comet\]'"),
        ([f"+logger.own._target_={COMET}"], r"^logger=own is not installed\. \("),
    ],
)
def test_what_the_trainer_refuses_is_said_in_a_line(run, monkeypatch, options, message):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{name}", False)
    monkeypatch.setattr("lightning.pytorch.loggers.comet._COMET_AVAILABLE", False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ThawError, match=message):
        run(*options)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 8), (-1, 9)])
def test_more_steps_than_epochs_hold_are_warned_of(run, caplog, epochs, steps):
    directory = run("trainer.max_steps=9", f"trainer.max_epochs={epochs}")
    assert metrics_of(directory)["steps"] == steps
    assert ("before trainer.max_steps=9; max_epochs=-1: no limit" in caplog.text) == (epochs == 1)


def test_the_progress_report_can_be_turned_off(run, capsys):
    run("trainer.enable_progress_bar=false", "trainer.max_epochs=1")
    assert "step 8" not in capsys.readouterr().out


def test_accumulated_batches_make_one_step(run):
    directory = run("trainer.accumulate_grad_batches=4", "trainer.max_epochs=1")
    assert metrics_of(directory)["steps"] == 2


def test_a_run_too_short_for_a_validation_ends_well(run):
    directory = run("trainer.max_steps=3", "trainer.val_check_interval=1.0")
    assert metrics_of(directory)["steps"] == 3


def test_without_validation_and_test_the_last_weights_are_exported(run, caplog):
    directory = run("data.validation=null", "data.test=null")
    assert "no validation" in caplog.text
    assert (directory / "model" / "model.safetensors").exists()
    assert not (directory / "predictions.parquet").exists()


def test_peak_memory_is_that_of_the_run_alone(run):
    # What ran in this process before; malloc would keep what it frees (`keep_freed_memory`).
    with mmap(-1, 512 * 2**20) as ballast:
        for _ in range(512):
            ballast.write(b"1" * 2**20)
        before = peak_memory_mib()
    metrics = metrics_of(run("trainer.max_epochs=1"))
    assert 0 < metrics["peak_memory_mib"] < before - 256


@pytest.mark.parametrize("logger", ["none", "[csv,tensorboard]", "default"])
def test_every_logger_runs_without_an_account(run, logger, overrides):
    """`wandb` alone is in tests/report/test_wandb_upload.py, `csv` in most tests."""
    overrides.remove("logger=csv")
    directory = run(f"logger={logger}", "trainer.max_epochs=1")
    assert (directory / "metrics.csv").exists() == (logger != "none")
    assert (directory / "wandb").exists() == (logger == "default")
    assert (directory / "tensorboard").exists() == ("tensorboard" in logger)


def test_a_directory_with_a_run_is_not_overwritten(run, overrides, finished_copy):
    directory = finished_copy()
    metrics = (directory / "metrics.json").read_text()
    with pytest.raises(ThawError, match="holds a run already"):
        run()
    assert (directory / "metrics.json").read_text() == metrics


def test_hydra_does_not_write_over_the_files_of_a_run(overrides, finished_copy):
    directory = finished_copy()
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    done = typed([*overrides, "seed=9"], directory)
    assert done.returncode == 2
    assert f"thaw: {directory} holds a run already: leave hydra.run.dir out" in done.stderr
    with pytest.raises(ThawError, match="holds a run already"):
        thaw.fit(*overrides, f"hydra.run.dir={directory}")
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_a_full_disk_while_saving_is_explained(run, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(ThawError, match=r"No space left.*What was saved before is still there"):
        run("trainer.max_epochs=1")


def test_bad_data_ends_the_command_with_a_message_and_exit_code_2(overrides, tmp_path):
    path = write_csv(tmp_path / "bad.csv", [("", "x"), ("b", "y")], ["text", "label"])
    own = ["data.path=null", f"data.train={path}", "data.validation=null", "data.test=null"]
    done = typed([*overrides, *own], tmp_path / "run")
    assert done.returncode == 2
    assert "1 of 2 texts are empty or null (rows 1)" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_a_constructor_refuses_is_a_message_too(overrides, tmp_path):
    done = typed([*overrides, "data.max_tokens=1000"], tmp_path / "run")
    assert done.returncode == 2
    assert "thaw: data.max_tokens=1000: this model takes 3 to 64." in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_puts_its_jobs_into_one_directory_with_a_named_wandb_run_each(overrides, tmp_path):
    overrides.remove("logger=csv")
    done, sweep = sweep_of(*overrides, "seed=1,2", "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for job in ("0", "1"):
        assert metrics_of(sweep / job)["steps"] == 8
        shared = Offline(sweep / job)
        assert (shared.name, shared.group) == (f"seed={int(job) + 1}", sweep.name)


def test_overfitting_sees_the_same_batches_in_every_epoch(run, monkeypatch):
    from thaw.tasks.sequence import SequenceClassification

    seen: list[list[int]] = []
    step = SequenceClassification.training_step

    def training_step(self, batch, batch_idx):
        seen.append(batch["row"].tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SequenceClassification, "training_step", training_step)
    run("debug=overfit", "trainer.overfit_batches=2", "trainer.max_epochs=3")
    assert seen == seen[:2] * 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped(run, monkeypatch, algorithm, precision):
    left = []

    def look(task, *args):
        grads = [p.grad for p in task.model.parameters()]
        norm = torch.nn.utils.get_total_norm(grads).item()
        left.append(norm if algorithm == "norm" else max(g.abs().max().item() for g in grads))

    monkeypatch.setattr(SequenceClassification, "on_train_batch_end", look)
    clip = ["trainer.gradient_clip_val=1e-3", f"trainer.gradient_clip_algorithm={algorithm}"]
    run(*clip, f"trainer.precision={precision}")
    assert left == pytest.approx([1e-3] * len(left), rel=1e-3)
