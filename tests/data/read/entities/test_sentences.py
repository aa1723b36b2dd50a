"""Sentences out of rows of every shape."""

import pytest

from thaw.data.read.entities.sentences import read_sentences
from thaw.errors import ThawError

NAMES = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}


def read(tokens, tags):
    sentences = read_sentences([{"tokens": tokens, "tags": tags}], NAMES, None, "here")
    return list(sentences.texts[0]), sentences.labels[0]


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['Ida', \"d'Or\"]", "['B-PER', 'I-PER']"),
        ('["Ida", "d\'Or"]', '["B-PER", "I-PER"]'),
        ("Ida d'Or", "B-PER I-PER"),
        ("['Ida' \"d'Or\"]", "['B-PER' 'I-PER']"),  # numpy's
        (["Ida", "d'Or"], ["B-PER", "I-PER"]),
    ],
)
def test_lists_that_a_table_holds_as_text_are_read(tokens, tags):
    assert read(tokens, tags) == (["Ida", "d'Or"], ["B-PER", "I-PER"])


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['Ida' 'Ek', 'x']", "['B-PER', 'I-PER']"),  # Python would read two words as one
        ("['Ida' Ek]", "['B-PER' 'I-PER']"),
        ("Ida Ek", "B-PER"),
        ("Ida Ek", "PER ORG"),
        ("Ida", "B-PER"),
        ("[open", "['O']"),
    ],
)
def test_what_is_no_list_is_shown_with_the_way_to_read_a_word_a_row(tokens, tags):
    with pytest.raises(ThawError, match=r"row 1: tokens are .*expected a list\. .*data\.sentence="):
        read(tokens, tags)


def test_overlapping_spans_are_an_error_or_counted(caplog):
    row = {"text": "Ida Ek left", "spans": [[0, 6, "PER"], [4, 6, "ORG"], [7, 11, "X"]]}
    with pytest.raises(ThawError, match=r"row 1: spans .* overlap\. data\.overlaps=longest"):
        read_sentences([row], NAMES, None, "here")
    assert read_sentences([row], NAMES, None, "here", "longest").labels == [
        ["B-PER", "I-PER", "B-X"]
    ]
    assert "left out: 1 span overlapped by a longer one" in caplog.text


def test_a_table_with_a_word_a_row_is_recognized():
    rows = [{"Sentence #": "1", "Word": "Ida", "Tag": "O"}]
    with pytest.raises(
        ThawError, match=r"A row seems to be a word, and 'Sentence #' .*data\.tokens="
    ):
        read_sentences(rows, NAMES, None, "here")


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['Ida' 'Ek']", "['B-PER' 'I-PER']"),  # numpy's, which Python reads as one text
        ("Ida Ek", "['B-PER', 'I-PER']"),
        (["Ida", "Ek"], "B-PER I-PER"),
    ],
)
def test_words_and_tags_in_cells_may_be_written_in_two_ways(tokens, tags):
    assert read(tokens, tags) == (["Ida", "Ek"], ["B-PER", "I-PER"])
