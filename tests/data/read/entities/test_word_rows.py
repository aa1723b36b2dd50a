"""Tables with a word a row."""

import logging
from dataclasses import replace

import pytest

from thaw.data.read.entities.word_rows import sentences_of_words
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

NAMES = Reading(tokens="Word", tags="Tag")


def table(*rows, columns=("Sentence #", "Word", "Tag")):
    return [dict(zip(columns, row, strict=True)) for row in rows]


def joined(rows, column=None):
    out = sentences_of_words(iter(rows), replace(NAMES, sentence=column), "here")
    return [(row["Word"], row["Tag"]) for row in out]


def test_a_sentence_goes_on_until_its_column_has_another_value(caplog):
    caplog.set_level(logging.INFO)
    rows = table(("S 1", "Ida", "B-PER"), ("", "left", "O"), (None, ".", "O"), ("S 2", "No", "O"))
    expected = [(["Ida", "left", "."], ["B-PER", "O", "O"]), (["No"], ["O"])]
    assert joined(rows) == expected
    assert "a word a row; sentences by its column 'Sentence #'" in caplog.text
    every = table((0, "Ida", "B-PER"), (0, "left", "O"), (0, ".", "O"), (1, "No", "O"))
    assert joined(every, "Sentence #") == expected


def test_rows_that_hold_lists_are_left_as_they_are():
    rows = [{"Sentence #": 1, "Word": ["Ida"], "Tag": ["O"]}]
    assert list(sentences_of_words(iter(rows), NAMES, "here")) == rows
    rows = [{"Sentence #": 1, "Word": "['Ida', 'left']", "Tag": "['O', 'O']"}]
    assert list(sentences_of_words(iter(rows), NAMES, "here")) == rows


def test_empty_words_keep_their_place_and_are_counted(caplog):
    assert joined(table(("1", "a", "O"), ("1", " ", "O"), ("1", None, "O")))[0][0] == [
        "a",
        "_",
        "_",
    ]
    assert "2 words are empty and read as '_'" in caplog.text


def test_rows_out_of_order_are_warned_of(caplog):
    assert len(joined(table(("1", "a", "O"), ("2", "b", "O"), ("1", "c", "O")))) == 3
    assert "1 values of 'Sentence #' return after another one" in caplog.text


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(ThawError, match=r"no column 'id'; it has 'Sentence #', 'Word', 'Tag'"):
        joined(table(("1", "a", "O")), "id")
    with pytest.raises(ThawError, match=r"row 1 has no 'Sentence #', and a sentence begins where"):
        joined(table(("", "a", "O")))


@pytest.mark.parametrize("blank", ["", ",", " , "])
def test_blank_rows_end_sentences_where_no_column_numbers_them(tmp_path, blank, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.csv"
    path.write_text(f"word,tag\nIda,B-PER\nleft,O\n{blank}\n{blank}\nOslo,B-LOC\n{blank}\n")
    rows = list(rows_of(path, Reading(words=True, tokens="word", tags="tag")))
    assert [(row["word"], row["tag"]) for row in rows] == [
        (["Ida", "left"], ["B-PER", "O"]),
        (["Oslo"], ["B-LOC"]),
    ]
    assert "a word a row; sentences by blank rows" in caplog.text


def test_blank_lines_among_lists_of_words_end_nothing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("tokens,tags\nIda left,B-PER O\n\nOslo,B-LOC\n")
    assert len(list(rows_of(path, Reading(words=True)))) == 2
