"""Tables of the scores of a run."""

from thaw.report.tables import score_tables


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
