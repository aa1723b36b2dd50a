"""JSON: an array of records, records under a key, or a record a line, read piece by piece."""

import json
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.formats.json_lines import A_LINE
from thaw.data.read.rows import Reader, Remarks
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

PIECE = 1 << 16  # characters that are read at once, at least
LONGEST = 1 << 26  # characters of one record
LINE = 1 << 20  # characters of the first line, where it is a record
SHOWN = 40
EXPECTED = (
    'expected [{"column": value, ...}, ...], such an array under a key, or such an object a line'
)


class Values:
    """Reads JSON values of a text file one after another, in memory of the longest one."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path = path
        self.pieces = open_lines(path, encoding, PIECE)
        self.decoder = json.JSONDecoder()
        self.buffer = ""
        self.at = 0
        self.lines = 1  # the line that the buffer begins in

    def more(self) -> bool:
        """Reads on, and returns whether there was anything to read."""
        self.lines += self.buffer.count("\n", 0, self.at)
        parts = [self.buffer[self.at :]]
        self.at = 0
        size, wanted = len(parts[0]), max(PIECE, 2 * len(parts[0]))
        before = size
        while size < wanted and (piece := next(self.pieces, "")):
            parts.append(piece)
            size += len(piece)
        self.buffer = "".join(parts)
        return size > before

    def peek(self) -> str:
        """Returns the next character that is no space, "" at the end."""
        while True:
            rest = self.buffer
            while self.at < len(rest) and rest[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(rest):
                return rest[self.at]
            if not self.more():
                return ""

    def take(self, characters: str, expected: str) -> str:
        """Returns the next character and goes past it; raises ThawError if it is another one."""
        found = self.peek()
        if not found or found not in characters:
            raise self.wrong(f"expected {expected}", self.at)
        self.at += 1
        return found

    def value(self) -> Any:
        """Returns the next value."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
            except RecursionError:
                raise self.wrong("it is nested too deeply", self.at) from None
            except json.JSONDecodeError as error:
                # What is cut off at the buffer's end may be right when more of it is there.
                cut = error.msg.startswith(("Unterminated", "Invalid \\"))
                near_end = error.pos > len(self.buffer) - 2 * SHOWN
                too_long = len(self.buffer) - self.at > LONGEST
                before = self.at
                if not (cut or near_end) or too_long or not self.more():
                    raise self.wrong(error.msg, error.pos - before + self.at) from error
                continue
            # 12 may be the beginning of 123.
            if end == len(self.buffer) and not isinstance(value, (dict, list, str)):
                before = self.at
                if self.more():
                    continue
                end -= before - self.at
            self.at = end
            return value

    def wrong(self, why: str, place: int) -> ThawError:
        """Returns the error for a place in the buffer."""
        line = self.lines + self.buffer.count("\n", 0, place)
        got = self.buffer[place : place + SHOWN].strip()
        hint = " data.format=jsonl reads a Python dictionary a line." if got[:1] == "'" else ""
        return ThawError(f"{self.path} line {line}: not JSON: {why}, got {got!r}.{hint}")


def json_records(path: Path, part: str | None, encoding: str) -> Reader:
    """Yields records of a JSON file, which are objects or lists; where the file is one object,
    those under the key `part`, or under its only key with records. Raises ThawError if it is empty,
    is not JSON, or holds no records or several arrays of them."""
    values = Values(path, encoding)
    beside = 0
    first = values.peek()
    if not first:
        raise ThawError(f"{path} is empty.")
    if first == "[":
        if part is not None:
            raise ThawError(f"{path} is an array and has no key {part!r}; leave it out.")
        for record in array(values):
            yield require_record(values, record)
    elif part is None and has_lines(path, encoding):
        while values.peek():
            yield require_record(values, values.value())
    else:
        beside = yield from under_a_key(values, part)
    if values.peek():
        raise values.wrong(
            f"expected the end of the file (data.format=jsonl reads a record a line. {A_LINE})",
            values.at,
        )
    return Remarks(parts={"values beside the records": beside})


def has_lines(path: Path, encoding: str) -> bool:
    """Returns whether the first line is a whole object and another one follows it."""
    lines = (line for line in open_lines(path, encoding, LINE) if line.strip())
    try:
        whole = isinstance(json.loads(next(lines, "")), dict)
    except (ValueError, RecursionError):
        return False
    return whole and next(lines, "").lstrip().startswith("{")


def array(values: Values) -> Iterator[Any]:
    """Yields values of an array."""
    values.take("[", "an array")
    if values.peek() == "]":
        values.take("]", "]")
        return
    while True:
        yield values.value()
        if values.take(",]", "a comma or ]") == "]":
            return


def require_record(values: Values, value: Any) -> Any:
    """Returns a record; raises ThawError if it is a single value."""
    if not isinstance(value, (dict, list)):
        raise ThawError(f"{values.path} holds {str(value)[:SHOWN]!r}; {EXPECTED}.")
    return value


def under_a_key(values: Values, part: str | None) -> Generator[Any, None, int]:
    """Yields records of the array under a key of an object, `part` or the only one; without arrays
    the object is a record. Returns how many other keys there are."""
    found: list[str] = []
    single: dict[str, Any] = {}
    values.take("{", "an object")
    while values.peek() != "}":
        key = str(values.value())
        values.take(":", "a colon")
        single[key] = None
        if values.peek() == "[":
            for record in array(values):
                single[key] = []
                if isinstance(record, (dict, list)) and part in (None, key):
                    found += [] if key in found else [key]
                    if len(found) > 1:
                        name = f"{values.path.name}:{found[0]}"
                        raise ThawError(
                            f"{values.path} holds records under {named(found)}: name one behind a "
                            f"colon, such as data.train={name} or, in prediction, input={name}."
                        )
                    yield record
        else:
            single[key] = values.value()
        if values.peek() == ",":
            values.take(",", "a comma")
    values.take("}", "}")
    if part is not None and not found:
        raise ThawError(f"{values.path} has no records under {part!r}; it has {named(single)}.")
    if not found and any(isinstance(value, (dict, list)) for value in single.values()):
        raise ThawError(
            f"{values.path} is one object with {named(single)}, and none of them holds records; "
            f"{EXPECTED}. pandas writes them with "
            "df.to_json(path, orient='records', lines=True)."
        )
    if not found and single:
        yield single
    return len(single) - len(found) if found else 0


def named(keys: Iterable[str]) -> str:
    """Returns keys in words."""
    return ", ".join(map(repr, list(keys)[:10])) or "no key"
