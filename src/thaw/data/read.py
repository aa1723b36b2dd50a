"""Rows of CSV, TSV, JSONL and Parquet files, one after another, in memory that does not grow."""

import bz2
import codecs
import csv
import difflib
import errno
import gzip
import io
import json
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from thaw.errors import ThawError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BATCH = 4096


def read_rows(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Rows of a table as column to value.

    Values of CSV and TSV are strings as written: "NA" and "null" too. JSONL and Parquet keep
    numbers, lists and nulls. A byte-order mark is passed over.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson (each also with .gz, .bz2 or .xz) or .parquet.
        encoding: of the text formats.

    Raises:
        ThawError: no such file, an unknown format, an empty file, bytes that are not of the
            encoding, a bad header, a ragged row, invalid JSON, or a damaged file.
    """
    path = Path(path)
    suffix, opener = kind(path)
    if suffix == ".parquet":
        return parquet_rows(path)
    if suffix in (".jsonl", ".ndjson"):
        return json_rows(path, text_lines(path, opener, encoding, newline="\n"))
    lines = text_lines(path, opener, encoding, newline="")
    return csv_rows(path, lines, "\t" if suffix == ".tsv" else ",")


def kind(path: Path) -> tuple[str, Callable[..., Any]]:
    """The format's suffix, and what opens the file; a ThawError where there is none."""
    if path.is_dir():
        raise ThawError(f"{path} is a directory; name a file in it ({', '.join(FORMATS)}).")
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ThawError(f"{path}: no such file.{hint}")
    *rest, last = ["", *(s.lower() for s in path.suffixes)]
    suffix = rest[-1] if last in COMPRESSED and rest else last
    if suffix not in FORMATS or (suffix == ".parquet" and last in COMPRESSED):
        raise ThawError(
            f"{path}: unknown format; thaw reads {', '.join(FORMATS)}, and text with "
            f"{', '.join(COMPRESSED)} after it."
        )
    if path.stat().st_size == 0:
        raise ThawError(f"{path} is empty.")
    return suffix, COMPRESSED.get(last, open)


def text_lines(
    path: Path, opener: Callable[..., Any], encoding: str, newline: str
) -> Iterator[str]:
    """Lines of text with their ends; names the byte where the encoding fails."""
    number = 0
    try:
        name = codecs.lookup(encoding).name
        with opener(path, "rb") as raw:
            file = io.TextIOWrapper(raw, "utf-8-sig" if name == "utf-8" else name, newline=newline)
            try:
                for number, line in enumerate(file, start=1):
                    if "\0" in line:
                        raise ThawError(
                            f"{path} line {number}: a NUL byte. Is it text? If it is UTF-16, say "
                            "data.encoding=utf-16 in training, encoding=utf-16 in prediction."
                        )
                    yield line
            except UnicodeDecodeError as error:
                bad = error.object[error.start]
                # What failed to decode always ends where reading stands.
                place = raw.tell() - len(error.object) + error.start
                line_number = number + 1 + error.object[: error.start].count(b"\n")
                marked = place == 0 and bad in (0xFE, 0xFF)
                guess = "utf-16" if marked else "latin-1" if name.startswith("utf-8") else "utf-8"
                raise ThawError(
                    f"{path} is not {encoding}: byte {place} (0x{bad:02x}) in line {line_number}. "
                    f"Give its encoding, such as data.encoding={guess} in training, "
                    f"encoding={guess} in prediction."
                ) from error
    except UnicodeError as error:
        raise ThawError(f"{path} is not {encoding}: {error}.") from error
    except LookupError as error:
        raise ThawError(f"there is no encoding {encoding!r}; try utf-8 or latin-1.") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ThawError(f"{path} cannot be read, is it damaged? {error}") from error


def csv_rows(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[dict[str, Any]]:
    """Rows of CSV with a header line (RFC 4180)."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    try:
        for row in reader:
            if row and not header:
                header = row
                check_names(path, header)
            elif row and len(row) != len(header):
                inside = repr(delimiter) if len(row) > len(header) else "line end"
                raise ThawError(
                    f"{path} line {start}: {len(row)} fields, the header has {len(header)} "
                    f"({', '.join(header)}). A {inside} within a field needs quotes around it."
                )
            elif row:
                yield dict(zip(header, row, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise ThawError(
            f"{path} line {start}: {error}. A quote within a quoted field is written twice."
        ) from error
    if not header:
        raise ThawError(f"{path} is empty.")


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuses columns without a name, or with the same one."""
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise ThawError(
                f"{path}: column {place} of the header has no name; give it one "
                "(pandas: to_csv(index=False))."
            )
        if name in names[: place - 1]:
            raise ThawError(f"{path}: the header has {name!r} twice; rename one.")


def json_rows(path: Path, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Rows of JSONL, an object a line."""
    empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ThawError(f"{path} line {number}: not JSON: {error}.") from error
        if not isinstance(row, dict):
            got = line.strip()[:40]
            raise ThawError(
                f'{path} line {number}: expected an object, {{"column": value, …}}, got {got}.'
            )
        empty = False
        yield row
    if empty:
        raise ThawError(f"{path} is empty.")


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of Parquet, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By default a whole row group is held: 103 MB of a file with one of 100 MB, here 10 MB.
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            check_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ThawError(f"{path} cannot be read as Parquet, is it damaged? {error}") from error


class RowWriter:
    """Writes rows to a file by its suffix, whole or not at all; `-` is standard output, as JSONL.

    The file is written aside and renamed on success, so a failure leaves what was there before.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson or .parquet, or is `-`.
        columns: of CSV and Parquet; by default those of the first 4096 rows.

    Raises:
        ThawError: an unknown format, a row that does not fit, or the disk is full.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] | None = None) -> None:
        self.stdout = str(path) == "-"
        self.path = Path(path)
        self.suffix = ".jsonl" if self.stdout else self.path.suffix.lower()
        if self.suffix not in FORMATS:
            raise ThawError(f"{path}: unknown format; thaw writes {', '.join(FORMATS)}, or -.")
        self.aside = self.path.with_name(f".{self.path.name}.partial")
        self.columns = None if columns is None else list(columns)
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
        for row in rows:
            if extra := [name for name in row if name not in self.columns]:
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

        assert self.columns is not None
        nulls = pa.schema([(name, pa.null()) for name in self.columns])
        table = pa.Table.from_pylist(rows) if rows else nulls.empty_table()
        if self.table is None:
            # A column so far without a value may get one later: most likely text.
            known = {pa.null(): pa.string(), pa.list_(pa.null()): pa.list_(pa.string())}
            schema = pa.schema([f.with_type(known.get(f.type, f.type)) for f in table.schema])
            self.table = pq.ParquetWriter(self.aside, schema)
        elif table.schema != self.table.schema:
            pa.Table.from_pylist(rows, schema=self.table.schema)  # refuses "7" as 7; cast does not
        self.table.write_table(
            table.cast(self.table.schema)
        )  # refuses 1.5 as 1; the above does not

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
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()
                os.replace(self.aside, self.path)
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
