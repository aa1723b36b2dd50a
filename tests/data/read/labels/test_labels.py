"""Values of a table become labels: names, lists, vectors, mappings, columns, or none."""

import math
import subprocess
import sys
from datetime import date
from decimal import Decimal

import pytest

from thaw.data.read.labels.names import (
    bracketed,
    distinct_name,
    in_order,
    label_names,
    normalized,
    option,
    shown,
    together,
    warn_of_alike,
    warn_of_odd,
    warn_of_undropped,
)
from thaw.data.read.row_values import Columns
from thaw.data.read.texts import read_texts
from thaw.errors import ThawError


def read(values, label="label", **options):
    rows = [{"text": f"text {i}", "label": value} for i, value in enumerate(values)]
    if not isinstance(label, str):
        rows = [{"text": f"text {i}", **value} for i, value in enumerate(values)]
    return read_texts(rows, Columns(["text"], label, **options), "a.csv")


def labels(values, **options):
    return read(values, **options).labels


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["pos", " neg "], ["pos", "neg"]),
        (["nan", "null", "None"], ["nan", "null", "None"]),  # strings are names
        ([1, 0, 7], ["1", "0", "7"]),
        ([1.0, 2.0], ["1", "2"]),
        ([Decimal("3"), Decimal("4.0")], ["3", "4"]),
        ([True, False], ["True", "False"]),
        (["007", "7"], ["007", "7"]),
        (["[removed]", "{x}", "[a b]"], ["[removed]", "{x}", "[a b]"]),
        ([["a", "b"], [], ["b"]], [["a", "b"], [], ["b"]]),
        ([["a", None, NAN], ["b", "b"]], [["a"], ["b"]]),
        ([[27], [3, 4], [0, 1]], [["27"], ["3", "4"], ["0", "1"]]),  # numbers of classes
        (["['a', 'b']", "['b']", "[]"], [["a", "b"], ["b"], []]),
        (['["a", "b"]', '["b"]'], [["a", "b"], ["b"]]),
        (["['a' 'b']", "['b']"], [["a", "b"], ["b"]]),
        (["{'a', 'b'}", "{'b'}"], [["a", "b"], ["b"]]),
        ([{"a": 1.0, "b": 0.0}, {"a": False, "b": True}], [["a"], ["b"]]),
        (["{'a': 1, 'b': 0}", '{"a": 0, "b": 1}'], [["a"], ["b"]]),
        ([{"a": 1, "b": None}, {"a": 0, "b": NAN}], [["a"], []]),
    ],
)
def test_values_are_read_as_labels(values, expected):
    assert labels(values) == expected


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]],
        [[1, 0, 0], [0, 1, 1]],
        [[True, False, False], [False, True, True]],
        ["[1, 0, 0]", "[0, 1, 1]"],
        ["[1. 0. 0.]", "[0. 1. 1.]"],
        ["[1 0 0]", "[0 1 1]"],
        [["1", "0", "0"], ["0", "1", "1"]],
    ],
)
def test_vectors_of_zeros_and_ones_have_the_names_of_their_places(values):
    names = ["drama", "comedy", "war"]
    assert labels(values, labels=names) == [["drama"], ["comedy", "war"]]
    hint = r"row 1: label is .* Name the labels.*data\.labels=\[label_0,label_1,label_2\]"
    with pytest.raises(ThawError, match=hint):
        labels(values)
    with pytest.raises(ThawError, match=r"expected 2 zeros and ones, one for each of data\.labels"):
        labels(values, labels=["drama", "comedy"])


def test_a_vector_of_two_is_one_although_its_first_row_could_be_numbers_of_classes():
    with pytest.raises(ThawError, match=r"row 1: label is \[0, 1\], zeros and ones"):
        labels([[0, 1], [1, 0], [0, 1]])
    assert labels([[0, 1], [1, 0]], labels=["no", "yes"]) == [["yes"], ["no"]]


def test_columns_of_zeros_and_ones_are_several_labels():
    rows = [
        {"toxic": "1", "threat": "0"},
        {"toxic": "0.0", "threat": "true"},
        {"toxic": 0, "threat": False},
        {"toxic": True, "threat": 1.0},
    ]
    found = read(rows, ["toxic", "threat"])
    assert found.labels == [["toxic"], ["threat"], [], ["toxic", "threat"]]
    with pytest.raises(
        ThawError, match=r"row 1: toxic is 'x'; expected 0 or 1.*data\.label=toxic,"
    ):
        read([{"toxic": "x", "threat": "0"}], ["toxic", "threat"])
    rows[1]["toxic"] = ""
    with pytest.raises(ThawError, match=r"1 row has no toxic or threat \(rows 2\)"):
        read(rows, ["toxic", "threat"])
    with pytest.raises(ThawError, match=r"no column 'obscene'.*data\.label=<column>"):
        read(rows, ["toxic", "obscene"])


def test_names_between_separators_may_be_missing_but_nan_is_no_name():
    assert labels(["a|b", "", " b | "], label_separator="|") == [["a", "b"], [], ["b"]]
    assert labels(["['a', 'b']"], label_separator=",") == [["a", "b"]]
    for missing in (None, NAN):
        with pytest.raises(ThawError, match=r"1 row has no label \(rows 2\)"):
            labels(["a|b", missing], label_separator="|")


@pytest.mark.parametrize("missing", [None, NAN, Decimal("NaN"), "", " \t", {}, {"a": None}])
def test_what_is_missing_is_no_label_and_left_out_when_asked_for(missing, caplog):
    with pytest.raises(ThawError, match=r"1 row has no label \(rows 2\) of 3\. data\.drop_unl"):
        read(["a", missing, "b"])
    found = read(["a", missing, "b"], drop_unlabelled=True)
    assert found.labels == ["a", "b"]
    assert found.source.rows == 3
    assert found.source.left_out == {"no label": 1}
    assert "left out: 1 no label" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (date(2020, 1, 2), r"row 2: label is datetime\.date\(2020, 1, 2\); expected a name"),
        (b"a", r"row 2: label is b'a'; expected a name"),
        ([["a"]], r"row 2: label is \['a'\]; expected a name, a list of names"),
        ([{"a": 1}], r"row 2: label is \{'a': 1\}; expected a name"),
        ({"a": 0.7}, r"row 2: label is \{'a': 0\.7\}; expected 0 or 1 for each name, not 0\.7"),
        ([0.3, 0.7], r"row 2: label is 0\.3; expected a name, or zeros and ones, in a list"),
    ],
)
def test_any_other_value_is_named_with_its_row(value, message):
    with pytest.raises(ThawError, match=message):
        labels(["a", value])


@pytest.mark.parametrize(
    "values", [[0.0, 3.7, 2.4], ["0.0", "3.7", "2.4"], ["0", "3,7", "2"], [1.0, math.inf]]
)
def test_scores_are_no_classes_unless_each_is_named(values):
    with pytest.raises(ThawError, match=r"numbers with fractions.*: scores\. task=regression"):
        labels(values)
    names = [str(v) for v in values]
    assert len(labels(names, labels=names)) == len(values)


def test_one_name_among_lists_is_a_list_of_one_object():
    found = labels([["a"], ["a"], ["a", "b"]])
    assert found[0] is found[1]


def test_a_row_with_a_label_to_drop_among_several_is_left_out():
    found = read([["a", "b"], ["b"], ["c"]], drop_labels=["a"])
    assert found.labels == [["b"], ["c"]]
    assert found.source.left_out == {"data.drop_labels": 1}


def test_empty_texts_and_missing_labels_are_answered_at_once():
    rows = [{"text": "a", "label": NAN}, {"text": NAN, "label": "x"}]
    message = r"1 row has no label .*drop_unlabelled=true.* 1 of 2 texts are empty.*drop_empty"
    with pytest.raises(ThawError, match=message):
        read_texts(rows, Columns(["text"], "label"), "a.csv")


@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"x", True])
def test_a_text_that_is_none_is_named_with_its_row(value):
    rows = [{"text": "a", "label": "x"}, {"text": value, "label": "x"}]
    with pytest.raises(ThawError, match=r"a\.csv: row 2: text is .*; expected a text"):
        read_texts(rows, Columns(["text"], "label"), "a.csv")


def test_texts_that_are_not_a_number_are_empty_and_numbers_are_texts():
    rows = [{"text": value, "label": "x"} for value in (NAN, None, 42, 2.5)]
    found = read_texts(rows, Columns(["text"], "label", drop_empty=True), "a.csv")
    assert found.texts == [("42",), ("2.5",)]
    assert found.source.left_out == {"empty text": 2}


def test_rows_without_a_group_are_groups_of_their_own(caplog):
    groups = ["a", None, NAN, "", 3, "a"]
    rows = [{"text": f"t{i}", "label": "x", "by": group} for i, group in enumerate(groups)]
    found = read_texts(rows, Columns(["text"], "label", group="by"), "a.csv").groups
    assert [found[i] for i in (0, 4, 5)] == ["a", "3", "a"]
    assert len(set(found)) == 5
    assert "3 rows have no by (rows 2, 3, 4); each is a group of its own" in caplog.text
    with pytest.raises(ThawError, match=r"row 1: by is \['a'\]; expected the name"):
        read_texts([rows[0] | {"by": ["a"]}], Columns(["text"], "label", group="by"), "a.csv")


# The order of names.


def test_the_order_of_names_is_the_same_in_every_process():
    code = (
        "from thaw.data.read.labels.names import label_names as f\n"
        "print(f(['1','1.0','2','2.0','nan'], None), f(['7','007','7.0','inf','3'], None),"
        "f(['1','1.0','01','2'], None), f([['b','a'],['1']], None))"
    )
    path = ":".join(sys.path)
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": path},
        ).stdout
        for seed in range(5)
    }
    assert found == {
        "['1', '1.0', '2', '2.0', 'nan'] ['007', '3', '7', '7.0', 'inf'] "
        "['01', '1', '1.0', '2'] ['1', 'a', 'b']\n"
    }


def test_numbers_are_in_order_of_value_then_of_name():
    assert in_order(["10", "9", "1.0", "1", "-2"]) == ["-2", "1", "1.0", "9", "10"]


# Names that look alike.

CAFE = ("caf\u00e9", "cafe\u0301")


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (CAFE, "caf\u00e9"),
        (("Pos", "pos", "pos\u200b", "\ufeffpos", "pos\u00ad"), "pos"),
        (("very  good", "Very good", "very\u00a0good", "very\tgood"), "very good"),
        (("1.0", "1", "1.00"), "1"),
    ],
)
def test_names_that_look_alike_are_normalized_to_one(names, name):
    assert {normalized(n) for n in names} == {name}
    assert together([*names, "other"], normalized) == [in_order(names)]
    assert set(labels(list(names), normalize_labels=True)) == {name}


def test_different_names_are_not_alike():
    assert together(["a", "b", "1", "10", "cafe", CAFE[0], "007", "7"], normalized) == []


def test_names_that_look_alike_are_shown_side_by_side_with_counts(caplog):
    warn_of_alike({CAFE[0]: 5, CAFE[1]: 3, "Pos": 1, "pos": 9, "neg": 2}, "a.csv")
    assert r"'Pos' (1) and 'pos' (9); 'cafe\u0301' (3) and 'caf\xe9' (5)" in caplog.text
    assert "data.normalize_labels=true" in caplog.text
    caplog.clear()
    warn_of_alike({"7": 1, "007": 2}, "a.csv")
    assert (
        "the same number in different writing, and different classes: '007' and '7'" in caplog.text
    )


def test_spellings_that_are_normalized_to_one_label_are_told(caplog):
    caplog.set_level("INFO")
    read(["Pos", "pos", "neg"], normalize_labels=True)
    assert "normalized to one label each: 'Pos' and 'pos'" in caplog.text
    caplog.clear()
    read(["pos", "neg"], normalize_labels=True)
    assert not caplog.text


def test_labels_to_drop_and_names_are_normalized_too():
    found = read(["Pos", "NEG", "neg\u200b"], drop_labels=["Neg"], normalize_labels=True)
    assert found.labels == ["pos"]


def test_labels_that_stay_although_they_look_like_a_dropped_one_are_told(caplog):
    warn_of_undropped(["caf\u00e9"], {"cafe\u0301": 4, "bar": 2}, "a.csv")
    assert r"names 'caf\xe9', and rows with 'cafe\u0301' (4) stay" in caplog.text


# Names in messages.


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b-c", "d_1"],
        ["a b", "caf\u00e9", "it's", 'say "x"', "a\\b", "back\\", 'q\\"', "a,b", "[x]", "$(x)"],
        ["1", "007", "null", "true", "nan", "1e3", "", " "],
    ],
)
def test_what_a_message_says_to_type_is_read_as_the_same_names(names):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = shlex.split(option("data.drop_labels", names))
    value = OverridesParser.create().parse_override(word).value()
    assert [str(v) for v in value] == names
    assert bracketed(names) in word


def test_names_are_shown_with_escapes_where_they_look_like_others():
    assert shown("caf\u00e9") == "'caf\u00e9'"
    assert shown("cafe\u0301") == r"'cafe\u0301'"
    assert shown("pos\u200b") == r"'pos\u200b'"
    assert shown("Stra\u00dfe 1.0") == "'Stra\u00dfe 1.0'"
    assert distinct_name("cafe\u0301") == r"cafe\u0301"


def test_given_names_that_do_not_cover_the_labels_are_answered_with_all_that_lack():
    with pytest.raises(ThawError, match=r"does not name: 'b' \(2\), 'c d' \(1\)\."):
        label_names(["a", "b", "b", "c d"], ["a"])


def test_a_record_without_the_key_of_its_label_has_no_label():
    rows = [{"text": "a"}, {"text": "b", "label": "x"}, {"text": "c", "label": "y"}]
    with pytest.raises(ThawError, match=r"1 row has no label \(rows 1\) of 3"):
        read_texts(rows, Columns(["text"], "label"), "here")
    columns = Columns(["text"], "label", drop_unlabelled=True)
    assert read_texts(rows, columns, "here").labels == ["x", "y"]
    with pytest.raises(ThawError, match=r"has no column 'Label'; .*Set data\.label=label\."):
        read_texts(rows, Columns(["text"], "Label"), "here")


def test_a_column_within_another_one_is_answered():
    with pytest.raises(ThawError, match=r"'text' is within 'data': .*data\.reader"):
        read_texts([{"data": {"text": "a"}, "label": "x"}], Columns(["text"], "label"), "here")


@pytest.mark.parametrize("minus", [-1, "-1", -1.0])
def test_minus_one_in_columns_of_zeros_and_ones_is_no_label(minus):
    rows = [{"text": "a", "x": minus, "y": minus}, {"text": "b", "x": 1, "y": 0}]
    columns = Columns(["text"], ["x", "y"], drop_unlabelled=True)
    assert read_texts(rows, columns, "here").labels == [["x"]]


def test_labels_that_say_that_there_is_none_or_that_are_several_are_told(caplog):
    warn_of_odd({"nan": 2, "-": 1, "a": 5, "a;b": 3, "N.A.": 1, "c/d": 1}, "here")
    assert (
        "classes like the others: 'nan' (2), '-' (1). 'data.drop_labels=[\"nan\",\"-\"]'"
        in caplog.text
    )
    assert "are a class each: 'a;b' (3). \"data.label_separator=';'\"" in caplog.text
    assert "c/d" not in caplog.text


def test_numbers_with_commas_may_be_several_labels():
    rows = [{"text": "a", "label": "2,5"}, {"text": "b", "label": "1"}]
    with pytest.raises(ThawError, match=r"scores.*\"data\.label_separator=','\""):
        read_texts(rows, Columns(["text"], "label"), "here")
