"""Rows to checked texts and splits."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.data.read.labels.names import label_names, names_in
from thaw.data.read.row_values import Columns, input_lacks
from thaw.data.read.sampling.folds import held_out
from thaw.data.read.sampling.splits import cut
from thaw.data.read.texts import Texts, read_texts
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
    assert "left out: 1 empty text" in caplog.text


def test_a_row_without_a_label_is_an_error():
    with pytest.raises(ThawError, match=r"1 row has no label \(rows 2\) of 2\. data\.drop_unlab"):
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
    with pytest.raises(
        ThawError, match=r"data\.labels=\[rotten,fresh\] does not name: 'plot' \(1\)"
    ):
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


def test_a_fraction_of_0_is_answered_with_the_option_that_goes_without():
    message = (
        r"^cannot cut data\.validation=0, data\.test=0\.2 .* data\.validation=null goes without"
    )
    with pytest.raises(ThawError, match=message):
        cut(many(10), {"validation": 0.0, "test": 0.2}, seed=0)


def test_repeated_texts_are_told_where_too_few_different_ones_are_left(caplog):
    data = Texts([(f"text {i % 2}",) for i in range(100)], ["a", "b"] * 50, [], "some.csv")
    with pytest.raises(ThawError, match=r"data\.validation=0\.1.* 100 rows with 2 distinct texts"):
        cut(data, {"validation": 0.1}, 0, labels=[["a"], ["b"]] * 50)
    with pytest.raises(ThawError, match="2 of 2 labels have one distinct text, and"):
        cut(data, {"validation": 0.1}, 0)
    assert "2 labels have too few distinct texts for validation" in caplog.text


def test_too_few_rows_to_cut_is_an_error():
    with pytest.raises(ThawError, match="too few"):
        cut(many(3), {"validation": 0.1}, seed=0)


def labels_of(split):
    return {name for label in split.labels for name in names_in(label)}


def test_labels_with_one_text_stay_in_train_and_are_named_in_one_warning(caplog):
    names = ["a", "b"] * 20 + [f"rare-{i}" for i in range(12)]
    data = Texts([(f"text {i}",) for i in range(52)], names, [], "some.csv")
    for seed in range(4):
        caplog.clear()
        splits = cut(data, {"validation": 0.2, "test": 0.1}, seed)
        assert {name: len(split) for name, split in splits.items()} == {
            "test": 5,
            "validation": 10,
            "train": 37,
        }
        assert labels_of(splits["train"]) == set(names)
        assert Counter(splits["validation"].labels) == {"a": 5, "b": 5}
        (record,) = caplog.records
        assert "12 labels have too few texts for validation and test" in record.message
        assert "'rare-0' (1), 'rare-1' (1)" in record.message
        assert record.message.endswith("and 2 more")


def test_where_all_labels_have_one_text_the_message_says_what_to_type():
    data = Texts([(f"text {i}",) for i in range(20)], [str(i) for i in range(20)], [], "some.csv")
    with pytest.raises(ThawError, match=r"20 of 20 labels have one text.*data\.validation=null"):
        cut(data, {"validation": 0.2}, 0)


def test_more_labels_than_texts_of_a_split_are_cut_at_random_and_told(caplog):
    names = [f"n{i % 30}" for i in range(60)] + ["common"] * 40
    data = Texts([(f"text {i}",) for i in range(100)], names, [], "some.csv")
    splits = cut(data, {"validation": 0.1}, 0)
    assert len(splits["validation"]) == 10
    assert splits["validation"].labels.count("common") == 4
    assert labels_of(splits["train"]) == set(names)
    assert "30 labels have too few texts for equal shares" in caplog.text


def test_a_group_that_alone_has_a_label_is_in_train(caplog):
    data = many(300, groups=30)
    test = cut(data, {"test": 0.3}, 0)["test"]
    data.labels = ["own" if group == test.groups[0] else "other" for group in data.groups]
    splits = cut(data, {"test": 0.3}, 0)
    assert labels_of(splits["train"]) == {"own", "other"}
    assert test.groups[0] not in splits["test"].groups
    assert set(test.groups) - {test.groups[0]} == set(splits["test"].groups)
    assert f"such as '{test.groups[0]}': 'own' (10)" in caplog.text


LABELS = st.one_of(
    st.sampled_from("abcdefgh"),
    st.lists(st.sampled_from("abcdefgh"), max_size=3).map(lambda x: list(dict.fromkeys(x))),
)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), LABELS, st.integers(0, 6)), min_size=1, max_size=40
    ),
    several=st.sampled_from([str, list]),
    grouped=st.booleans(),
    validation=st.sampled_from([0.1, 0.3, 0.5]),
    test=st.sampled_from([None, 0.2, 0.4]),
    folds=st.sampled_from([None, 2, 3]),
    seed=st.integers(0, 3),
)
def test_no_cut_leaves_a_label_to_evaluation_alone(
    rows, several, grouped, validation, test, folds, seed
):
    rows = [row for row in rows if isinstance(row[1], several)]
    data = Texts(
        [(f"text {text}",) for text, _, _ in rows],
        [label for _, label, _ in rows],
        [f"group {group}" for _, _, group in rows] if grouped else [],
        "some.csv",
    )
    fractions = {"validation": validation} | ({} if test is None else {"test": test})
    held = None
    try:
        if folds is not None:
            fractions.pop("test", None)
            held = {"test": held_out(data, data.labels, folds, 0, seed)}
        splits = cut(data, fractions, seed, held)
    except ThawError:
        return
    assert splits.keys() == {"train", *fractions, *(held or {})}
    there = set()
    for name, split in splits.items():
        assert len(split)
        assert labels_of(split) <= labels_of(splits["train"])
        assert not there & set(split.texts)
        there |= set(split.texts)
        if grouped:
            others = {g for s, other in splits.items() if s != name for g in other.groups}
            assert not others & set(split.groups)
    assert there == set(data.texts)


PROCESS = """
import random
from thaw.data.read.sampling.few_shots import distinct, draw
from thaw.data.read.sampling.folds import held_out
from thaw.data.read.labels.names import label_names
from thaw.data.read.row_values import Columns
from thaw.data.read.sampling.splits import cut
from thaw.data.read.texts import read_texts

names = ["1", "1.0", "01", "2", "2.0", "nan", "caf\\u00e9", "cafe\\u0301", "rare"]
for several, group in ((False, None), (True, None), (False, "by")):
    chance = random.Random(0)
    rows = []
    for number in range(120):
        label = chance.sample(names[:-1], 2) if several else chance.choice(names[:-1])
        text = f"text {chance.randrange(90)}"
        rows.append({"text": text, "label": label, "by": chance.choice([*"abcdefghijkl", None])})
    rows[7]["label"] = ["rare"] if several else "rare"
    data = read_texts(rows, Columns(["text"], "label", group=group), "here")
    print(label_names(data.labels, None), held_out(data, data.labels, 3, 1, 0).tolist())
    for split in cut(data, {"validation": 0.2, "test": 0.2}, 1).values():
        print(list(split.texts), split.labels)
    print(list(draw(distinct(data), 1, 0).texts))
"""


def test_ranks_and_later_processes_read_the_same_labels_and_splits():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROCESS],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1
    assert found.pop().count("\n") == 15


def test_prediction_says_where_a_column_is_nested():
    row = {"id": 1, "review": {"text": "good"}}
    for name in ("text", "review.text"):
        said = str(input_lacks([name], row))
        assert f"no column {name!r}; it has 'id', 'review'. Set text=<column>." in said
        assert f"{name!r} is within 'review': data.reader=my_reader.rows" in said
    assert "reader" not in str(input_lacks(["body"], row))
