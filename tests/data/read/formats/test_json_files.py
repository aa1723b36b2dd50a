"""JSON files: arrays, records under a key, and a record a line."""

import json
import tracemalloc

import pytest

from thaw.data.read.formats.json_files import PIECE, json_records
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

ROWS = [{"text": f"row {i}\nsecond ☃ line", "label": i % 3} for i in range(7)]


def records(tmp_path, text, part=None):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    return list(json_records(path, part, "utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(map(json.dumps, ROWS)) + "\n",
        "\r\n\r\n".join(map(json.dumps, ROWS)),
        json.dumps({"version": "1", "data": ROWS}),
        json.dumps({"data": ROWS, "names": ["a", "b"], "of": {"x": [{}]}}, indent=1),
    ],
)
def test_arrays_keys_and_lines_hold_the_same_records(tmp_path, text):
    assert records(tmp_path, text) == ROWS


def test_records_longer_than_a_piece_are_whole(tmp_path):
    rows = [{"text": "x" * size} for size in (PIECE - 15, PIECE, 3 * PIECE, 5)]
    assert records(tmp_path, json.dumps(rows)) == rows
    assert records(tmp_path, json.dumps({"k": 1234567, "data": rows})) == rows


def test_numbers_that_a_piece_cuts_are_whole(tmp_path):
    rows = [[i, 10**9 + i] for i in range(20_000)]
    assert records(tmp_path, json.dumps(rows)) == rows


def test_one_of_several_keys_is_named(tmp_path):
    both = json.dumps({"train": [["a", "x"]], "test": [["b", "y"], ["c", "x"]]})
    assert records(tmp_path, both, "test") == [["b", "y"], ["c", "x"]]
    assert records(tmp_path, both, "train") == [["a", "x"]]
    with pytest.raises(ThawError, match=r"under 'train', 'test': name one .*a\.json:train"):
        records(tmp_path, both)
    with pytest.raises(ThawError, match=r"no records under 'dev'; it has 'train', 'test'"):
        records(tmp_path, both, "dev")


def test_a_file_of_one_record_is_one_row(tmp_path):
    assert records(tmp_path, '{"text": "a", "label": null}') == [{"text": "a", "label": None}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty"),
        (" \n ", r"is empty"),
        ('[{"a": 1},\n {"a": }]', r"line 2: not JSON: Expecting value, got '}\]'"),
        ('[{"a": 1}\n {"a": 2}]', r"line 2: not JSON: expected a comma or \]"),
        ('[{"a": 1}', r"line 1: not JSON: expected a comma or \]"),
        ('[{"a": "x', r"not JSON: Unterminated string"),
        ('{"a": 1}\n{"a": \n', r"line 3: not JSON: Expecting value"),
        ('[{"a": 1}] x', r"expected the end of the file .*jsonl.*, got .x"),
        ("[1, 2]", r"holds '1'; expected \[\{"),
        ('"text"', r"not JSON: expected an object"),
        ('{"text": {"0": "a"}, "label": {"0": "b"}}', r"one object with 'text', 'label'.*to_json"),
        ("[" * 100_000, r"nested too deeply|not JSON"),
    ],
)
def test_what_is_no_json_is_shown_with_its_line(tmp_path, text, message):
    with pytest.raises(ThawError, match=message):
        records(tmp_path, text)


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"text": "word " * 40}] * 50_000}))  # 11 MB
    tracemalloc.start()
    assert sum(1 for _ in json_records(path, None, "utf-8")) == 50_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_lines_of_lists_are_rows_and_an_array_in_one_line_is_not(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('["a film", "pos"]\n["a play", "neg"]\n')
    assert list(rows_of(path, Reading()))[1] == {"0": "a play", "1": "neg"}
    named = list(rows_of(path, Reading(columns=("text", "label"))))
    assert named[0] == {"text": "a film", "label": "pos"}
    path.write_text('[{"text": "a"}, {"text": "b"}]\n')
    with pytest.raises(
        ThawError, match=r"line 1: expected an object, .* data.format=json reads an arr"
    ):
        list(rows_of(path, Reading()))


def test_objects_of_several_lines_each_name_the_way_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{\n "text": "a"\n}\n{\n "text": "b"\n}\n')
    for form in (None, "json"):
        with pytest.raises(ThawError, match=r"`jq -c . file > file.jsonl` writes it in one"):
            list(rows_of(path, Reading(format=form)))
