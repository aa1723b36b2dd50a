"""What the rows of a table must hold: columns, texts, groups, and what becomes of rows without."""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

from thaw.data.read.formats.own import OWN_READER
from thaw.data.read.header import header_hint
from thaw.data.read.labels.names import normalized, quoted
from thaw.data.read.rows import Remarks, number_of, warn_of
from thaw.data.read.text_store import Text
from thaw.errors import ThawError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; see `conf/data/files.yaml` for each option."""

    text: Sequence[str]
    label: str | Sequence[str] | None
    label_separator: str | None = None
    drop_labels: Sequence[str] = ()
    drop_empty: bool = False
    group: str | None = None
    labels: Sequence[str] | None = None
    drop_unlabelled: bool = False
    normalize_labels: bool = False
    numbers: bool = False  # whether labels are numbers, and no names

    @property
    def by_option(self) -> dict[str, list[str]]:
        """The columns that each option names."""
        labels = [self.label] if isinstance(self.label, str) else list(self.label or ())
        groups = [] if self.group is None else [self.group]
        found = {"text": list(self.text), "label": labels, "group": groups}
        return {option: columns for option, columns in found.items() if columns}


class Dropped:
    """Counts the rows that the options of `columns` leave out, with the reason."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        tidy = normalized if columns.normalize_labels else str.strip
        self.labels = {tidy(label) for label in columns.drop_labels}
        self.by_label = 0
        self.empty: list[int] = []
        self.unlabelled: list[int] = []

    def check(self, rows: int, origin: str) -> None:
        """Raises ThawError for rows that no option leaves out; says which are left out."""
        wrong = []
        if self.unlabelled and not self.columns.drop_unlabelled:
            label = " or ".join(self.columns.by_option["label"])
            wrong.append(
                f"{number_of(len(self.unlabelled), 'rows have')} no {label} "
                f"{first(self.unlabelled)} of {rows}. "
                "data.drop_unlabelled=true leaves them out."
            )
        if self.empty and not self.columns.drop_empty:
            wrong.append(
                f"{len(self.empty)} of {rows} texts are empty or null {first(self.empty)}. "
                "data.drop_empty=true leaves them out."
            )
        if wrong:
            raise ThawError(f"{origin}: {' '.join(wrong)}")
        warn_of(self.counts(), origin)

    def counts(self) -> dict[str, int]:
        """Returns how many rows are left out, by reason."""
        found = {"data.drop_labels": self.by_label, "empty text": len(self.empty)}
        found["no label"] = len(self.unlabelled)
        return Remarks(found).left_out


class GroupReader:
    """Makes names of groups of values; rows without one are each a group of their own."""

    def __init__(self, column: str, origin: str) -> None:
        self.column = column
        self.origin = origin
        self.names: dict[str, str] = {}  # one object a name, however many rows have it
        self.missing: list[int] = []

    def read(self, row: Mapping[str, Any], number: int, text: Text) -> str:
        """Returns the group of a row."""
        value = row.get(self.column)
        if isinstance(value, list | tuple | Mapping | bytes):
            raise ThawError(
                f"{self.origin}: row {number}: {self.column} is {value!r:.60}; expected the name "
                "or the number of a group."
            )
        name = "" if is_missing(value) else str(value)
        if not name.strip():
            self.missing.append(number)
            # The text alone decides where such a row belongs.
            name = sha256("\0".join(text).encode("utf-8", "surrogatepass")).hexdigest()
        return self.names.setdefault(name, name)

    def finish(self) -> None:
        """Warns of rows without a group."""
        if self.missing:
            what = number_of(len(self.missing), f"rows have no {self.column}")
            where = first(self.missing)
            log.warning("%s: %s %s; each is a group of its own", self.origin, what, where)


def is_missing(value: Any) -> bool:
    """Returns whether a value is null or not a number."""
    return value is None or (isinstance(value, float | Decimal) and value != value)


def as_text(value: Any, column: str, where: str) -> str:
    """Returns a string, a number as written, or "" for no value; raises ThawError for all else."""
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ThawError(
        f"{where}: {column} is {value!r:.60}; expected a text. Another column is named with "
        "data.text= in training, text= in prediction."
    )


def first(rows: list[int]) -> str:
    """The first of some row numbers, for messages."""
    return f"(rows {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''})"


def require_columns(row: Mapping[str, Any], columns: Columns, origin: str) -> None:
    """Raises ThawError if a column to read is not there, listing those found."""
    for option, column in ((o, c) for o, cs in columns.by_option.items() for c in cs):
        if column not in row:
            raise ThawError(
                f"{origin} has no column {column!r}; it has {', '.join(map(repr, row))}. "
                f"Set {near_column(option, column, row)}.{header_hint(row)}"
                f"{nested_hint(column, row)}"
            )


def input_lacks(columns: Sequence[str], row: Mapping[str, Any], kind: str = "") -> ThawError:
    """Returns the error for the input of a prediction that has none of some columns."""
    names = " or ".join(map(repr, dict.fromkeys(columns)))
    return ThawError(
        f"the input has no column {names}; it has {', '.join(map(repr, row))}. Set text=<column>"
        f"{kind}.{nested_hint(columns[0], row)}"
    )


def nested_hint(column: str, row: Mapping[str, Any]) -> str:
    """Returns what to type where a column is within another one, after a space; else ""."""
    for name, value in row.items():
        if isinstance(value, Mapping) and column.removeprefix(f"{name}.") in value:
            return f" {column!r} is within {name!r}: {OWN_READER}"
    return ""


def near_column(option: str, column: str, there: Iterable[str]) -> str:
    """Returns an override, for a shell, with the column that differs in case and spaces only."""
    for name in there:
        if name.strip().casefold() == column.strip().casefold():
            return shlex.quote(f"data.{option}={quoted(name)}")
    return f"data.{option}=<column>"
