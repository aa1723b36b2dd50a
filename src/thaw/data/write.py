"""Columns that are added to rows, and rows to files, in memory that does not grow with the file."""

import csv
import errno
import json
import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from thaw.errors import ThawError
from thaw.storage.files import partial_name, put

log = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
BATCH = 4096  # rows that are held back


class RowWriter:
    """Writes rows to a file by its suffix, whole or not at all; `-` is standard output, as JSONL.

    The file is written aside and renamed on success, so a failure leaves what was there before.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson or .parquet, or is `-`. The columns of CSV and
            Parquet are those of the first 4096 rows.

    Raises:
        ThawError: an unknown format, a row that does not fit, or the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self.stdout = str(path) == "-"
        self.path = Path(path)
        self.suffix = ".jsonl" if self.stdout else self.path.suffix.lower()
        if self.suffix not in FORMATS:
            raise ThawError(f"{path}: unknown format; thaw writes {', '.join(FORMATS)}, or -.")
        self.aside = partial_name(self.path)
        self.columns: list[str] | None = None
        self.file: IO[Any] | None = None
        self.table: Any = None
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> "RowWriter":
        try:
            self.file = (
                sys.stdout if self.stdout else open(self.aside, "w", encoding="utf-8", newline="")
            )
        except OSError as error:
            raise self.failed(error) from error
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        self.rows.append(row)
        if len(self.rows) >= BATCH or self.stdout:
            self.flush()

    def flush(self) -> None:
        """Writes the rows held back, and before the first the header."""
        rows, self.rows = self.rows, []
        try:
            if self.suffix in (".jsonl", ".ndjson"):
                assert self.file is not None
                self.file.writelines(as_json(row) + "\n" for row in rows)
                self.file.flush()
            else:
                self.write_table(rows)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise self.failed(error) from error

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        """Writes rows of CSV or Parquet; the first call settles columns and types."""
        if self.columns is None:
            self.columns = list(dict.fromkeys(name for row in rows for name in row))
        known = dict.fromkeys(self.columns)  # a list would make 1,000 columns quadratic
        for row in rows:
            if extra := [name for name in row if name not in known]:
                raise ThawError(
                    f"{self.path}: a row has a column {extra[0]!r}, the first rows had "
                    f"{', '.join(self.columns)}. Write a .jsonl instead: its rows may differ."
                )
        if self.suffix == ".parquet":
            return self.write_parquet([{c: row.get(c) for c in self.columns} for row in rows])
        if self.table is None:
            delimiter = "\t" if self.suffix == ".tsv" else ","
            assert self.file is not None
            self.table = csv.DictWriter(self.file, self.columns, delimiter=delimiter)
            if self.columns:
                self.table.writeheader()
        nested = (list, dict)
        self.table.writerows(
            {k: as_json(v) if isinstance(v, nested) else v for k, v in row.items()} for row in rows
        )

    def write_parquet(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(rows)
        if self.table is None:
            # A column so far without a value may get one later: most likely text.
            known = {pa.null(): pa.string(), pa.list_(pa.null()): pa.list_(pa.string())}
            schema = pa.schema([f.with_type(known.get(f.type, f.type)) for f in table.schema])
            self.table = pq.ParquetWriter(self.aside, schema)
        elif table.schema != self.table.schema:
            pa.Table.from_pylist(rows, schema=self.table.schema)  # refuses "7" as 7; cast does not
        # The cast refuses 1.5 as 1; the line above does not.
        self.table.write_table(table.cast(self.table.schema))

    def failed(self, error: Exception) -> ThawError:
        """The error to raise for one that stopped the writing."""
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return ThawError(f"no room left for {self.path}; what was there before still is.")
        where = "standard output" if self.stdout else self.path
        if isinstance(error, (OSError, UnicodeError)):
            return ThawError(f"{where} cannot be written: {error}.")
        return ThawError(
            f"{where} cannot be written: {error}. A column has one type; in a .jsonl it may vary."
        )

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        if self.stdout or self.file is None:
            return
        try:
            if kind is None:
                self.flush()
                if self.suffix == ".parquet":
                    self.table.close()
                self.file.close()
                put(self.aside, self.path)
        except OSError as error:
            raise self.failed(error) from error
        finally:
            if self.suffix == ".parquet" and self.table is not None:
                with suppress(Exception):
                    self.table.close()
                self.table.is_open = False  # or it tries again, and fails, when collected
            with suppress(OSError):
                self.file.close()
            self.aside.unlink(missing_ok=True)


def as_json(value: Any) -> str:
    """JSON in one line; dates and the like as text."""
    return json.dumps(value, ensure_ascii=False, default=str)


class AddedColumns:
    """Adds columns to rows; one whose name is taken gets another, `prediction_2`, which is said."""

    def __init__(self, taken: Iterable[str], origin: str) -> None:
        self.taken = set(taken)
        self.origin = origin
        self.names: dict[str, str] = {}
        self.number = 0

    def add(self, row: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row with further columns, whose names were free in the first rows."""
        self.number += 1
        if new := [name for name in added if name not in self.names]:
            self.choose(new)
        named = {self.names[name]: value for name, value in added.items()}
        if lost := [name for name in named if name in row]:
            raise ThawError(
                f"{self.origin}: row {self.number} has a column {lost[0]!r}, which the first rows "
                "lack, and thaw writes one of that name. Rename it in the input."
            )
        return {**row, **named}

    def choose(self, names: Iterable[str]) -> None:
        """Chooses the names that columns are written under, and says which are not their own."""
        other: dict[str, str] = {}
        for name in names:
            free, number = name, 2
            while free in self.taken:
                free, number = f"{name}_{number}", number + 1
            self.names[name] = free
            self.taken.add(free)
            other |= {name: free} if free != name else {}
        if other:
            log.warning(
                f"{self.origin} has columns of its own called {', '.join(map(repr, other))}: they "
                f"are kept, and thaw's are called {', '.join(map(repr, other.values()))}"
            )
