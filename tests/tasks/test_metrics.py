import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from thaw.errors import ThawError
from thaw.tasks.losses import WeightedMean
from thaw.tasks.metrics.classification import (
    classification_metrics,
    per_class_metrics,
    predicted_classes,
    update_scores,
)


def in_batches(metrics, predicted, true):
    for p, t in zip(np.array_split(predicted, 7), np.array_split(true, 7), strict=True):
        metrics.update(torch.tensor(p), torch.tensor(t))
    return {k: v.numpy() for k, v in metrics.compute().items()}


@pytest.mark.parametrize(("classes", "average"), [(2, "binary"), (5, "macro")])
def test_scores_equal_scikit_learns(classes, average):
    rng = np.random.default_rng(classes)
    true, predicted = rng.integers(0, classes, size=(2, 500))
    labels = [f"c{i}" for i in range(classes)]
    got = in_batches(classification_metrics(labels, False), predicted, true)
    assert got["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert got["f1"] == pytest.approx(f1_score(true, predicted, average=average))
    assert got["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert got["precision"] == pytest.approx(precision_score(true, predicted, average=average))
    assert got["recall"] == pytest.approx(recall_score(true, predicted, average=average))
    assert ("f1_binary" in got) == (classes == 2)


def test_scores_of_each_class_and_the_confusion_matrix_equal_scikit_learns():
    true, predicted = np.random.default_rng(1).integers(0, 4, size=(2, 300))
    got = in_batches(per_class_metrics(list("abcd"), False), predicted, true)
    assert got["f1"] == pytest.approx(f1_score(true, predicted, average=None))
    assert got["precision"] == pytest.approx(precision_score(true, predicted, average=None))
    assert (got["confusion"] == confusion_matrix(true, predicted)).all()


def test_scores_of_several_labels_equal_scikit_learns():
    true, predicted = np.random.default_rng(2).integers(0, 2, size=(2, 300, 3))
    got = in_batches(classification_metrics(list("abc"), True), predicted, true)
    assert got["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert got["f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert got["f1_micro"] == pytest.approx(f1_score(true, predicted, average="micro"))


NEW = ["mcc", "auroc", "average_precision"]


def scored(logits, true, multi_label, names=None, monitor=""):
    """The metrics of seven batches."""
    labels = [f"c{i}" for i in range(logits.shape[1])]
    scores = classification_metrics(labels, multi_label, names, monitor)
    for x, y in zip(np.array_split(logits, 7), np.array_split(true, 7), strict=True):
        update_scores(scores, torch.tensor(x), torch.tensor(y), multi_label)
    return {name: float(value) for name, value in scores.compute().items()}


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_of_one_label_a_text_equal_scikit_learns(classes):
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, size=300)
    logits = rng.normal(size=(300, classes)) + np.eye(classes)[true]
    chances = torch.softmax(torch.tensor(logits), -1).numpy()
    got = scored(logits, true, False, [*NEW, "balanced_accuracy"])
    positive = chances[:, 1] if classes == 2 else chances
    one_hot = true if classes == 2 else np.eye(classes)[true]
    assert got == {
        "mcc": pytest.approx(matthews_corrcoef(true, logits.argmax(1)), abs=1e-6),
        "auroc": pytest.approx(roc_auc_score(true, positive, multi_class="ovr"), abs=1e-6),
        "average_precision": pytest.approx(average_precision_score(one_hot, positive), abs=1e-6),
        "balanced_accuracy": pytest.approx(balanced_accuracy_score(true, logits.argmax(1))),
    }


def test_metrics_of_several_labels_a_text_equal_scikit_learns():
    rng = np.random.default_rng(3)
    true = rng.integers(0, 2, size=(300, 4))
    logits = rng.normal(size=(300, 4)) + true - 0.5
    got = scored(logits, true.astype(np.float32), True, NEW)
    assert got == {
        "mcc": pytest.approx(matthews_corrcoef(true.ravel(), (logits > 0).ravel()), abs=1e-6),
        "auroc": pytest.approx(roc_auc_score(true, logits), abs=1e-6),
        "average_precision": pytest.approx(average_precision_score(true, logits), abs=1e-6),
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_classes_that_do_not_occur_are_left_out_of_means():
    rng = np.random.default_rng(4)
    true = rng.integers(0, 2, size=60)  # of three classes
    logits = rng.normal(size=(60, 3))
    got = scored(logits, true, False, [*NEW, "balanced_accuracy"])
    chances = torch.softmax(torch.tensor(logits), -1).numpy()
    aucs = [roc_auc_score(true == c, chances[:, c]) for c in (0, 1)]
    precisions = [average_precision_score(true == c, chances[:, c]) for c in (0, 1)]
    assert got["auroc"] == pytest.approx(np.mean(aucs), abs=1e-6)
    assert got["average_precision"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert got["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(true, logits.argmax(1))
    )
    assert scored(logits, np.zeros(60, dtype=int), False, ["auroc"]) == {"auroc": 0.0}


def test_the_metrics_that_are_shown_can_be_chosen_and_the_watched_one_is_among_them():
    logits, true = np.random.default_rng(5).normal(size=(20, 2)), np.arange(20) % 2
    assert set(scored(logits, true, False, ["mcc"], "val/auroc")) == {"mcc", "auroc"}
    assert set(scored(logits, true, False, ["auroc"])) == {"auroc"}
    usual = {"accuracy", "f1", "f1_macro", "f1_binary", "precision", "recall"}
    assert set(scored(logits, true, False)) == usual
    with pytest.raises(
        ThawError,
        match=r"these labels have no f1_micro; they have f1, precision, ",
    ):
        scored(logits, true, False, ["f1_micro"])


def rank_scores(rank, world, path, logits, true):
    """Computes the metrics in one of several processes, of which the last has no text."""
    torch.distributed.init_process_group("gloo", f"file://{path}", rank=rank, world_size=world)
    scores = classification_metrics(["a", "b", "c"], False, [*NEW, "balanced_accuracy"])
    if rank < world - 1:
        part = slice(rank, None, world - 1)
        update_scores(scores, logits[part], true[part], False)
    found = {name: float(value) for name, value in scores.compute().items()}
    torch.save(found, f"{path}.{rank}")
    torch.distributed.destroy_process_group()


def test_metrics_of_several_processes_are_those_of_all_texts(tmp_path):
    rng = np.random.default_rng(6)
    logits, true = torch.tensor(rng.normal(size=(31, 3))), torch.tensor(rng.integers(0, 3, 31))
    path = str(tmp_path / "meet")
    torch.multiprocessing.start_processes(
        rank_scores, (3, path, logits, true), 3, start_method="fork"
    )
    expected = scored(logits.numpy(), true.numpy(), False, [*NEW, "balanced_accuracy"])
    for rank in range(3):
        assert torch.load(f"{path}.{rank}", weights_only=True) == pytest.approx(expected)


def test_a_label_is_predicted_where_its_probability_exceeds_a_half():
    logits = torch.tensor([[0.1, -0.1], [-3.0, 2.0]])
    assert predicted_classes(logits, True).tolist() == [[1, 0], [0, 1]]
    assert predicted_classes(logits, False).tolist() == [0, 1]


def test_a_mean_counts_each_batch_by_its_weight_and_shows_a_nan():
    mean = WeightedMean()
    mean.update(torch.tensor(1.0), 1)
    mean.update(torch.tensor(3.0), torch.tensor(3))
    assert mean.compute() == 2.5
    mean.update(torch.tensor(float("nan")), 1)
    assert mean.compute().isnan()
