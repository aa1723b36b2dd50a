"""Rows of a file or a data set, and what was left out of them."""

import logging
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# A plural that stands alone: no part of an option, such as data.drop_labels, or of a file's name.
PLURAL = re.compile(r"(?<![\w.])([a-z]{2,}?)(ies|(?<=ss)es|(?<=[a-z]{3})s)\b")
VERBS = {"have": "has", "are": "is"}

Row = Mapping[str, Any]  # the value of each column


@dataclass(frozen=True)
class Remarks:
    """What a reader says of a file, once it has read all of it: its format, and how many rows are
    left out, by reason, and of `parts` that are no rows, such as blank lines."""

    rows: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    format: str | None = None

    @property
    def left_out(self) -> dict[str, int]:
        """All that is left out, with its number."""
        return {what: count for what, count in {**self.rows, **self.parts}.items() if count}


class Placed(dict[str, Any]):
    """A row with its number in its file, from 1, which is not that of the rows before it: some of
    these were left out, or are several rows of the file."""

    def __init__(self, row: Mapping[str, Any], number: int) -> None:
        super().__init__(row)
        self.number = number


def replaced(row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with some values replaced, at the same place."""
    found = {**row, **values}
    return Placed(found, row.number) if isinstance(row, Placed) else found


def numbered(rows: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yields each row with its number in its file, from 1."""
    for number, row in enumerate(rows, start=1):
        yield (row.number if type(row) is Placed else number), row


# What reads a file: yields rows, and returns what is to be said of them.
Reader = Generator[Any, None, Remarks]


class Rows(Iterator[Any]):
    """Rows, each of them once, with the remarks of what reads them, complete when all are read.

    Args:
        rows: of a `Reader`, or any others.
        format: name of their format, where the remarks do not say it.
        origin: a file or data set, of which is logged what is left out; None: nothing is.
    """

    def __init__(
        self, rows: Iterable[Any], format: str | None = None, origin: Path | str | None = None
    ) -> None:
        self.remarks = Remarks(format=format)
        self.iterator = self.remarked(rows, origin)

    def remarked(self, rows: Iterable[Any], origin: Path | str | None) -> Iterator[Any]:
        """Yields the rows and keeps the remarks."""
        returned: Any = yield from rows  # type: ignore[func-returns-value]
        found: Remarks = returned or Remarks()
        self.remarks = replace(found, format=found.format or self.remarks.format)
        if origin is not None:
            level = logging.WARNING if any(found.rows.values()) else logging.INFO
            warn_of(found.left_out, origin, level)

    def __iter__(self) -> Iterator[Any]:
        return self.iterator  # faster than to ask this object for each row

    def __next__(self) -> Any:
        return next(self.iterator)


def reasons(left_out: Mapping[str, int]) -> str:
    """Returns what is left out in words."""
    return ", ".join(number_of(count, reason) for reason, count in left_out.items())


def number_of(number: float, what: str) -> str:
    """Returns a number with what it counts, which is given in the plural: of `rows have no label`
    is made `1 row has no label`."""
    if number == 1:
        what = PLURAL.sub(lambda m: m[1] + ("y" if m[2] == "ies" else ""), what, count=1)
        what = re.sub(r"^([\w ]+? )(have|are)\b", lambda m: m[1] + VERBS[m[2]], what)
    return f"{number:,.5g} {what}" if isinstance(number, float) else f"{number:,} {what}"


def warn_of(left_out: Mapping[str, int], origin: Path | str, level: int = logging.WARNING) -> None:
    """Logs what is left out of a file or data set, if anything is."""
    if left_out:
        log.log(level, "%s: left out: %s", origin, reasons(left_out))
