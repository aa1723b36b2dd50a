"""JSON Lines: an object a line, or a list a line."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thaw.data.read.literals import literal
from thaw.data.read.rows import Placed, Reader, Remarks
from thaw.errors import ThawError

log = logging.getLogger(__name__)

A_LINE = "Where an object is several lines, `jq -c . file > file.jsonl` writes it in one."


class Unread(dict[str, Any]):
    """Stands for a line that is no row, for this reason, without a column."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def json_lines(path: Path, lines: Iterable[str], skip: bool = False) -> Reader:
    """Yields records of the lines of a file: an object a line, or a list a line; raises ThawError
    if there is none, or a line is no JSON or no record, which with `skip` yields `Unread`."""
    kind: type | None = None
    blank = python = 0
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            blank += 1
            continue
        try:
            row = record_of(line, path, number, kind)
            kind = type(row)
            python += line[:2] == "{'"
        except ThawError as error:
            if not skip:
                raise
            row, kind = Unread(str(error)), kind or dict
        yield Placed(row, number) if blank and type(row) is dict else row
    if kind is None:
        raise ThawError(f"{path} is empty.")
    if python:
        log.info("%s: %d lines are read as Python's dictionaries, not as JSON", path, python)
    return Remarks(parts={"blank lines": blank})


def record_of(line: str, path: Path, number: int, kind: type | None) -> Any:
    """Returns the object or list that a line of JSON Lines is, of `kind`, as those before it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        begins = line.strip()
        if begins.startswith("{'") and (found := literal(begins)) is not None:
            return found
        hint = " data.format=json reads an array." if begins[:1] == "[" and number == 1 else ""
        hint = f" {A_LINE}" if begins == "{" else hint
        raise ThawError(f"{path} line {number}: not JSON: {error}.{hint}") from error
    if kind is None:  # a line that is a whole array of records is not one record
        array = isinstance(row, list) and all(isinstance(value, dict) for value in row)
        kind = dict if array else type(row)
    if kind in (dict, list) and type(row) is kind:
        return row
    hint = " data.format=json reads an array." if isinstance(row, list) else ""
    got = line.strip()[:40]
    expected = 'expected an object, {"column": value, …}'
    raise ThawError(f"{path} line {number}: {expected}, got {got}.{hint}")
