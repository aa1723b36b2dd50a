"""Tables that a Python program holds: DataFrames, data sets, and lists, as rows and as files."""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.data.read.formats.arrow_files import names_of_features, with_names
from thaw.data.read.rows import Row
from thaw.errors import ThawError
from thaw.storage.cache import cache_dir
from thaw.storage.files import partial_name, put

EXPECTED = (
    "expected a pandas DataFrame, a datasets.Dataset, a dictionary of columns, a list of "
    "dictionaries, two lists (texts, labels), or the name of a file"
)
DATA_SETS = ("Dataset", "IterableDataset")


def is_table(data: Any) -> bool:
    """Returns whether data has named columns: a DataFrame, a data set, or a mapping of columns."""
    named = is_of(data, "pandas", "DataFrame") or is_of(data, "datasets", *DATA_SETS)
    return named or isinstance(data, Mapping)


def is_of(data: Any, module: str, *classes: str) -> bool:
    """Returns whether data is of some classes of a module, which is not imported for it."""
    found = sys.modules.get(module)
    return found is not None and isinstance(data, tuple(getattr(found, name) for name in classes))


def table_rows(data: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of data that a program holds; raises ThawError if it is none, or its columns
    are of different lengths.

    Args:
        data: a DataFrame, a `datasets.Dataset`, a mapping of columns, an iterable of mappings, or
            a pair of lists: texts and labels.
        name: what it is, for messages.
    """
    rows: Iterable[Any]
    if is_of(data, "pandas", "DataFrame"):
        columns = list(map(str, data.columns))
        rows = (dict(zip(columns, r, strict=True)) for r in data.itertuples(index=False, name=None))
    elif is_of(data, "datasets", *DATA_SETS):
        rows = with_names(data, names_of_features(data.features or {}), name)
    elif isinstance(data, Mapping):
        rows = column_rows(data, name)
    elif isinstance(data, tuple) and len(data) == 2 and not isinstance(data[0], str | Mapping):
        rows = column_rows({"text": data[0], "label": data[1]}, name)
    elif isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ThawError(f"{name} is {type(data).__name__}; {EXPECTED}.")
    else:
        rows = data
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ThawError(f"{name}: row {number}, counted from 0, is {row!r:.60}; {EXPECTED}.")
        yield {str(key): plain_value(value) for key, value in row.items()}


def column_rows(columns: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Returns rows of columns, which must be of one length."""
    for key, values in columns.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise ThawError(f"{name}: column {key!r} is {values!r:.60}; expected a list of values.")
    lists = {str(key): list(values) for key, values in columns.items()}
    if len({len(values) for values in lists.values()}) > 1:
        lengths = ", ".join(f"{key!r} has {len(values)}" for key, values in lists.items())
        raise ThawError(f"{name}: columns are of different lengths: {lengths}.")
    return (dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True))


def plain_value(value: Any) -> Any:
    """Returns a value as JSON has it, and None for what pandas writes where nothing is."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    missing = type(value).__name__ in ("NAType", "NaTType")
    return None if missing or (isinstance(value, float) and value != value) else value


def text_rows(items: Iterable[Any], columns: Sequence[str], words: bool) -> Iterator[Row]:
    """Yields a row, with texts in `columns`, for each text, pair of texts, mapping of column to
    value, or, with `words`, list of words; raises ThawError, which names the place, for others."""
    for number, item in enumerate(items):
        value = plain_value(item)
        if isinstance(item, Mapping):
            row = {str(key): plain_value(v) for key, v in item.items()}
        elif len(columns) == 1:
            row = {columns[0]: value}
        elif isinstance(value, list) and len(value) == len(columns):
            row = dict(zip(columns, value, strict=True))
        else:
            raise ThawError(f"text {number}, counted from 0, is {value!r:.60}; expected a pair.")
        for column in columns:
            text = row.get(column)
            listed = words and isinstance(text, list) and all(isinstance(w, str) for w in text)
            if not (isinstance(text, str) or listed):
                kind = "a text, or a list of words" if words else "a text"
                where = f" in column {column!r}" if isinstance(item, Mapping) else ""
                raise ThawError(
                    f"text {number}, counted from 0, is {text!r:.60}{where}; expected {kind}."
                )
        yield row


def keep_table(data: Any, split: str) -> Path:
    """Writes data (see `table_rows`) that a program holds as JSONL into the cache, where every
    process of a run reads it as any file, and returns its path, which follows from the content."""
    root = cache_dir() / "tables"
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    aside = partial_name(root / f"{split}-{id(data)}.jsonl")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            for row in table_rows(data, split):
                # Escaped: half an emoji is no UTF-8, and is counted where the file is read.
                line = json.dumps(row, default=str) + "\n"
                digest.update(line.encode())
                file.write(line)
        path = root / digest.hexdigest()[:16] / f"{split}.jsonl"
        if not aside.stat().st_size:
            raise ThawError(f"{split} has no rows.")
        path.parent.mkdir(exist_ok=True)
        put(aside, path)
        return path
    finally:
        aside.unlink(missing_ok=True)
