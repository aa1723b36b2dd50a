"""`thaw.label_errors`: out-of-fold probabilities, and cleanlab's ranking of them."""

import csv
import json
import random
import sys

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from omegaconf import OmegaConf

from helpers.sweeps import job
from helpers.tiny import sentences, write_csv
from thaw.data.write import RowWriter
from thaw.errors import ThawError
from thaw.label_errors import main

pytestmark = pytest.mark.no_figures

SOURCE = {"origin": "reviews.csv", "rows": 60, "kept": 60}


def fold_run(sweep, number, rows, folds=2, source=SOURCE, name="", texts=None, **data):
    """A finished run that predicts a fold, as train.py leaves it."""
    name = name or str(number)
    job(sweep, name, f"data.fold={number}", metrics={"test/f1": 0.5, "fit_seconds": 1.0})
    data = {"_target_": "thaw.data.sequence.SequenceData", "test": None, "train": "a.csv"} | data
    data |= {"folds": folds, "fold": number}
    cfg = {"data": data, "task": {}, "model": {}, "trainer": {}, "monitor": "val/f1"}
    OmegaConf.save(OmegaConf.create(cfg), sweep / name / ".hydra" / "config.yaml")
    splits = {"test": {"texts": len(rows or []) if texts is None else texts}}
    about = {"sources": [source], "splits": splits}
    (sweep / name / "data.json").write_text(json.dumps(about))
    if rows:
        with RowWriter(sweep / name / "predictions.parquet") as writer:
            for row in rows:
                writer.write(row)


FLIPPED = range(0, 60, 6)


def predicted():
    """Predictions of texts, some of whose labels are the other one; a column is called run."""
    rng, rows = random.Random(0), []
    for i, (text, label) in enumerate(sentences(60)):
        p = rng.uniform(0.7, 0.99)
        p = p if label == "pos" else 1 - p
        gold = {"neg": "pos", "pos": "neg"}[label] if i in FLIPPED else label
        probabilities = {"probability/neg": 1 - p, "probability/pos": p}
        rows.append({"run": text, "label": gold, "prediction": label} | probabilities)
    return rows


@pytest.fixture
def sweep(tmp_path):
    """A sweep of two folds."""
    (tmp_path / "multirun.yaml").write_text("{}")
    return tmp_path


def test_the_ranking_is_cleanlabs_and_stands_in_a_table_and_the_report(sweep, capsys):
    rows = predicted()
    fold_run(sweep, 1, rows[30:])
    fold_run(sweep, 0, rows[:30])
    gold = np.array([["neg", "pos"].index(row["label"]) for row in rows])
    p = np.array([[row["probability/neg"], row["probability/pos"]] for row in rows])
    quality = get_label_quality_scores(gold, p)
    issues = find_label_issues(gold, p, n_jobs=1)
    assert main([f"sweep={sweep}", "top=2"]) == issues.sum() > 4
    with open(sweep / "label_errors.csv", newline="") as file:
        found = list(csv.DictReader(file))
    expected = sorted(range(60), key=lambda i: (not issues[i], quality[i]))
    assert [row["run"] for row in found] == [rows[i]["run"] for i in expected]
    assert set(expected[: issues.sum()]) <= set(FLIPPED)
    assert [float(row["label_quality"]) for row in found] == pytest.approx(quality[expected])
    places = [(int(row["run_2"]), int(row["row"])) for row in found]
    assert places == [(i // 30, i % 30) for i in expected]
    page = (sweep / "report.html").read_text()
    assert "<h2>likely label errors</h2>" in page
    assert all(rows[i]["run"] in page for i in np.flatnonzero(issues))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[-1].startswith(f"{issues.sum()} of 60 labels are likely wrong: ")


def test_rows_left_out_and_texts_that_stay_in_train_are_no_change_of_the_data(sweep, capsys):
    rows = predicted()
    for number in (0, 1):
        source = SOURCE | {"rows": 64, "kept": 61, "left_out": {"empty text": 2, "no label": 1}}
        fold_run(sweep, number, rows[30 * number :][:30], source=source)
    main([f"sweep={sweep}"])
    assert (
        "1 of 61 texts are in no fold and not judged: a label with too" in capsys.readouterr().out
    )


def test_texts_with_several_labels_are_ranked(sweep):
    rng, rows = random.Random(0), []
    for i, (text, _) in enumerate(sentences(60)):
        names = [name for name in ("a", "b") if rng.random() < 0.5]
        p = {f"probability/{n}": 0.9 if n in names else 0.1 for n in ("a", "b")}
        gold = [n for n in ("a", "b") if n not in names] if i == 5 else names
        rows.append({"text": text, "label": gold, "prediction": names} | p)
    fold_run(sweep, 0, rows[:30])
    fold_run(sweep, 1, rows[30:])
    assert main([f"sweep={sweep}", f"output={sweep / 'found.jsonl'}"]) >= 1
    first = json.loads((sweep / "found.jsonl").read_text().splitlines()[0])
    assert first["text"] == rows[5]["text"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "has no runs"),
        ([{"number": 0}], "no finished run has fold 1 of 2"),
        ([{"number": None}], "is no fold of a cross-validation"),
        ([{"number": 0, "test": "test.csv"}], r"data\.test=null the fold is the test"),
        ([{"number": 0}, {"number": 0, "name": "again"}], "fold 0 has two runs, 0 and again"),
        ([{"number": 0}, {"number": 1, "train": "b.csv"}], r"data\.train is a\.csv and, in 1, b"),
        ([{"number": 0}, {"number": 1, "rows": None}], "predictions.parquet is not there"),
        ([{"number": 0}, {"number": 1, "rows": [{"text": "a", "label": 1}]}], "of no label"),
        ([{"number": 0}, {"number": 1, "source": SOURCE | {"rows": 61}}], "the data changed"),
        ([{"number": 0}, {"number": 1, "rows": predicted()[:9], "texts": 30}], "9 texts; expected"),
        ([{"number": 0}, {"number": 1, "rows": predicted()}], "hold 90 texts, and the data 60"),
    ],
)
def test_a_sweep_that_is_no_cross_validation_is_refused(sweep, runs, message):
    for options in runs:
        fold_run(sweep, **{"rows": predicted()[:30]} | options)
    with pytest.raises(ThawError, match=message):
        main([f"sweep={sweep}"])
    assert not (sweep / "label_errors.csv").exists()


def test_a_directory_without_a_sweep_and_a_machine_without_cleanlab_are_named(
    sweep, tmp_path_factory, monkeypatch
):
    with pytest.raises(ThawError, match="no sweep there"):
        main([f"sweep={tmp_path_factory.mktemp('empty')}"])
    for number in range(2):
        fold_run(sweep, number, predicted()[30 * number : 30 * number + 30])
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ThawError, match=r"pip install -e '\.\[cleanlab\]'"):
        main([f"sweep={sweep}"])


def test_runs_of_train_are_folds(run, reviews, tmp_path):
    write_csv(tmp_path / "all.csv", sentences(60), ["text", "label"])
    options = ["data.path=null", f"data.train={tmp_path / 'all.csv'}", "data.test=null"]
    options += ["data.validation=0.2", "data.folds=2", "trainer.max_epochs=1"]
    for fold in range(2):
        run(*options, f"data.fold={fold}", name=f"sweep/{fold}")
    (tmp_path / "sweep" / "multirun.yaml").write_text("{}")
    main([f"sweep={tmp_path / 'sweep'}", "top=0"])
    with open(tmp_path / "sweep" / "label_errors.csv", newline="") as file:
        found = {row["text"] for row in csv.DictReader(file)}
    assert found == {text for text, _ in sentences(60)}
