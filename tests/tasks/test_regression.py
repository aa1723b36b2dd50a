"""task=regression: the objective against transformers, its scores, and numbers in their unit."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torch import nn
from transformers import AutoModelForSequenceClassification, pipeline

import thaw
from helpers.runs import metrics_of, result, typed
from helpers.tiny import GOOD, sentences, write_csv
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.regression import RegressionData
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict
from thaw.tasks.regression import Regression, Spearman

MEAN, SPREAD = 1000.0, 40.0  # of stars below: a unit that no fresh head predicts by chance


def stars(count, seed=0):
    """Texts with a number that follows from one word in them."""
    kinds = {"pos": MEAN + SPREAD, "neg": MEAN - SPREAD}
    rows = [(text, kinds[label] + len(text.split()) / 4) for text, label in sentences(count, seed)]
    return [(text, number + 10 * any(w in GOOD[:4] for w in text.split())) for text, number in rows]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A directory with train.csv (64 rows), validation.csv (20) and test.csv (22)."""
    directory, rows = tmp_path_factory.mktemp("stars"), stars(106)
    for name, part in (("train", rows[:64]), ("validation", rows[64:84]), ("test", rows[84:])):
        write_csv(directory / f"{name}.csv", part, ["text", "label"])
    return directory


@pytest.fixture
def options(overrides, films):
    kept = [w for w in overrides if not w.startswith(("data.path", "trainer.max_epochs"))]
    return [*kept, "task=regression", f"data.path={films}", "trainer.max_epochs=2"]


@pytest.fixture
def run(options, tmp_path):
    from helpers.tiny import runner

    return runner(options, tmp_path)


def make_data(tiny_bert, films, **options):
    given = {"train": "train.csv", "validation": "validation.csv", "test": "test.csv"}
    given |= {"name": "files", "max_tokens": 64, "path": str(films)} | options
    data = RegressionData(tokenizer=tiny_bert, **given)
    data.read()
    return data


@pytest.mark.parametrize(("loss", "factor"), [("mse", 1), ("mae", None)])
def test_loss_and_gradients_equal_transformers_on_standardised_labels(
    loss, factor, tiny_bert, films, tmp_path
):
    data = make_data(tiny_bert, films)
    batch = next(iter(data.train_dataloader()))
    numbers = np.array([n for _, n in stars(106)[:64]])
    expected = (numbers[batch["row"].numpy()] - numbers.mean()) / numbers.std()
    np.testing.assert_allclose(batch["labels"].numpy(), expected, rtol=1e-5)
    task = Regression(tiny_bert, data.mean, data.std, loss=loss).eval()
    task.model.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    inputs = {k: v for k, v in batch.items() if k not in ("row", "labels")}
    ours = task.loss(task(**inputs), batch["labels"])
    output = model(**inputs, labels=batch["labels"])
    theirs = output.loss if factor else (output.logits.squeeze() - batch["labels"]).abs().mean()
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for (name, a), b in zip(task.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_scores_equal_scipys_and_scikit_learns_and_all_that_reads_the_run_agrees(
    run, films, capsys
):
    learns = ["callbacks.early_stopping=null", "task.learning_rate=1e-2", "trainer.max_epochs=15"]
    done = run(*learns)
    metrics = metrics_of(done)
    rows = list(rows_of(done / "predictions.parquet", Reading()))
    gold, found = ([row[key] for row in rows] for key in ("label", "prediction"))
    assert gold == [n for _, n in stars(106)[84:]]
    assert metrics["test/pearson"] == pytest.approx(pearsonr(gold, found)[0], abs=1e-5)
    assert metrics["test/spearman"] == pytest.approx(spearmanr(gold, found)[0], abs=1e-5)
    assert metrics["test/rmse"] == pytest.approx(root_mean_squared_error(gold, found), rel=1e-4)
    assert metrics["test/mae"] == pytest.approx(mean_absolute_error(gold, found), rel=1e-4)
    assert metrics["test/rmse"] < 0.7 * np.std(gold), "it learns"
    texts = [row["text"] for row in rows]
    model = thaw.load(done, accelerator="cpu")
    assert model.predict(texts) == pytest.approx(found, rel=1e-5)
    alone = thaw.load(done / "model", accelerator="cpu")
    assert alone.task == "regression"
    classify = pipeline("text-classification", model=str(done / "model"), function_to_apply="none")
    scores = [row["score"] for row in classify(texts, truncation=True, max_length=64)]
    assert scores == pytest.approx(found, rel=1e-5)
    again = evaluate([f"run={done}", "trainer.accelerator=cpu"])
    for name in ("rmse", "mae", "pearson", "spearman", "loss"):
        assert again[f"test/{name}"] == pytest.approx(metrics[f"test/{name}"], rel=1e-3)
    output = done / "out.csv"
    predict([f"run={done}", f"input={films / 'test.csv'}", f"output={output}", "accelerator=cpu"])
    numbers = [float(row["prediction"]) for row in rows_of(output, Reading())]
    assert numbers == pytest.approx(found, rel=1e-5)
    with pytest.raises(ThawError, match="scores are of task=sequence"):
        model.predict_proba(texts)
    page = (done / "report.html").read_text()
    assert "predictions against labels" in page
    assert (done / "scatter.png").stat().st_size > 1000
    assert 'function_to_apply="none"' in (done / "model" / "README.md").read_text()


def test_the_checkpoint_keeps_the_scale_and_the_export_can_be_trained_on(run, films, tmp_path):
    first = run("trainer.max_epochs=4")
    state = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)
    numbers = np.array([n for _, n in stars(106)[:64]])
    scale = {"mean": pytest.approx(numbers.mean()), "std": pytest.approx(numbers.std())}
    assert state["label_scale"] == scale
    thousandth = tmp_path / "thousandth"
    thousandth.mkdir()
    for name in ("train", "validation", "test"):
        rows = [(r["text"], float(r["label"])) for r in rows_of(films / f"{name}.csv", Reading())]
        write_csv(thousandth / f"{name}.csv", rows, ["text", "label"])
    on = [f"model.checkpoint={first / 'model'}", f"data.path={thousandth}"]
    again = run(*on, "trainer.max_epochs=1", "task.learning_rate=0", name="again")
    for name in ("rmse", "pearson"):
        assert metrics_of(again)[f"test/{name}"] == pytest.approx(
            metrics_of(first)[f"test/{name}"], rel=1e-3
        )


def test_a_run_that_is_resumed_makes_the_same_model(options, tmp_path):
    import shutil

    whole, part = tmp_path / "whole", tmp_path / "part"
    few = [*options, "trainer.max_epochs=2"]
    assert typed(few, whole).returncode == 0
    shutil.copytree(whole, part)
    for name in ("metrics.json", "checkpoints/last.ckpt"):
        (part / name).unlink()
    done = typed([f"resume={part}"], part)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(part) == result(whole)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "good"], r"row 2: label is 'good'; expected a number, such as 3\.5"),
        (["1", "3,5"], r"row 2: label is '3,5'; expected a number"),
        (["1", "nan"], r"row 2: label is 'nan'"),
        (["1", "1e999"], r"row 2: label is inf"),
        (["1", "1_0"], r"row 2: label is '1_0'"),
        (["1", ""], r"1 row has no label \(rows 2\).*data\.drop_unlabelled=true"),
        (["4", "4.0"], r"train has one number only, 4"),
    ],
)
def test_a_label_that_is_no_number_is_named_with_its_row(values, message, tiny_bert, tmp_path):
    rows = [(f"a film {place}", value) for place, value in enumerate(values)]
    write_csv(tmp_path / "train.csv", rows, ["text", "label"])
    with pytest.raises(ThawError, match=message):
        make_data(tiny_bert, tmp_path, validation=None, test=None)


def test_rows_without_a_number_are_left_out_where_asked(tiny_bert, tmp_path):
    rows = [("a film", "1"), ("a story", ""), ("a plot", " 2.5 ")]
    write_csv(tmp_path / "train.csv", rows, ["text", "label"])
    data = make_data(tiny_bert, tmp_path, validation=None, test=None, drop_unlabelled=True)
    assert data.rows["train"].labels == [1.0, 2.5]
    assert data.rows["train"].source.left_out == {"no label": 1}


def test_ranks_of_many_equal_numbers_do_not_overflow():
    gold = torch.tensor([0.0, 1.0]).repeat_interleave(80_000)
    found = gold.flip(0)
    found[:10] = torch.arange(10.0)
    metric = Spearman()
    metric.update(found, gold)
    assert float(metric.compute()) == pytest.approx(spearmanr(found, gold)[0], abs=1e-6)


def test_pairs_and_folds_predict_numbers(overrides, tmp_path):
    from helpers.tiny import runner

    rows = [(one, two, a + b) for (one, a), (two, b) in zip(stars(40), stars(40, 1), strict=True)]
    write_csv(tmp_path / "pairs.csv", rows, ["first", "second", "sum"])
    kept = [w for w in overrides if not w.startswith(("data.path", "data.test", "data.valid"))]
    own = [f"data.train={tmp_path / 'pairs.csv'}", "data.text=[first,second]", "data.label=sum"]
    run = runner([*kept, "task=regression", *own, "trainer.max_epochs=1"], tmp_path)
    done = run("data.folds=4", "data.fold=1", "data.validation=0.2", "task.loss=mae")
    assert len(list(rows_of(done / "predictions.parquet", Reading()))) == 10
    predicted = thaw.load(done, accelerator="cpu").predict([("a film", "a good film")])
    assert abs(predicted[0] - 2 * MEAN) < 10 * SPREAD


def test_a_classifier_does_not_evaluate_numbers(tiny_bert, films):
    with pytest.raises(ThawError, match=r"single_label_classification.*as task=sequence does"):
        make_data(tiny_bert, films, trained={"problem_type": "single_label_classification"})


def test_a_head_whose_last_layer_is_not_clear_is_refused():
    from thaw.tasks.regression import last_layer

    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model.config = type("Config", (), {"model_type": "own"})
    with pytest.raises(ThawError, match="the head of own has 0 layers of one output"):
        last_layer(model)


def test_the_exported_config_says_regression(run):
    done = run("trainer.max_epochs=1")
    config = json.loads((done / "model" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "LABEL_0"}
