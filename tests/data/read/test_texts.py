"""Rows to checked texts and splits."""

import pytest

from thaw.data.read.splits import cut
from thaw.data.read.texts import Columns, Texts, label_names, read_texts
from thaw.errors import ThawError

PLAIN = Columns(text=["text"], label="label")


def rows(*pairs):
    return [{"text": text, "label": label} for text, label in pairs]


def many(count, classes=2, groups=None):
    return Texts(
        [(f"text {i}",) for i in range(count)],
        [str(i % classes) for i in range(count)],
        [str(i % groups) for i in range(count)] if groups else [],
        "some.csv",
    )


def test_a_missing_column_lists_those_found_and_the_option():
    columns = Columns(text=["review"], label="label")
    with pytest.raises(ThawError, match=r"no column 'review'; it has 'text', 'label'.*data\.text="):
        read_texts(rows(("a", "b")), columns, "a.csv")


def test_no_rows_is_an_error():
    with pytest.raises(ThawError, match=r"a\.csv has no rows"):
        read_texts([], PLAIN, "a.csv")


def test_empty_and_null_texts_are_counted_with_their_rows():
    data = rows(("a", "x"), ("", "x"), ("  ", "y"), (None, "y"))
    with pytest.raises(
        ThawError, match=r"3 of 4 texts are empty or null \(rows 2, 3, 4\).*drop_em"
    ):
        read_texts(data, PLAIN, "a.csv")


def test_empty_texts_are_dropped_when_asked_for_and_counted(caplog):
    columns = Columns(text=["text"], label="label", drop_empty=True)
    texts = read_texts(rows(("a", "x"), ("", "x")), columns, "a.csv")
    assert texts.texts == [("a",)]
    assert "1 empty texts left out of 2" in caplog.text


def test_a_row_without_a_label_is_an_error():
    with pytest.raises(ThawError, match=r"1 rows have no label \(rows 2\)"):
        read_texts(rows(("a", "x"), ("b", "")), PLAIN, "a.csv")


def test_words_that_other_readers_take_for_null_are_texts():
    texts = read_texts(rows(("NA", "x"), ("null", "None")), PLAIN, "a.csv")
    assert texts.texts == [("NA",), ("null",)]
    assert texts.labels == ["x", "None"]


def test_labels_to_drop_leave_with_their_rows():
    columns = Columns(text=["text"], label="label", drop_labels=["plot"])
    assert len(read_texts(rows(("a", "x"), ("b", "plot")), columns, "a.csv")) == 1


def test_integer_labels_are_ordered_by_value():
    assert label_names(["10", "9", "1"], None) == ["1", "9", "10"]


def test_names_are_sorted_or_as_given():
    assert label_names(["rotten", "fresh"], None) == ["fresh", "rotten"]
    assert label_names(["rotten", "fresh"], ["rotten", "fresh"]) == ["rotten", "fresh"]


def test_a_label_outside_the_given_names_is_an_error():
    with pytest.raises(ThawError, match=r"\['plot'\] that data\.labels"):
        label_names(["rotten", "fresh", "plot"], ["rotten", "fresh"])


def test_a_stratified_cut_keeps_the_shares_and_follows_the_seed():
    data = many(100, classes=4)
    splits = cut(data, {"validation": 0.2}, seed=1)
    assert [splits["validation"].labels.count(str(c)) for c in range(4)] == [5] * 4
    assert splits["validation"].texts == cut(data, {"validation": 0.2}, seed=1)["validation"].texts
    assert splits["validation"].texts != cut(data, {"validation": 0.2}, seed=2)["validation"].texts


def test_groups_never_fall_into_two_splits():
    splits = cut(many(1000, groups=100), {"validation": 0.1, "test": 0.1}, seed=0)
    groups = [set(texts.groups) for texts in splits.values()]
    assert sum(map(len, groups)) == 100
    assert 40 < len(splits["test"]) < 170


def test_a_cut_by_group_does_not_depend_on_the_other_rows():
    whole, part = many(1000, groups=100), many(500, groups=100)
    test = set(cut(whole, {"test": 0.1}, seed=0)["test"].groups)
    assert set(cut(part, {"test": 0.1}, seed=9)["test"].groups) == test


def test_a_text_in_two_splits_stays_in_the_evaluated_one():
    data = many(200, groups=50)
    data.texts = [(f"text {i % 120}",) for i in range(200)]
    splits = cut(data, {"test": 0.2}, seed=0)
    assert not set(splits["train"].texts) & set(splits["test"].texts)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.5])
def test_a_fraction_outside_0_and_1_is_an_error(fraction):
    with pytest.raises(ThawError, match="fractions lie between 0 and 1"):
        cut(many(10), {"test": fraction}, seed=0)


def test_too_few_rows_to_cut_is_an_error():
    with pytest.raises(ThawError, match="too few"):
        cut(many(3), {"validation": 0.1}, seed=0)
