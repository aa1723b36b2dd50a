"""Text with character spans, and words in a text."""

import pytest

from thaw.data.read.entities.spans import Span, longest, places_of, read_spans, tags_of, words_of
from thaw.errors import ThawError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Maarten lives in N.Y.!", ["Maarten", "lives", "in", "N", ".", "Y", ".", "!"]),
        ("  don't\n@you ", ["don", "'", "t", "@", "you"]),
        ("我在London住", ["我", "在", "London", "住"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("e\u0301t\u00e9 👩‍👩‍👧 ok", ["e\u0301t\u00e9", "👩‍👩‍👧", "ok"]),
        (" \t", []),
    ],
)
def test_words_of_a_text(text, words):
    assert [text[a:b] for a, b in words_of(text)] == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("U.N. aid, he said.", ["U.N.", "aid", ",", "he", "said", "."]),
        ("TX-Fort Worth's AT&T (3.5%)", ["TX-Fort", "Worth's", "AT&T", "(", "3.5", "%", ")"]),
        ("@you #nyc http://a.b/c?d=e!", ["@you", "#nyc", "http://a.b/c?d=e!"]),
        ("我在London住", ["我", "在", "London", "住"]),
    ],
)
def test_words_of_a_text_as_corpora_have_them(text, words):
    assert [text[a:b] for a, b in words_of(text, fine=False)] == words


def test_places_of_words_joined_by_spaces():
    words = ["Maarten", "is", "here"]
    assert [" ".join(words)[a:b] for a, b in places_of(words)] == words


TEXT = "Maarten Grootendorst lives in Tilburg."


@pytest.mark.parametrize(
    "value",
    [
        [[30, 37, "LOC"], [0, 20, "PER"]],
        [{"start": 30, "end": 37, "label": "LOC"}, {"start": 0, "end": 20, "label": "PER"}],
        [(30, 37, "LOC"), (0, 20, "PER")],
    ],
)
def test_spans_are_read_in_both_forms_and_sorted(value):
    assert read_spans(value, TEXT, "row 1") == [Span(0, 20, "PER"), Span(30, 37, "LOC")]


def test_spans_become_tags_of_words():
    tags = tags_of(words_of(TEXT), read_spans([[0, 20, "PER"], [30, 37, "LOC"]], TEXT, ""), "")
    assert tags == (["B-PER", "I-PER", "O", "O", "B-LOC", "O"], [])


def test_a_span_that_cuts_a_word_is_widened_to_it():
    spans = [Span(2, 20, "PER"), Span(30, 33, "LOC")]
    tags, widened = tags_of(words_of(TEXT), spans, "")
    assert tags == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    assert widened == spans


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0, 5, "A"], [4, 8, "B"]], r"row 3: spans \[0, 5, 'A'\] and \[4, 8, 'B'\] overlap"),
        ([[30, 39, "LOC"]], r"row 3: span \[30, 39, 'LOC'\] is empty or leaves the text of 38"),
        ([[-1, 3, "LOC"]], "leaves the text"),
        ([[3, 3, "LOC"]], "is empty"),
        ([[3, 4]], r"row 3: span \[3, 4\]; expected \[start, end, label\]"),
        ([{"start": 3}], "expected"),
        ([[3, 4, 7]], "expected"),
        (["PER"], "expected"),
        ([[0, 7, "B-PER"]], r"'B-PER' is no type such as PER"),
        ([[7, 8, "LOC"]], r"span \[7, 8, 'LOC'\] holds no word"),
        ([[0, 3, "A"], [3, 7, "B"]], "two spans share the word at 0 to 7"),
    ],
)
def test_bad_spans_are_explained_with_the_row(value, message):
    with pytest.raises(ThawError, match=message):
        tags_of(words_of(TEXT), read_spans(value, TEXT, "row 3"), "row 3")


@pytest.mark.parametrize("value", [True, 1.5, {"start": 0}, "spans"])
def test_spans_are_a_list(value):
    with pytest.raises(ThawError, match="expected a list"):
        read_spans(value, "Jan", "row 1")


def test_the_longest_of_spans_that_overlap_is_kept():
    value = [[0, 3, "A"], [0, 12, "B"], [11, 20, "C"], [20, 24, "D"], [20, 24, "E"]]
    with pytest.raises(ThawError, match=r"overlap\. data\.overlaps=longest keeps the longest"):
        read_spans(value, "x" * 30, "row 1")
    spans = read_spans(value, "x" * 30, "row 1", "longest")
    assert len(spans) == 5
    assert longest(spans) == [Span(0, 12, "B"), Span(20, 24, "D")]


def test_of_spans_that_cut_one_word_the_first_has_it():
    words = words_of("Ida Ek")
    spans = [Span(0, 2, "A"), Span(2, 6, "B")]
    with pytest.raises(ThawError, match=r"two spans share the word at 0 to 3.*overlaps=longest"):
        tags_of(words, spans, "row 1")
    assert tags_of(words, spans, "row 1", "longest")[0] == ["B-A", "B-B"]


def test_spans_of_tools_have_other_names():
    value = [
        {"start_offset": 0, "end_offset": 3, "label": "PER"},
        {"start": 4, "end": 6, "labels": ["LOC"], "text": "Ek"},
    ]
    assert read_spans(value, "Ida Ek", "row 1") == [Span(0, 3, "PER"), Span(4, 6, "LOC")]


def test_spans_that_browsers_counted_are_found_by_their_text():
    text = "\U0001f600\U0001f600 Ida left"
    span = {"start": 5, "end": 8, "label": "PER", "text": "Ida"}
    assert read_spans([span], text, "row 1") == [Span(3, 6, "PER")]
    with pytest.raises(ThawError, match=r"span \[5, 8\] says 'Eva', and there stands 'a l'"):
        read_spans([span | {"text": "Eva"}], text, "row 1")
