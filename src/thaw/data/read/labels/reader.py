"""Values of a table as labels: one name for a text, or several, or none; or as numbers."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from thaw.data.read.labels.names import (
    NUMBER,
    SHOWN,
    Label,
    bracketed,
    in_order,
    is_scores,
    listed,
    normalized,
    option,
)
from thaw.data.read.literals import literal
from thaw.data.read.row_values import Columns, is_missing
from thaw.errors import ThawError

log = logging.getLogger(__name__)

FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class LabelReader:
    """Makes labels of values; rows with the same label get the same object.

    `columns.label` names the column, or several columns of zeros and ones; `columns.labels` are
    what the places of vectors mean.
    """

    def __init__(self, columns: Columns, origin: str) -> None:
        label = columns.label or ()
        self.columns = [label] if isinstance(label, str) else list(label)
        self.several_columns = not isinstance(label, str)
        self.title = ", ".join(self.columns)
        self.origin = origin
        self.separator = columns.label_separator
        self.names = columns.labels
        self.spellings: dict[str, set[str]] | None = {} if columns.normalize_labels else None
        self.strings: dict[str, Label] = {}  # of values that are strings
        self.lists: dict[tuple[str, ...], list[str]] = {}
        self.unset: set[str] = set()  # names of mappings, until a row has them
        self.fraction: tuple[int, float] | None = None
        self.pair: tuple[int, Any] | None = None  # the first list of two that may be a vector
        self.other_lists = False

    def read(self, row: Mapping[str, Any], number: int) -> Label:
        """Returns the label of a row, its labels, or None where it has none."""
        if self.several_columns:
            return self.of_columns(row, number)
        value = row.get(self.columns[0])
        if type(value) is str:
            if value not in self.strings:
                self.strings[value] = self.of_string(value, number)
            return self.strings[value]
        return self.of_value(value, number)

    def of_string(self, value: str, number: int) -> Label:
        """Returns what a string holds: a name, or names between separators or in a list."""
        text = value.strip()
        if text[:1] in ("[", "{") and (inner := literal(text)) is not None:
            return self.of_value(inner, number)
        if self.separator is not None:
            return self.shared(self.name(part) for part in value.split(self.separator))
        return self.name(text) or None

    def of_value(self, value: Any, number: int) -> Label:
        """Returns the label or the labels of a value that is not a string of a table."""
        if is_missing(value):
            return None
        if isinstance(value, list | tuple):
            return self.of_list(value, number)
        if isinstance(value, Mapping):
            return self.of_mapping(value, number)
        name = self.scalar(value, number)
        return self.shared([name]) if self.separator is not None else name

    def scalar(self, value: Any, number: int) -> str:
        """Returns the name of a string, a number or a truth value."""
        if isinstance(value, str):
            return self.name(value)
        if isinstance(value, bool | int):
            return str(value)
        if isinstance(value, float | Decimal):
            if math.isfinite(value) and value == int(value):
                return str(int(value))  # a column of whole numbers with a null is read as floats
            self.fraction = self.fraction or (number, float(value))
            return str(value)
        raise self.wrong(number, value, "a name, a list of names, or zeros and ones")

    def of_list(self, values: Sequence[Any], number: int) -> list[str]:
        """Returns the labels of a list of names, or of a vector of zeros and ones."""
        flags = [as_flag(v) for v in values]
        if flags and None not in flags:
            if self.names is not None and not {"0", "1"} & set(self.names):
                if len(values) != len(self.names):
                    expected = f"{len(self.names)} zeros and ones, one for each of data.labels"
                    raise self.wrong(number, values, expected)
                return self.shared(n for n, v in zip(self.names, flags, strict=True) if v)
            exact = any(isinstance(v, bool | float) for v in values)
            if exact or len(set(values)) < len(values):
                raise self.nameless(number, values)
            if len(values) == 2:
                self.pair = self.pair or (number, values)
        self.other_lists |= len(flags) != 2 or None in flags
        return self.shared(self.scalar(v, number) for v in values if not is_missing(v))

    def of_mapping(self, values: Mapping[Any, Any], number: int) -> list[str] | None:
        """Returns the names that a mapping of names to zeros and ones, such as spaCy's, sets."""
        if list(values) == ["choices"] and isinstance(values["choices"], list):
            return self.of_list(values["choices"], number)  # of Label Studio
        there = {k: v for k, v in values.items() if not is_missing(v)}
        for name, value in there.items():
            if as_flag(value) is None:
                expected = f"0 or 1 for each name, not {value!r} for {name!r}"
                raise self.wrong(number, values, expected)
        self.unset |= {self.name(str(k)) for k in there}
        found = self.shared(self.name(str(k)) for k, v in there.items() if as_flag(v))
        return found if there else None

    def of_columns(self, row: Mapping[str, Any], number: int) -> list[str] | None:
        """Returns the names of the columns that hold a one; None where a column holds nothing."""
        found = []
        for column in self.columns:
            value = row.get(column)
            if is_missing(value) or str(value).strip() in ("", "-1", "-1.0"):
                return None  # -1 says in such tables, as on the Hub, that nobody labelled a text
            flag = as_flag(value)
            if flag is None:
                raise ThawError(
                    f"{self.origin}: row {number}: {column} is {value!r:.60}; expected 0 or 1, as "
                    f"data.label={bracketed(self.columns)} names columns of zeros and ones. A "
                    f"column of names is data.label={column}, without brackets."
                )
            if flag:
                found.append(self.name(column))
        return self.shared(found)

    def name(self, text: str) -> str:
        """Returns a name as it is used: without spaces around it, and normalized if asked for."""
        spelling = text.strip()
        if self.spellings is None:
            return spelling
        name = normalized(text)
        self.spellings.setdefault(name, set()).add(spelling)
        return name

    def shared(self, names: Iterable[str]) -> list[str]:
        """Returns names without empty ones and repetitions, as one object for all rows."""
        key = tuple(dict.fromkeys(name for name in names if name))
        return self.lists.setdefault(key, list(key))

    def finish(self, labels: Sequence[Label]) -> None:
        """Raises ThawError if the labels of all rows are scores, or vectors of nameless classes."""
        if self.pair is not None and not self.other_lists:
            raise self.nameless(*self.pair)
        if self.names is None:
            if self.lists and self.fraction:
                raise self.wrong(*self.fraction, "a name, or zeros and ones, in a list")
            names = {label for label in labels if isinstance(label, str)}
            if self.fraction or is_scores(names):
                raise self.scores(names, len(labels))
        several = [sorted(found) for found in (self.spellings or {}).values() if len(found) > 1]
        if several:
            shown = "; ".join(" and ".join(map(ascii, group)) for group in several[:SHOWN])
            more = f"; and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
            log.info("%s: normalized to one label each: %s%s", self.origin, shown, more)
        if unset := sorted(self.unset - {name for key in self.lists for name in key}):
            log.warning("%s: no row has the label %s", self.origin, listed(unset))

    def wrong(self, number: int, value: Any, expected: str) -> ThawError:
        """Returns the error for a value that is no label."""
        return ThawError(
            f"{self.origin}: row {number}: {self.title} is {value!r:.80}; expected {expected}. Is "
            "data.label the right column?"
        )

    def nameless(self, number: int, values: Sequence[Any]) -> ThawError:
        """Returns the error for a vector of zeros and ones whose places have no names."""
        example = option("data.labels", [f"label_{place}" for place in range(len(values))])
        return ThawError(
            f"{self.origin}: row {number}: {self.title} is {list(values)!r:.60}, zeros and ones "
            "that say which labels a text has, not what they are called. Name the labels in "
            f"their order: {example}."
        )

    def scores(self, names: set[str], rows: int) -> ThawError:
        """Returns the error for a column of numbers that are no classes."""
        ordered = in_order(names)
        several = any("," in name for name in names)
        classes = f" If each is a class, name them: {option('data.labels', ordered)}."
        classes = classes if len(ordered) <= 2 * SHOWN else ""
        return ThawError(
            f"{self.origin}: {self.title} holds numbers with fractions, {ordered[0]} to "
            f"{ordered[-1]}, {len(ordered)} different ones in {rows} rows: scores. "
            f"task=regression predicts such numbers.{classes}"
            + " If a comma is between several labels: \"data.label_separator=','\"."
            * several
        )


class NumberReader:
    """Makes numbers of values, with the arguments and methods of `LabelReader`."""

    def __init__(self, columns: Columns, origin: str) -> None:
        self.column = str(columns.label)
        self.origin = origin

    def read(self, row: Mapping[str, Any], number: int) -> float | None:
        """Returns the number of a row, None where it has none."""
        value: Any = row.get(self.column)
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            return None
        text = value.strip() if isinstance(value, str) else ""
        if NUMBER.fullmatch(text) and "," not in text:
            value = float(text)
        counts = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if counts and math.isfinite(value):
            return float(value)
        raise ThawError(
            f"{self.origin}: row {number}: {self.column} is {value!r:.60}; expected a number, such "
            "as 3.5. Is data.label the right column? Labels that are names are for task=sequence."
        )

    def finish(self, labels: Sequence[Any]) -> None:
        """Does nothing: each number stands for itself."""


def as_flag(value: Any) -> bool | None:
    """Returns the truth value that a value of 0 or 1 stands for; None for any other value."""
    if isinstance(value, str):
        return FLAGS.get(value.strip().lower())
    if isinstance(value, bool | int | float | Decimal) and value in (0, 1):
        return bool(value)
    return None
