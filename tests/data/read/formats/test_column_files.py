"""Column files, and the schemes their tags are in."""

import gzip
import logging

import pytest

from thaw.data.read.entities.tag_schemes import find_scheme, to_iob2
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP I-ORG
rejects VBZ B-VP O
German JJ B-NP I-MISC

Peter NNP B-NP I-PER
Blackburn NNP I-NP I-PER
"""


def rows(tmp_path, text, **options):
    path = tmp_path / "a.conll"
    path.write_bytes(text.encode())
    return list(rows_of(path, Reading(format="columns", **options)))


def test_sentences_end_at_blank_lines_and_docstart_is_passed_over(tmp_path):
    assert rows(tmp_path, CONLL) == [
        {"tokens": ["EU", "rejects", "German"], "line": 3, "tags": ["I-ORG", "O", "I-MISC"]},
        {"tokens": ["Peter", "Blackburn"], "line": 7, "tags": ["I-PER", "I-PER"]},
    ]


def test_columns_can_be_chosen(tmp_path):
    [first, _] = rows(tmp_path, CONLL, token_column=1, tag_column=2)
    assert (first["tokens"], first["tags"]) == (["NNP", "VBZ", "JJ"], ["B-NP", "B-VP", "B-NP"])
    assert "tags" not in rows(tmp_path, CONLL, tag_column=None)[0]


@pytest.mark.parametrize(
    "text",
    [
        "New\tB-LOC\nYork\tI-LOC\n\nhi\tO\n",
        "New   B-LOC\nYork I-LOC\n \nhi O",
        "New\tB-LOC\r\nYork\tI-LOC\r\n\r\nhi\tO\r\n",
        "New\tB-LOC\nYork\tI-LOC\n\t\nhi\tO\n\t\n",
        "New\tB-LOC\nYork\tI-LOC\n\tO\nhi\tO\n",
        "\ufeffNew\tB-LOC\nYork\tI-LOC\n\n\n\nhi\tO\n",
        "# id 7\tdomain=en and more\tx\nNew\tB-LOC\nYork\tI-LOC\n\nhi\tO\n",
        "# sent-1\nNew B-LOC\nYork I-LOC\n\n# sent-2\nhi O\n",
    ],
)
def test_separators_line_ends_and_breaks_of_every_kind_read_the_same(tmp_path, text):
    got = [(row["tokens"], row["tags"]) for row in rows(tmp_path, text)]
    assert got == [(["New", "York"], ["B-LOC", "I-LOC"]), (["hi"], ["O"])]


def test_a_word_may_hold_a_space_where_tabs_separate_and_be_a_hash(tmp_path):
    [row] = rows(tmp_path, "#\tO\nNew York\tB-LOC\n")
    assert row["tokens"] == ["#", "New York"]


def test_a_hashtag_at_the_start_is_a_word(tmp_path):
    assert rows(tmp_path, "#nyc O\nis O\n")[0]["tokens"] == ["#nyc", "is"]


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(CONLL.encode()))
    assert len(list(rows_of(path, Reading(format="columns")))) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "a O\nb\n",
            {},
            r"line 2: 1 columns, the others have 2\. Its columns are 0: 'b'; data.token_c",
        ),
        (
            "a\n",
            {},
            r"line 1: there is no column of tags beside the words\. Its columns are 0: 'a'",
        ),
        ("a O\n", {"tag_column": 3}, r"line 1: 2 columns, and tag_column=3 asks for another"),
        ("a\tO\n\tB-PER\n", {}, r"line 2: a tag, 'B-PER', without a word"),
        ("\n\n", {}, "has no sentence in its 2 lines"),
        ("", {}, "is empty"),
    ],
)
def test_bad_files_are_explained_with_the_line(tmp_path, text, options, message):
    with pytest.raises(ThawError, match=message):
        rows(tmp_path, text, **options)


def where(number, place):
    return f"sentence {number} word {place}"


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["O B-PER I-PER O"], "iob2"),
        (["O I-PER I-PER O"], "iob1"),
        (["I-PER B-PER O"], "iob1"),
        (["O O"], "iob2"),
        (["B-PER E-PER S-LOC"], "iobes"),
        (["B-PER I-PER L-PER U-LOC"], "bilou"),
        (["B-PER M-PER E-PER S-LOC"], "bmes"),
        (["O W-LOC", "B-PER E-PER"], "bmewo"),
        (["O I-PER", "B-LOC O"], "iob2"),  # malformed: neither
    ],
)
def test_the_scheme_is_found_from_the_tags(tags, scheme):
    assert find_scheme([t.split() for t in tags], where) == scheme


@pytest.mark.parametrize(
    ("scheme", "tags", "iob2", "broken"),
    [
        ("iob1", "I-PER I-PER B-PER I-LOC", "B-PER I-PER B-PER B-LOC", []),
        ("iob1", "B-PER O", "B-PER O", [0]),
        ("iob2", "B-PER I-PER O B-PER", "B-PER I-PER O B-PER", []),
        ("iob2", "I-PER O B-PER I-LOC", "B-PER O B-PER B-LOC", [0, 3]),
        ("iob2", "S-PER", "B-PER", [0]),
        ("iobes", "B-PER I-PER E-PER S-LOC O", "B-PER I-PER I-PER B-LOC O", []),
        ("iobes", "B-PER O", "B-PER O", [1]),
        ("iobes", "B-PER", "B-PER", [0]),
        ("iobes", "S-PER E-PER", "B-PER B-PER", [1]),
        ("bilou", "B-PER L-PER U-LOC U-LOC", "B-PER I-PER B-LOC B-LOC", []),
        ("bmes", "B-PER M-PER E-PER S-LOC O", "B-PER I-PER I-PER B-LOC O", []),
        ("bmewo", "B-PER M-PER E-PER W-LOC W-LOC", "B-PER I-PER I-PER B-LOC B-LOC", []),
        ("bmes", "M-PER W-LOC", "B-PER B-LOC", [0, 1]),
        ("io", "PER PER O LOC PER", "B-PER I-PER O B-LOC B-PER", []),
    ],
)
def test_tags_become_iob2_and_breaches_are_placed(scheme, tags, iob2, broken):
    assert to_iob2(tags.split(), scheme) == (iob2.split(), broken)


@pytest.mark.parametrize("tag", ["PER", "X-PER", "B", "O-PER", "B-", "-PER", ""])
def test_what_is_no_tag_is_refused_with_its_place(tag):
    with pytest.raises(ThawError, match=f"sentence 0 word 1: tag '{tag}'; expected O, or B-"):
        find_scheme([["O", tag]], where)
    if tag == "PER":
        with pytest.raises(ThawError, match=r"Bare types are read with data\.scheme=io"):
            find_scheme([["O", tag]], where)


@pytest.mark.parametrize(
    ("tags", "hint"),
    [
        ("B_PER O", r"Write it B-PER\."),
        ("PER-B O", r"Write it B-PER\."),
        ("b-PER O", r"Write it B-PER\."),
        ("LOC O PER", r"Bare types are read with data\.scheme=io\."),
        ("TAG B-PER O", r"Is that the column of tags\?"),
        ("Oslo is big", r"Is that the column of tags\?"),
        ("12 O", r"Is that the column of tags\?"),
    ],
)
def test_only_what_looks_like_bare_types_is_said_to_be(tags, hint):
    with pytest.raises(ThawError, match=rf"I- \(BMES, BMEWO\)\. {hint}$"):
        find_scheme([tags.split()], where)


def tagged(tmp_path, text, **options):
    return [(row["tokens"], row.get("tags")) for row in rows(tmp_path, text, **options)]


TWO = [(["Ida", "left"], ["B-PER", "O"]), (["Oslo"], ["B-LOC"])]


def test_a_line_that_names_the_columns_is_found_or_given(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text = "Ida B-PER\nleft O\n\nOslo B-LOC\n"
    for header in ("WORD TAG\n", "WORD TAG\n\n", "# about\nword ner\n"):
        assert tagged(tmp_path, header + text) == TWO
    assert "line 2 names the columns: word ner" in caplog.text
    assert tagged(tmp_path, "WORD O\n" + text, header=True) == TWO
    with pytest.raises(ThawError, match=r"line 1: tag 'TAG'; expected O, or B-"):
        tagged(tmp_path, "WORD TAG\n" + text, header=False)
    # A type without its prefix in the first line is an error, and no header.
    with pytest.raises(ThawError, match=r"line 1: tag 'PER'; .* 0: 'Eva', 1: 'PER'; data\.token"):
        tagged(tmp_path, "Eva PER\n" + text)


def test_tabs_too_many_at_the_end_are_passed_over_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert tagged(tmp_path, "Ida\tB-PER\nleft\tO\t\n\nOslo\tB-LOC\t\t\n") == TWO
    assert "2 lines end in tabs too many, which are passed over" in caplog.text
    assert tagged(tmp_path, "Ida\tB-PER\t\nleft\tO\t\n\nOslo\tB-LOC\t\n") == TWO


def test_an_empty_word_keeps_its_place_and_ends_no_sentence(tmp_path, caplog):
    text = "1\tIda\tB-PER\tO\n2\t\tO\tO\n3\tleft\tO\tO\n"
    got = tagged(tmp_path, text, token_column=1, tag_column=2)
    assert got == [(["Ida", "_", "left"], ["B-PER", "O", "O"])]
    assert "1 word is empty and read as '_'" in caplog.text
    assert tagged(tmp_path, text, token_column=1, tag_column=None)[0][0] == ["Ida", "_", "left"]


NUMBERED = "# a\n1\tIda\tB-PER\tO\n2\tleft\tO\tO\n\n1\tOslo\tB-LOC\tO\n"


def test_numbers_of_rows_and_tags_are_not_taken_for_words(tmp_path):
    way = r"Try data\.token_column=1 data\.tag_column=2\. .*0: '1', 1: 'Ida', 2: 'B-PER', 3: 'O'"
    with pytest.raises(ThawError, match=rf"line 2: The words would be the numbers of rows.* {way}"):
        tagged(tmp_path, NUMBERED)
    assert tagged(tmp_path, NUMBERED, token_column=1, tag_column=2) == TWO
    with pytest.raises(ThawError, match=r"numbers of rows.*Try token_column=1 \(in training data"):
        tagged(tmp_path, NUMBERED, tag_column=None)
    first = "B-PER\tIda\nO\tleft\n\nB-LOC\tOslo\n"
    with pytest.raises(
        ThawError, match=r"would be tags\. Try data\.token_column=1 data\.tag_column=0"
    ):
        tagged(tmp_path, first)
    assert tagged(tmp_path, first, token_column=1, tag_column=0) == TWO
    with pytest.raises(ThawError, match=r"would be tags\. Try token_column=1 \(in training data"):
        tagged(tmp_path, first, tag_column=None)


def test_a_column_without_tags_is_said_to_have_none(tmp_path):
    text = "Ida B-PER NNP\nleft O VBD\n"
    with pytest.raises(
        ThawError, match=r"'NNP' is no tag; .*Try data\.token_column=0 data\.tag_column=1"
    ):
        tagged(tmp_path, text)
    assert tagged(tmp_path, text, scheme="io")[0][1] == ["NNP", "VBD"]
    with pytest.raises(ThawError, match=r"'NNP' is no tag; .*Is that column not of tags\?"):
        tagged(tmp_path, "Ida NNP\nleft VBD\n")
    conllu = "1\tIda\tIda\tPROPN\t_\t_\t0\troot\t_\t_\n" * 1 + "2\tx\tx\tX\t_\t_\t0\tx\t_\t_\n"
    with pytest.raises(ThawError, match=r"CoNLL-U is read with data\.format=conllu"):
        tagged(tmp_path, conllu + "3\ty\ty\tX\t_\t_\t0\tx\t_\t_\n")


def test_words_that_happen_to_be_numbers_are_words(tmp_path):
    assert tagged(tmp_path, "1 O\n2 O\nIda B-PER\n")[0][0] == ["1", "2", "Ida"]


def test_a_bad_tag_far_down_is_shown_with_its_columns(tmp_path):
    text = "Ida B-PER\n\n" * 600 + "Oslo NNP\n"
    with pytest.raises(
        ThawError, match=r"line 1201: tag 'NNP'; .*0: 'Oslo', 1: 'NNP'; data\.token_"
    ):
        tagged(tmp_path, text)
