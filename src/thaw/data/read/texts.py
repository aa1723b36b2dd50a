"""Labelled texts from anywhere, checked and cut into train, validation and test."""

import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.data.read.formats.arrow_files import names_of_features, with_names
from thaw.data.read.formats.csv_files import header_hint
from thaw.data.read.formats.options import Reading
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.text_store import FEW, Picked, Spool, Text
from thaw.errors import ThawError

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass
class Texts:
    """Rows of one split, column by column.

    Attributes:
        texts: one string a row, or two for pairs; in a file where there are many.
        labels: the label of each row, or its list of labels; None where there is no label column.
        groups: the value of the group column of each row, if there is one.
        origin: where the rows come from, for messages.
    """

    texts: Sequence[Text] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    origin: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Iterable[int]) -> "Texts":
        """The given rows, in the given order."""
        rows = array("q", rows)
        few = isinstance(self.texts, list)
        return Texts(
            [self.texts[i] for i in rows] if few else Picked(self.texts, rows),
            [self.labels[i] for i in rows],
            [self.groups[i] for i in rows] if self.groups else [],
            self.origin,
        )


def as_label(value: Any) -> str | None:
    """A label's name: numbers as written, nothing for null or an empty field."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with a null is read as floats
    return str(value).strip()


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; see `conf/data/files.yaml` for each option."""

    text: Sequence[str]
    label: str | None
    label_separator: str | None = None
    drop_labels: Sequence[str] = ()
    drop_empty: bool = False
    group: str | None = None


def read_texts(rows: Iterable[Mapping[str, Any]], columns: Columns, origin: str) -> Texts:
    """Picks text, label and group out of rows.

    Args:
        rows: mappings of column to value.
        columns: which columns to read.
        origin: a file or data set, for messages.

    Raises:
        ThawError: a column is missing, there is no row, a text is empty or null, or a row has no
            label.
    """
    out = Texts(origin=origin)
    texts: list[Text] | Spool = []
    names: dict[Any, Any] = {}  # one object a name, however many rows have it
    empty: list[int] = []
    unlabelled: list[int] = []
    number = 0
    wanted = [c for c in (*columns.text, columns.label, columns.group) if c is not None]
    drop = {label.strip() for label in columns.drop_labels}
    for number, row in enumerate(rows, start=1):
        if number == 1:
            require_columns(row, columns, origin)
        if number > 1 and any(column not in row for column in wanted):
            require_columns(row, columns, f"{origin}: row {number}")
        labels: Any = None
        if columns.label is not None:
            value = row[columns.label]
            if columns.label_separator is not None and not isinstance(value, list):
                value = [v for v in str(value or "").split(columns.label_separator) if v.strip()]
            if isinstance(value, list):
                labels = [name for v in value if (name := as_label(v)) is not None]
            else:
                labels = as_label(value)
                if labels in drop:
                    continue
        text = tuple("" if (v := row[c]) is None else str(v) for c in columns.text)
        if not all(part.strip() for part in text):
            empty.append(number)
            continue
        if columns.label is not None and labels is None:
            unlabelled.append(number)
            continue
        if len(texts) == FEW and isinstance(texts, list):
            texts = Spool(texts)
        texts.append(text)
        out.labels.append(labels if isinstance(labels, list) else names.setdefault(labels, labels))
        if columns.group is not None:
            group = str(row[columns.group])
            out.groups.append(names.setdefault(group, group))
    out.texts = texts
    if number == 0:
        raise ThawError(f"{origin} has no rows.")
    if unlabelled:
        raise ThawError(
            f"{origin}: {len(unlabelled)} rows have no {columns.label} {first(unlabelled)}."
        )
    if empty and not columns.drop_empty:
        raise ThawError(
            f"{origin}: {len(empty)} of {number} texts are empty or null {first(empty)}. "
            "data.drop_empty=true leaves them out."
        )
    if empty:
        log.warning("%s: %d empty texts left out of %d", origin, len(empty), number)
    if not out.texts:
        raise ThawError(f"{origin} has {number} rows, and none is left after dropping.")
    return out


def first(rows: list[int]) -> str:
    """The first of some row numbers, for messages."""
    return f"(rows {', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''})"


def require_columns(row: Mapping[str, Any], columns: Columns, origin: str) -> None:
    """Raises ThawError if a column to read is not there, listing those found."""
    wanted = [("text", c) for c in columns.text]
    wanted += [("label", columns.label)] if columns.label is not None else []
    wanted += [("group", columns.group)] if columns.group is not None else []
    for option, column in wanted:
        if column not in row:
            raise ThawError(
                f"{origin} has no column {column!r}; it has {', '.join(map(repr, row))}. "
                f"Set data.{option}=<column>.{header_hint(row)}"
            )


def label_names(labels: Iterable[Any], given: Sequence[str] | None) -> list[str]:
    """The labels' names in their order: as given, else sorted (numbers by value).

    Raises:
        ThawError: fewer than two classes, or a label that is not among the given names.
    """
    found = {name for value in labels for name in (value if isinstance(value, list) else [value])}
    if given is not None:
        if extra := sorted(found - set(given)):
            raise ThawError(
                f"train has labels {extra[:5]} that data.labels={list(given)} does not name. "
                f"Add them there, or leave their rows out with data.drop_labels={extra[:5]}."
            )
        return list(given)
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found)


def read_split(root: Path | str | None, split: str, how: Reading, **hub: Any) -> Iterable[Mapping]:
    """Rows of a split: of a file under `root`, or of a data set on the Hub (`root` a string)."""
    if isinstance(root, str):
        from thaw.storage.hub import load_hub_dataset

        data = load_hub_dataset(root, hub.get("config"), hub.get("revision"), split)
        return with_names(data, names_of_features(data.features), f"{root}, split {split}")
    return rows_of((root or Path()) / split, how)
