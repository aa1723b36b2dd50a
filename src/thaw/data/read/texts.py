"""Labelled texts from anywhere, checked and cut into train, validation and test."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

from thaw.data.read.formats.arrow_files import names_of_features, with_names
from thaw.data.read.labels.names import names_in
from thaw.data.read.labels.reader import LabelReader, NumberReader
from thaw.data.read.row_values import Columns, Dropped, GroupReader, as_text, require_columns
from thaw.data.read.rows import Remarks, numbered
from thaw.data.read.text_store import FEW, Picked, Spool, Text
from thaw.errors import ThawError

HEAD = 100  # rows that tell the columns
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """What was read of one file, or of one split on the Hub: its columns, by option, and its rows.

    `rows` counts those, too, that were left out, and `kept` the others; None: they are streamed and
    not counted. What is left out, rows and parts of rows, is in `left_out` by reason.
    """

    origin: str
    columns: Mapping[str, Sequence[str]]
    rows: int | None
    left_out: Mapping[str, int]
    format: str = ""
    kept: int | None = None

    def read_with(self, remarks: Remarks) -> "Source":
        """Returns the source with what its reader says of it."""
        return replace(
            self,
            rows=(self.rows or 0) + sum(remarks.rows.values()),
            left_out={**remarks.left_out, **self.left_out},
            format=remarks.format or "",
        )


@dataclass
class Texts:
    """Rows of one split, column by column."""

    # One string a row, or two for pairs; in a file where there are many.
    texts: Sequence[Text] = field(default_factory=list)
    # The label of each row, or its list of labels; None where there is no label column.
    labels: list[Any] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)  # of each row, if there is a group column
    origin: str = ""
    source: Source | None = None
    repeats: int = 0  # rows left out of this split as another one has their text

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Iterable[int]) -> Self:
        """The given rows, in the given order."""
        rows = array("q", rows)
        columns = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), list)}
        parts: dict[str, Any] = {k: [v[i] for i in rows] for k, v in columns.items() if v}
        if "texts" not in columns:
            parts["texts"] = Picked(self.texts, rows)
        return replace(self, **parts, repeats=0)


def read_texts(rows: Iterable[Mapping[str, Any]], columns: Columns, origin: str) -> Texts:
    """Picks text, label and group out of rows; raises ThawError for what is none, or is empty."""
    out = Texts(origin=origin)
    texts: list[Text] | Spool = []
    kind = NumberReader if columns.numbers else LabelReader
    reader = None if columns.label is None else kind(columns, origin)
    groups = GroupReader(columns.group, origin) if columns.group is not None else None
    dropped = Dropped(columns)
    count = 0
    rows = iter(rows)
    head = list(islice(rows, HEAD))
    if head:
        # Records of JSON lack a key where there is no value; a mistyped column is in none of them.
        require_columns({k: v for row in reversed(head) for k, v in row.items()}, columns, origin)
    for number, row in numbered(chain(head, rows)):
        count += 1
        if any(column not in row for column in columns.text):
            require_columns(row, replace(columns, label=None), f"{origin}: row {number}")
        label: Any = None if reader is None else reader.read(row, number)
        if dropped.labels and not dropped.labels.isdisjoint(names_in(label)):
            dropped.by_label += 1
            continue
        text = tuple(
            v if type(v := row[c]) is str else as_text(v, c, f"{origin}: row {number}")
            for c in columns.text
        )
        if not all(part.strip() for part in text):
            dropped.empty.append(number)
            continue
        if reader is not None and label is None:
            dropped.unlabelled.append(number)
            continue
        if len(texts) == FEW and isinstance(texts, list):
            texts = Spool(texts)
        texts.append(text)
        out.labels.append(label)
        if groups is not None:
            out.groups.append(groups.read(row, number, text))
    out.texts = texts
    if count == 0:
        raise ThawError(f"{origin} has no rows.")
    dropped.check(count, origin)
    if reader is not None:
        reader.finish(out.labels)
    if groups is not None:
        groups.finish()
    if not out.texts:
        raise ThawError(f"{origin} has {count} rows, and none is left after dropping.")
    out.source = Source(origin, columns.by_option, count, dropped.counts(), kept=len(texts))
    return out


def origin_of(root: Path | str | None, split: str) -> str:
    """Returns the name of a file under `root`, or of a split of a data set on the Hub."""
    return f"{root}, split {split}" if isinstance(root, str) else str((root or Path()) / split)


def hub_rows(
    path: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a split on the Hub, with the names of classes for their numbers."""
    from thaw.storage.hub import hub_errors, load_hub_dataset

    data = load_hub_dataset(path, config, revision, split, streaming)
    with hub_errors("data", f"data.path={path}"):  # a stream asks the Hub again and again
        names = names_of_features(data.features or {})
        yield from with_names(data, names, origin_of(path, split))
