"""Numbers agree with what they count."""

import pytest

from thaw.data.read.rows import number_of, reasons


@pytest.mark.parametrize(
    ("what", "one"),
    [
        ("rows", "1 row"),
        ("entities of type LOC", "1 entity of type LOC"),
        ("classes of a folder each", "1 class of a folder each"),
        ("optimizer steps", "1 optimizer step"),
        ("rows have no label", "1 row has no label"),
        ("words are empty", "1 word is empty"),
        ("rows whose labels differ", "1 row whose labels differ"),
        ("empty text", "1 empty text"),
        ("data.drop_labels", "1 data.drop_labels"),
    ],
)
def test_one_is_singular_and_more_are_plural(what, one):
    assert number_of(1, what) == one
    assert number_of(1200, what) == f"1,200 {what}"
    assert number_of(0, what) == f"0 {what}"
    assert number_of(1.0, what) == one


def test_reasons_of_rows_that_are_left_out_are_counted_so():
    assert (
        reasons({"blank lines": 1, "rows of a comment": 2}) == "1 blank line, 2 rows of a comment"
    )
