"""Column files, and the schemes their tags are in."""

import gzip

import pytest

from thaw.data.read.column_files import column_rows
from thaw.data.read.tag_schemes import find_scheme, to_iob2
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
    return list(column_rows(path, **options))


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
    assert len(list(column_rows(path))) == 2


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a O\nb\n", {}, r"line 2: 1 columns, the others have 2: 'b'"),
        ("a\n", {}, r"line 1: 'a' has no column of tags beside the words"),
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
