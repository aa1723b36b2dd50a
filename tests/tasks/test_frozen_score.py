"""The score of a frozen encoder against transformers and scikit-learn, text by text."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForMaskedLM, AutoTokenizer

from helpers.tiny import sentences, write_csv
from thaw.errors import ThawError
from thaw.tasks.pretraining import FrozenScore

ROWS = sentences(120)


def scorer(tmp_path, rows, checkpoint, texts=2000, **options):
    path = write_csv(tmp_path / "train.csv", rows[:80], ["text", "label"])
    validation = write_csv(tmp_path / "validation.csv", rows[80:], ["text", "label"])
    files = {"train": str(path), "validation": str(validation), "max_tokens": 64}
    score = FrozenScore(files | options, texts)
    score.read(checkpoint, seed=0)
    return score


def embeddings(model, tokenizer, rows):
    found = []
    for text, _ in rows:
        with torch.no_grad():
            states = model.base_model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        found.append(states[0].mean(0).numpy())
    return np.stack(found)


def test_score_is_that_of_scikit_learn_on_embeddings_of_single_texts(tiny_bert, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(tiny_bert).eval()
    got = scorer(tmp_path, ROWS, tiny_bert)(model, nullcontext)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    train, held_out = (embeddings(model, tokenizer, part) for part in (ROWS[:80], ROWS[80:]))
    y, gold = ([label for _, label in part] for part in (ROWS[:80], ROWS[80:]))
    predicted = LogisticRegression().fit(train, y).predict(held_out)
    assert got["frozen_f1"] == pytest.approx(f1_score(gold, predicted, pos_label="pos"))
    assert got["frozen_accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    assert 0 < got["frozen_accuracy"] < 1


def test_several_labels_a_text_are_scored_label_by_label(tiny_bert, tmp_path):
    rows = [(text, f"{label}|film" if "film" in text else label) for text, label in ROWS]
    rows = [(text, f"{label}|text") for text, label in rows]  # all have the third
    score = scorer(tmp_path, rows, tiny_bert, label_separator="|")
    model = AutoModelForMaskedLM.from_pretrained(tiny_bert).eval()
    got = score(model, nullcontext)
    x = {s: score.embedded(model, s, nullcontext) for s in ("train", "validation")}
    f1 = []
    for column in range(4):
        y, gold = x["train"][1][:, column], x["validation"][1][:, column]
        always = bool(y.all())
        predicted = y[:1].expand_as(gold) if always else None
        if predicted is None:
            predicted = LogisticRegression().fit(x["train"][0], y).predict(x["validation"][0])
        f1.append(f1_score(gold, predicted))
    assert got["frozen_f1"] == pytest.approx(np.mean(f1))


def test_few_texts_are_drawn_with_the_seed(tiny_bert, tmp_path):
    score = scorer(tmp_path, ROWS, tiny_bert, texts=30)
    x, y = score.embedded(AutoModelForMaskedLM.from_pretrained(tiny_bert), "train", nullcontext)
    assert x.shape == (30, 32)
    assert len(y) == 30


def test_labelled_texts_without_validation_are_refused(tiny_bert, tmp_path):
    path = write_csv(tmp_path / "train.csv", ROWS, ["text", "label"])
    options = {"train": str(path), "validation": None, "max_tokens": 64}
    with pytest.raises(ThawError, match=r"task\.frozen_score needs labelled texts of validation"):
        FrozenScore(options).read(tiny_bert, seed=0)


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(ThawError, match=r"no option task\.frozen_score\.labl\. Did you mean label"):
        FrozenScore({"train": "labelled.csv", "labl": "stars"})
