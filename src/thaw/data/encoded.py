"""Encoded texts on disk: tokenized once, mapped into memory, shared by runs and processes."""

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from thaw.wheels import cache_dir, disk_errors

BUDGET_GIB = 20.0  # of all that is kept; what was used least recently goes first
PART = 10_000  # rows written at a time
VERSION = 1  # of what is kept, part of its key

Rows = dict[str, list]  # columns of the same length
# Numbers; or where each list begins, and what is in the lists.
Column = np.ndarray | tuple[np.ndarray, Any]


class Encoded:
    """Rows of an Arrow file that is mapped into memory; the system reads what is asked for.

    Args:
        path: of the file, in Arrow's stream format, as `datasets.Dataset.from_file` reads it too.

    Attributes:
        column_names: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            parts = reader.read_all().to_batches()
            self.column_names: list[str] = reader.schema.names
        self.parts: list[dict[str, Column]] = [
            {name: view(part.column(name)) for name in self.column_names} for part in parts
        ]
        self.begins = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self.begins[-1]

    def __getitem__(self, key: int | str | Sequence[int]) -> Any:
        """A row as a dictionary, a column, or rows as a dictionary of columns."""
        if isinstance(key, str):
            return EncodedColumn(self, key)
        if isinstance(key, int):
            part, at = self.place(key)
            return {name: item(column, at) for name, column in part.items()}
        places = [self.place(row) for row in key]
        return {name: [item(part[name], at) for part, at in places] for name in self.column_names}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))

    def __reduce__(self) -> Any:
        return Encoded, (self.path,)  # a loader's worker maps the file itself

    def place(self, row: int) -> tuple[dict[str, Column], int]:
        """The part of the file that holds a row, and where in it."""
        row = range(len(self))[row]
        number = bisect_right(self.begins, row) - 1
        return self.parts[number], row - self.begins[number]

    def numbers(self, name: str) -> np.ndarray:
        """A column of one number a row."""
        columns: list[Any] = [part[name] for part in self.parts]
        return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)


class EncodedColumn(Sequence):
    """A column of encoded rows, read as it is asked for."""

    def __init__(self, rows: Encoded, name: str) -> None:
        self.rows = rows
        self.name = name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[row] for row in range(len(self))[key]]
        part, at = self.rows.place(key)
        return item(part[self.name], at)

    def __iter__(self) -> Iterator[Any]:
        for part in self.rows.parts:
            column = part[self.name]
            count = len(column[0]) - 1 if isinstance(column, tuple) else len(column)
            yield from (item(column, at) for at in range(count))


def view(array: pa.Array) -> Column:
    """An Arrow array as numpy arrays over the same memory."""
    if pa.types.is_list(array.type):
        return array.offsets.to_numpy(), view(array.values)
    return array.to_numpy(zero_copy_only=True)


def item(column: Column, at: int) -> Any:
    """A value of a column: a number, or a list of them, or of lists."""
    if not isinstance(column, tuple):
        return column[at].item()
    begins, inner = column
    begin, end = int(begins[at]), int(begins[at + 1])
    if isinstance(inner, tuple):
        return [item(inner, i) for i in range(begin, end)]
    return inner[begin:end].tolist()


def arrow_type(value: Any) -> pa.DataType:
    """How a value is kept: tokens and labels take four bytes."""
    if isinstance(value, list):
        return pa.list_(arrow_type(value[0]) if value else pa.int32())
    return pa.float32() if isinstance(value, float) else pa.int32()


def key_of(*parts: Any) -> str:
    """A name for what follows from some values; of an iterable its items count."""
    state = hashlib.sha256(str(VERSION).encode())
    for part in parts:
        items = [part] if isinstance(part, (str, int, dict)) or part is None else part
        for value in items:
            state.update(repr(value).encode("utf-8", "surrogatepass"))
    return state.hexdigest()[:32]


def keep(key: str, make: Callable[[dict[str, Any]], Iterable[Rows]]) -> tuple[Encoded, dict]:
    """Encoded rows that were kept, or are made and kept now; by one process at a time.

    Args:
        key: of `key_of`, from all that they follow from.
        make: gives them piece by piece, and puts what there is to say of them into a dictionary.

    Returns:
        The rows, and that dictionary.

    Raises:
        ThawError: there is no room on the disk.
    """
    root = cache_dir() / "tokens"
    place = root / key
    with disk_errors(root, "THAW_CACHE"):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not place.exists():
                write(place, make)
            os.utime(place)
            about = json.loads((place / "about.json").read_text(encoding="utf-8"))
            found = Encoded(place / "rows.arrow")
        make_room(root, int(BUDGET_GIB * 2**30), place)
    return found, about


def write(place: Path, make: Callable[[dict[str, Any]], Iterable[Rows]]) -> None:
    """Writes rows to a place, whole or not at all."""
    aside = place.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    about: dict[str, Any] = {}
    try:
        with open(aside / "rows.arrow", "wb") as file:
            parts = joined(make(about))
            first = next(parts)
            schema = pa.schema([(name, arrow_type(values[0])) for name, values in first.items()])
            with pa.ipc.new_stream(file, schema) as writer:
                for rows in chain([first], parts):
                    writer.write_batch(pa.record_batch(rows, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        (aside / "about.json").write_text(json.dumps(about), encoding="utf-8")
        os.replace(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def joined(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """Pieces put together until they have `PART` rows."""
    kept: Rows = {}
    for rows in pieces:
        for name, values in rows.items():
            kept.setdefault(name, []).extend(values)
        if max(map(len, kept.values()), default=0) >= PART:
            yield kept
            kept = {}
    if any(kept.values()):
        yield kept


def make_room(root: Path, budget: int, mine: Path) -> None:
    """Deletes what was used least recently until all takes no more than a budget.

    A process that has a deleted file mapped keeps it.

    Args:
        root: of all that is kept.
        budget: in bytes.
        mine: stays.
    """
    places = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in places}
    total = sum(sizes.values())
    for place in places:
        if total <= budget:
            break
        if place != mine and not place.suffix:
            with suppress(Timeout), FileLock(f"{place}.lock", timeout=0):
                shutil.rmtree(place)
                total -= sizes[place]
