"""Thresholds and temperature of a classifier, against scikit-learn, brute force and numpy."""

import copy
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sklearn.metrics import f1_score

import thaw
from helpers.architectures import ARCHITECTURES
from helpers.runs import metrics_of
from helpers.tables import read_rows
from helpers.tiny import sentences, write_csv
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.export import main as export
from thaw.tasks.calibration import (
    before,
    best_temperature,
    best_threshold,
    calibration_error,
    divide,
    last_layer,
    nll,
    tune,
)
from thaw.tasks.predictors.decision import Decision, mean_decision, read_decision
from thaw.tasks.sequence import SequenceClassification
from thaw.tasks.setfit import SetFit

TUNED = ["task.thresholds=tuned", "data.label_separator='|'", "data.batch_size=16"]


@example([(0.0, True), (0.1, False)])  # its F1 is 0 with every threshold
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.6, 1.0]), st.booleans())))
def test_no_threshold_has_a_higher_f1_than_the_tuned_one(pairs):
    p = np.array([value for value, _ in pairs], dtype=np.float32)
    y = np.array([gold for _, gold in pairs], dtype=bool)
    threshold, f1 = best_threshold(p, y)
    if not y.any():
        assert (threshold, f1) == (0.5, 0.0)
        return
    assert f1 == pytest.approx(f1_score(y, p > threshold, zero_division=0))
    tried = {  # by its formula, as scikit-learn's takes a millisecond a call
        t: 2 * ((p > t) & y).sum() / ((p > t).sum() + y.sum()) for t in np.linspace(0, 1, 101)
    }
    assert f1 >= max(tried.values()) - 1e-12
    if tried[0.5] == pytest.approx(f1):
        assert threshold == 0.5  # of equal ones, the nearest to 0.5


def test_a_threshold_lies_between_float32_neighbours_and_tells_them_apart():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    threshold, f1 = best_threshold(np.array([low, high]), np.array([False, True]))
    assert (f1, high > threshold, low > threshold) == (1.0, True, False)


def test_labels_without_positives_keep_one_half_and_are_named(caplog):
    found = torch.tensor([[0.2, 0.9], [0.1, 0.8]])
    thresholds, metrics = tune(found, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), ["a", "b"])
    assert thresholds == pytest.approx([0.15, 0.5])
    assert (metrics["val/f1_at_half/a"], metrics["val/f1_tuned/a"]) == (0.0, 1.0)
    assert "validation has no text with the label b" in caplog.text


def expected_error(confidence, right, bins=15):
    """The expected calibration error by numpy, as Guo et al. 2017 define it."""
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    parts = [(confidence[place == b], right[place == b]) for b in set(place)]
    return sum(len(c) * abs(c.mean() - r.mean()) for c, r in parts) / len(confidence)


def drawn(multi_label, count=400):
    """Logits three times too large, and labels that are drawn by the true probabilities."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 3, generator=rng)
    if multi_label:
        gold = torch.bernoulli(torch.sigmoid(logits), generator=rng)
    else:
        gold = torch.multinomial(torch.softmax(logits, -1), 1, generator=rng)[:, 0]
    return 3 * logits, gold


@pytest.mark.parametrize("multi_label", [False, True])
def test_temperature_lowers_the_nll_and_the_error_which_numpy_confirms(multi_label):
    logits, gold = drawn(multi_label)
    temperature = best_temperature(logits, gold, multi_label)
    assert temperature == pytest.approx(3, rel=0.3)
    grid = [float(nll(logits / t, gold, multi_label)) for t in np.linspace(0.5, 8, 500)]
    assert float(nll(logits / temperature, gold, multi_label)) <= min(grid) + 1e-6
    activate = torch.sigmoid if multi_label else lambda x: torch.softmax(x, -1)
    raw, after = activate(logits), activate(logits / temperature)
    torch.testing.assert_close(before(after, temperature, multi_label), raw, atol=1e-4, rtol=1e-3)
    errors = [calibration_error(p, gold, multi_label) for p in (raw, after)]
    for p, error in zip((raw, after), errors, strict=True):
        sure, predicted = p.max(-1)
        pairs = (p.flatten(), gold.flatten()) if multi_label else (sure, predicted == gold)
        assert error == pytest.approx(
            expected_error(*(x.double().numpy() for x in pairs)), abs=1e-5
        )
    assert errors[1] < errors[0]


@pytest.mark.parametrize("multi_label", [False, True])
def test_temperature_never_raises_the_nll(multi_label):
    rng = torch.Generator().manual_seed(1)
    for scale in (0.0, 1e-3, 1.0, 1e3):
        logits, gold = drawn(multi_label, count=20)
        logits = scale * torch.randn(logits.shape, generator=rng)
        temperature = best_temperature(logits, gold, multi_label)
        now, was = (float(nll(x, gold, multi_label)) for x in (logits / temperature, logits))
        assert now <= was


@pytest.mark.parametrize("multi_label", [False, True])
def test_without_a_best_temperature_it_stays_1_and_a_warning_says_why(multi_label, caplog):
    sure = torch.nn.functional.one_hot(torch.arange(3)).float() * 10 - 5
    right = torch.eye(3) if multi_label else torch.arange(3)
    assert best_temperature(sure, right, multi_label) == 1
    assert "all 3 texts of validation are predicted right" in caplog.text
    caplog.clear()
    assert best_temperature(-sure, right, multi_label) == 1
    assert "on the 3 texts of validation, right labels have no higher logits" in caplog.text
    caplog.clear()
    mixed = torch.cat([sure] * 5 + [-sure])
    gold = torch.cat([right] * 6)
    assert 1 < best_temperature(mixed, gold, multi_label) < 100
    assert not caplog.records


def test_averaged_models_decide_by_the_mean_of_their_thresholds(caplog):
    one, other = Decision({"a": 0.2, "b": 0.6}), Decision()
    assert mean_decision([other, other], ["a", "b"]) == Decision()
    assert not caplog.records
    assert mean_decision([one, other], ["a", "b"]).thresholds == pytest.approx(
        {"a": 0.35, "b": 0.55}
    )
    assert "mean of their thresholds" in caplog.text


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"thresholds": {"a": 2, "b": 0.5}}', '{"thresholds": {"a": 0.5}}', '{"run": "x"}'],
)
def test_a_file_that_thaw_did_not_write_is_refused(tmp_path, content):
    (tmp_path / "decision.json").write_text(content)
    with pytest.raises(
        ThawError, match=r"decision\.json: expected thresholds from 0 to 1 of .*a, b"
    ):
        read_decision(tmp_path, ["a", "b"])


@pytest.fixture(scope="module")
def tagged_reviews(tmp_path_factory):
    """Reviews with two labels, of which the rarer one needs a lower threshold."""
    directory = tmp_path_factory.mktemp("several")
    rows = [
        (t, f"{label}|a" if i % 4 == 0 else label) for i, (t, label) in enumerate(sentences(140))
    ]
    for name, part in (("train", rows[:80]), ("validation", rows[80:110]), ("test", rows[110:])):
        write_csv(directory / f"{name}.csv", part, ["text", "label"])
    return directory


@pytest.fixture
def several(run, tagged_reviews):
    """Trains on these reviews."""
    return lambda *extra, **options: run(f"data.path={tagged_reviews}", *TUNED, *extra, **options)


def test_a_run_keeps_its_thresholds_and_each_command_decides_by_them(
    several, tagged_reviews, caplog
):
    caplog.set_level(logging.INFO)
    directory = several("task.calibrate=true")
    kept = json.loads((directory / "model" / "decision.json").read_text())
    metrics, rows = metrics_of(directory), list(read_rows(directory / "predictions.parquet"))
    thresholds = kept["thresholds"]
    assert thresholds == {name: metrics[f"threshold/{name}"] for name in ("a", "neg", "pos")}
    assert any(value != 0.5 for value in thresholds.values())
    for name, threshold in thresholds.items():
        assert metrics[f"val/f1_tuned/{name}"] >= metrics[f"val/f1_at_half/{name}"]
        assert all(
            (name in r["prediction"]) == (r[f"probability/{name}"] > threshold) for r in rows
        )
        gold, found = ([name in r[side] for r in rows] for side in ("label", "prediction"))
        assert metrics[f"test/f1/{name}"] == pytest.approx(f1_score(gold, found, zero_division=0))
    texts = [row["text"] for row in rows]
    model = thaw.load(directory)
    assert model.predict(texts) == [row["prediction"] for row in rows]
    again = evaluate([f"run={directory}", "trainer.accelerator=cpu"])
    for name in ("test/f1", "test/ece", "test/ece_before", "test/loss"):
        assert again[name] == pytest.approx(metrics[name], abs=1e-5)
    page = (directory / "report.html").read_text()
    assert all(f"<h2>{title}</h2>" in page for title in ("thresholds", "calibration"))
    assert 'alt="reliability, test"' in page
    assert metrics["val/nll"] <= metrics["val/nll_before"]
    assert "thresholds tuned on 30 texts of validation" in caplog.text


@pytest.mark.parametrize("task", ["sequence", "setfit"])
def test_the_exported_weights_hold_the_temperature_and_training_is_the_same(run, task):
    few = [f"task={task}", *(["task.shots=8", "task.steps=4"] if task == "setfit" else [])]
    plain, calibrated = run(*few, name="plain"), run(*few, "task.calibrate=true", name="calibrated")
    was, now = metrics_of(plain), metrics_of(calibrated)
    assert now["test/f1"] == was["test/f1"]
    assert now["val/f1"] == was["val/f1"]
    assert (plain / "metrics.csv").read_text().count("\n") == (
        calibrated / "metrics.csv"
    ).read_text().count("\n")
    file, weight = ("model.safetensors", "classifier.weight")
    if task == "setfit":
        file, weight = "head.safetensors", "weight"
    raw, divided = (load_file(d / "model" / file)[weight] for d in (plain, calibrated))
    torch.testing.assert_close(divided * now["temperature"], raw)
    assert not (plain / "model" / "decision.json").exists()
    assert not any("ece" in key for key in was)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_layer_that_is_divided_computes_the_logits_of_each_architecture(name, tmp_path):
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(ARCHITECTURES[name])
    config.num_labels = 3
    model = AutoModelForSequenceClassification.from_config(config).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    with torch.no_grad():
        raw = model(**inputs).logits
        divide(last_layer(model, 3), 4.0)
        torch.testing.assert_close(model(**inputs).logits, raw / 4)


def test_what_does_not_combine_is_refused_before_training(run, several, reviews):
    for extra, message in (
        (["task.thresholds=tuned"], "is for several labels a text"),
        (["task.calibrate=true", "data.validation=null"], "task.calibrate=true needs a validation"),
        (["task.calibrate=true", "trainer.limit_val_batches=0"], "needs a validation split"),
        (
            ["task=setfit", "task.zero_shot=true", "task.calibrate=true", "data.labels=[neg,pos]"],
            "task.zero_shot=true is without labels",
        ),
    ):
        with pytest.raises(Exception, match=message) as caught:
            run(*extra, name=f"refused{len(extra)}{extra[-1][:8]}")
        assert "ThawError" in repr(caught.value) or isinstance(caught.value.__cause__, ThawError)


@pytest.mark.parametrize("task", [SequenceClassification, SetFit])
def test_thresholds_of_one_label_a_text_are_refused_before_a_model_is_read(task, tmp_path):
    with pytest.raises(ThawError, match="is for several labels a text"):
        task(tmp_path / "nothing", ["a", "b"], thresholds="tuned")


def test_averaged_runs_and_onnx_decide_by_the_kept_thresholds(several, tmp_path, caplog):
    runs = [several(f"seed={seed}", name=f"sweep/{seed}") for seed in (0, 1)]
    (tmp_path / "sweep" / "multirun.yaml").write_text("{}")
    rows = list(read_rows(runs[0] / "predictions.parquet"))
    texts, gold = ([row[key] for row in rows] for key in ("text", "label"))
    own = [read_decision(directory / "model", ["a", "neg", "pos"]).thresholds for directory in runs]
    both = thaw.load(tmp_path / "sweep")
    assert "mean of their thresholds" in caplog.text
    limits = np.array([np.mean([t[name] for t in own]) for name in both.labels])
    chosen = both.predict_proba(texts) > limits
    predicted = both.predict(texts)
    assert [[name in names for name in both.labels] for names in predicted] == chosen.tolist()
    score = evaluate([f"run={tmp_path / 'sweep'}", "trainer.accelerator=cpu"])["test/f1/a"]
    sides = [["a" in names for names in side] for side in (gold, predicted)]
    assert score == pytest.approx(f1_score(*sides, zero_division=0))
    export([f"run={runs[0]}"])
    model, onnx = (thaw.load(runs[0], engine=engine) for engine in ("torch", "onnx"))
    assert onnx.predict(texts) == model.predict(texts) == [row["prediction"] for row in rows]
