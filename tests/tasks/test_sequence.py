"""task=sequence: the objective against transformers, and the data it accepts."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.trainer_pt_utils import LabelSmoother

from helpers.tiny import sentences, write_csv
from thaw.data.sequence import SequenceData
from thaw.encoder.freeze import HeadOnly, LastBlocks
from thaw.errors import ThawError
from thaw.tasks.sequence import SequenceClassification

pytestmark = pytest.mark.no_figures


def make_data(tiny_bert, path=None, **options):
    defaults = {"name": "files", "train": "train.csv", "validation": 0.25, "max_tokens": 64}
    options = defaults | {"path": path} | options
    data = SequenceData(tokenizer=tiny_bert, **options)
    data.read()
    return data


def make_task(tiny_bert, labels=("neg", "pos"), **options):
    torch.manual_seed(0)
    return SequenceClassification(tiny_bert, list(labels), **options)


def without_dropout(task):
    for module in task.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return task


@pytest.fixture
def batch(tiny_bert, reviews):
    return next(iter(make_data(tiny_bert, str(reviews)).train_dataloader()))


def reference(task, directory, batch, **extra):
    """transformers' own model with the task's weights, and its loss on a batch."""
    task.model.save_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    inputs = {k: v for k, v in batch.items() if k != "row"}
    return model, model(**inputs, **extra).loss


def test_loss_and_gradients_equal_transformers(tiny_bert, batch, tmp_path):
    task = without_dropout(make_task(tiny_bert))
    loss = task.loss(
        task(**{k: v for k, v in batch.items() if k not in ("labels", "row")}), batch["labels"]
    )
    model, expected = reference(task, tmp_path, batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, a), b in zip(task.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_the_smoothed_loss_equals_torchs_and_transformers(tiny_bert, weights):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 1])
    task = SequenceClassification(tiny_bert, ["a", "b"], label_smoothing=0.1, class_weights=weights)
    got = task.loss(logits, labels)
    weight = None if weights is None else torch.tensor(weights)
    expected = torch.nn.functional.cross_entropy(logits, labels, weight, label_smoothing=0.1)
    torch.testing.assert_close(got, expected)
    if weights is None:
        torch.testing.assert_close(got, LabelSmoother(epsilon=0.1)({"logits": logits}, labels))


def test_several_labels_a_text_are_not_smoothed(tiny_bert):
    with pytest.raises(ThawError, match=r"task\.label_smoothing is for one label a text"):
        SequenceClassification(tiny_bert, ["a", "b"], multi_label=True, label_smoothing=0.1)


def test_the_loss_of_several_labels_equals_transformers(tiny_bert, batch, tmp_path):
    task = make_task(tiny_bert, ["a", "b", "c"], multi_label=True).eval()
    batch["labels"] = torch.randint(0, 2, (len(batch["row"]), 3)).float()
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "row")}
    torch.testing.assert_close(
        task.loss(task(**inputs), batch["labels"]), reference(task, tmp_path, batch)[1]
    )


def test_balanced_class_weights_are_scikit_learns(tiny_bert):
    from sklearn.utils.class_weight import compute_class_weight

    y = ["neg"] * 30 + ["pos"] * 10
    task = make_task(tiny_bert, label_counts=[30, 10], class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.array(["neg", "pos"]), y=y)
    assert task.class_weights.tolist() == pytest.approx(list(expected))


def test_class_weights_that_do_not_fit_are_refused(tiny_bert):
    with pytest.raises(ThawError, match="expected balanced, or 2 numbers"):
        make_task(tiny_bert, class_weights=[1.0, 2.0, 3.0])


def test_dropout_is_on_in_training_and_off_in_evaluation(tiny_bert, batch):
    task = make_task(tiny_bert)  # as from_pretrained and Lightning leave it
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "row")}
    assert not torch.equal(task(**inputs), task(**inputs))
    task.eval()
    assert torch.equal(task(**inputs), task(**inputs))


def test_frozen_modules_keep_their_dropout_off_in_training(tiny_bert):
    task = make_task(tiny_bert, freeze=HeadOnly())
    task.eval().train()
    assert not any(m.training for m in task.model.bert.encoder.modules())
    assert task.model.classifier.training


def test_a_frozen_sentence_encoder_points_to_what_is_better(tiny_bert, tmp_path, caplog):
    shutil.copytree(tiny_bert, tmp_path / "sentences")
    (tmp_path / "sentences" / "modules.json").write_text("[]")
    make_task(tiny_bert, freeze=HeadOnly())
    make_task(tmp_path / "sentences", freeze=LastBlocks(1))
    assert "task=setfit" not in caplog.text
    for freeze in (HeadOnly(), LastBlocks(0)):
        caplog.clear()
        make_task(tmp_path / "sentences", freeze=freeze)
        assert "task=setfit task.shots=null freeze=head" in caplog.text
        assert "freeze=last freeze.blocks=1" in caplog.text


def test_a_checkpoint_without_a_head_says_what_starts_fresh(tiny_bert, caplog):
    with caplog.at_level("INFO"):
        make_task(tiny_bert)
    assert "starting fresh: classifier.bias, classifier.weight" in caplog.text


def test_a_checkpoint_without_encoder_weights_is_refused(tiny_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    directory = tmp_path / "broken"
    directory.mkdir()
    (directory / "config.json").write_text((tiny_bert / "config.json").read_text())
    weights = load_file(tiny_bert / "model.safetensors")
    weights.pop("encoder.layer.0.output.dense.weight")
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ThawError, match="lacks 1 weights of the encoder"):
        make_task(directory)


def test_a_half_precision_checkpoint_is_trained_in_float32(tiny_bert, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert {p.dtype for p in make_task(tmp_path).parameters()} == {torch.float32}


def test_more_than_two_classes_train(run, tmp_path, tiny_bert):
    names = {"neg": ["1", "2"], "pos": ["3", "10"]}
    rows = [(t, names[label][i % 2]) for i, (t, label) in enumerate(sentences(80))]
    path = write_csv(tmp_path / "stars.csv", rows, ["review", "stars"])
    out = run(
        "data.path=null",
        f"data.train={path}",
        "data.validation=0.2",
        "data.test=0.2",
        "data.text=review",
        "data.label=stars",
        "trainer.max_epochs=1",
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert [k.split("/")[2] for k in metrics if k.startswith("test/f1/")] == ["1", "2", "3", "10"]
    assert metrics["test/f1"] == metrics["test/f1_macro"]
    assert "test/f1_binary" not in metrics


@pytest.mark.parametrize("form", ["separator", "lists"])
def test_several_labels_a_text_train(run, tmp_path, form):
    rows = [(t, [label, *(["long"] if len(t) > 60 else [])]) for t, label in sentences(80)]
    if form == "separator":
        joined = [(t, "|".join(labels)) for t, labels in rows]
        path = write_csv(tmp_path / "tags.csv", joined, ["text", "label"])
        extra = ["data.label_separator='|'"]
    else:
        path = tmp_path / "tags.jsonl"
        path.write_text("".join(json.dumps({"text": t, "label": la}) + "\n" for t, la in rows))
        extra = []
    out = run(
        "data.path=null",
        f"data.train={path}",
        "data.validation=0.2",
        "data.test=0.2",
        "trainer.max_epochs=1",
        *extra,
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"test/f1/long", "test/f1_micro", "test/accuracy"} <= set(metrics)
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert "top_k=None" in (out / "model" / "README.md").read_text()  # else the first label alone


def test_text_pairs_are_encoded_as_two_segments(tiny_bert, tmp_path):
    rows = [("good film", "bad film", "no"), ("a movie", "the movie", "yes")] * 4
    write_csv(tmp_path / "train.csv", rows, ["premise", "hypothesis", "label"])
    data = make_data(tiny_bert, str(tmp_path), text=["premise", "hypothesis"], validation=None)
    encoded = data.encoded["train"][0]
    tokens = data.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens == ["[CLS]", "good", "film", "[SEP]", "bad", "film", "[SEP]"]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_texts_that_are_cut_are_counted(tiny_bert, reviews, caplog):
    make_data(tiny_bert, str(reviews), max_tokens=8)
    assert "texts are longer than data.max_tokens=8 and cut" in caplog.text


@pytest.mark.parametrize("max_tokens", [2, 65])
def test_more_tokens_than_the_model_takes_are_refused(tiny_bert, reviews, max_tokens):
    with pytest.raises(ThawError, match="this model takes 3 to 64"):
        make_data(tiny_bert, str(reviews), max_tokens=max_tokens)


def test_a_label_that_train_lacks_is_refused(tiny_bert, reviews, tmp_path):
    path = write_csv(tmp_path / "test.csv", [("a film", "meh")], ["text", "label"])
    with pytest.raises(ThawError, match=r"test has labels that train lacks, .*: 'meh' \(1\);"):
        make_data(tiny_bert, None, train=str(reviews / "train.csv"), test=str(path))


def test_one_class_only_is_refused(tiny_bert, tmp_path):
    write_csv(tmp_path / "train.csv", [("a", "x"), ("b", "x"), ("c", "x")], ["text", "label"])
    with pytest.raises(ThawError, match="one class only"):
        make_data(tiny_bert, str(tmp_path), validation=None)


def test_texts_of_train_in_test_are_warned_of(tiny_bert, reviews, caplog):
    make_data(tiny_bert, str(reviews), test="train.csv")
    assert "texts are in train too" in caplog.text


def test_without_train_the_error_shows_a_whole_command(tiny_bert):
    with pytest.raises(ThawError, match=r"data\.train=reviews\.csv data\.text=review"):
        make_data(tiny_bert, None, train=None)
