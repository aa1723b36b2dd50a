"""Tables of the scores of a run."""

import pytest

from thaw.data.summary import DataSummary, SplitSummary
from thaw.report.tables import data_tables, score_tables


@pytest.mark.parametrize(
    ("texts", "column"), [(4, "share of train"), (3, "share of labels in train")]
)
def test_the_share_of_a_label_says_what_it_is_of(texts, column):
    summary = DataSummary("own", 64, [], {"train": SplitSummary(texts, 0, {"a": 3, "b": 1})})
    labels = data_tables(summary)[-1]
    assert labels.columns[-1] == column
    assert [row[-1] for row in labels.rows] == ["75.0%", "25.0%"]


def test_a_score_of_two_names_is_shown_once():
    two = {"test/f1": 0.5, "test/f1_macro": 0.4, "test/f1_binary": 0.5, "test/accuracy": 0.6}
    assert [row[0] for row in score_tables(two)[0].rows] == ["f1", "f1_macro", "accuracy"]
    more = {"test/f1": 0.5, "test/f1_macro": 0.5, "test/f1_micro": 0.6}
    assert [row[0] for row in score_tables(more)[0].rows] == ["f1", "f1_micro"]


def test_a_label_without_a_text_has_no_score():
    scores = {"f1": (0.0, 0.5), "precision": (0.0, 0.5), "support": (0, 7)}
    metrics = {
        f"test/{n}/{label}": v
        for n, both in scores.items()
        for label, v in zip("ab", both, strict=True)
    }
    assert score_tables(metrics)[-1].rows == [["a", "-", "-", 0], ["b", 0.5, 0.5, 7]]


def test_without_scores_there_is_no_table():
    assert score_tables({"fit_seconds": 3.0}) == []
