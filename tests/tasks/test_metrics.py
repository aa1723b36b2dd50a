import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from thaw.tasks.metrics import (
    WeightedMean,
    classification_metrics,
    per_class_metrics,
    predicted_classes,
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
