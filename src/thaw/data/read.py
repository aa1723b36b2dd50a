"""Rows of CSV, TSV, JSONL and Parquet files, one after another, in memory that does not grow."""

import bz2
import csv
import difflib
import errno
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from thaw.errors import ThawError

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COMPRESSED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


def read_rows(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Rows of a table as column to value.

    Values of CSV and TSV are strings as written: "NA" and "null" too. JSONL and Parquet keep
    numbers, lists and nulls. A byte-order mark is passed over.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson (each also with .gz, .bz2 or .xz) or .parquet.
        encoding: of the text formats.

    Raises:
        ThawError: no such file, an unknown format, an empty file, bytes that are not of the
            encoding, a ragged row, invalid JSON, or a damaged file. Names the line.
    """
    path = Path(path)
    suffix, opener = kind(path)
    if suffix == ".parquet":
        return parquet_rows(path)
    lines = decoded_lines(path, opener, "utf-8-sig" if encoding in ("utf-8", "utf8") else encoding)
    if suffix in (".jsonl", ".ndjson"):
        return json_rows(path, lines)
    return csv_rows(path, lines, "\t" if suffix == ".tsv" else ",")


def kind(path: Path) -> tuple[str, Callable[..., Any]]:
    """The format's suffix, and what opens the file.

    Raises:
        ThawError: no such file, an unknown format, or an empty file.
    """
    if not path.is_file():
        if path.is_dir():
            raise ThawError(f"{path} is a directory, not a file.")
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ThawError(f"{path}: no such file.{hint}")
    suffixes = [s.lower() for s in path.suffixes]
    opener = COMPRESSED.get(suffixes[-1] if suffixes else "", open)
    if opener is not open:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in FORMATS:
        raise ThawError(f"{path}: unknown format; thaw reads {', '.join(FORMATS)}.")
    if path.stat().st_size == 0:
        raise ThawError(f"{path} is empty.")
    return suffixes[-1], opener


def decoded_lines(path: Path, opener: Callable[..., Any], encoding: str) -> Iterator[str]:
    """Lines of text with their ends; names the byte where the encoding fails."""
    place = 0
    try:
        with opener(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = raw.decode(encoding if number == 1 else encoding.replace("-sig", ""))
                except UnicodeDecodeError as error:
                    raise ThawError(
                        f"{path} is not {encoding.replace('-sig', '')}: byte {place + error.start} "
                        f"(0x{raw[error.start]:02x}) in line {number}. Give its encoding, such as "
                        "data.encoding=latin-1 in training, encoding=latin-1 in prediction."
                    ) from error
                except LookupError as error:
                    raise ThawError(f"there is no encoding {encoding!r}.") from error
                if "\0" in line:
                    raise ThawError(f"{path} line {number}: a NUL byte; is this a text file?")
                yield line
                place += len(raw)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ThawError(f"{path} cannot be read: {error}") from error


def csv_rows(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[dict[str, Any]]:
    """Rows of CSV with a header line (RFC 4180)."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next((row for row in reader if row), [])
        if not header:
            raise ThawError(f"{path} is empty.")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise ThawError(f"{path}: the header has {repeated[0]!r} twice.")
        for row in reader:
            if not row:
                continue  # a blank line
            if len(row) != len(header):
                raise ThawError(
                    f"{path} line {reader.line_num}: {len(row)} fields, the header has "
                    f"{len(header)} ({', '.join(header)}). A field with {delimiter!r} in it needs "
                    "quotes."
                )
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ThawError(f"{path} line {reader.line_num}: {error}.") from error


def json_rows(path: Path, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Rows of JSONL, an object a line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ThawError(f"{path} line {number}: not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise ThawError(f"{path} line {number}: expected an object, got {line.strip()[:40]}.")
        yield row


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of Parquet, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ThawError(f"{path} cannot be read as Parquet: {error}") from error


class RowWriter:
    """Writes rows to a file by its suffix, whole or not at all; `-` is standard output, as JSONL.

    The file is written aside and renamed on success, so a failure leaves what was there before.

    Args:
        path: ends in .csv, .tsv, .jsonl, .ndjson or .parquet, or is `-`.

    Raises:
        ThawError: an unknown format, or the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self.stdout = str(path) == "-"
        self.path = Path(path)
        self.suffix = ".jsonl" if self.stdout else self.path.suffix.lower()
        if self.suffix not in FORMATS:
            raise ThawError(f"{path}: unknown format; thaw writes {', '.join(FORMATS)}, or -.")
        self.aside = self.path.with_name(f".{self.path.name}.partial")
        self.file: IO[Any] | None = None
        self.table: Any = None
        self.csv: Any = None
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> "RowWriter":
        if self.stdout:
            self.file = sys.stdout
            return self
        try:
            if self.suffix == ".parquet":
                self.file = open(self.aside, "wb")
            else:
                self.file = open(self.aside, "w", encoding="utf-8", newline="")
        except OSError as error:
            raise ThawError(f"{self.path} cannot be written: {error}") from error
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Adds a row; all rows have the columns of the first."""
        self.rows.append(row)
        if len(self.rows) >= 4096 or self.stdout:
            self.flush()

    def flush(self) -> None:
        """Writes the rows held back."""
        rows, self.rows = self.rows, []
        if not rows:
            return
        try:
            if self.suffix == ".parquet":
                self.write_parquet(rows)
            elif self.suffix in (".csv", ".tsv"):
                self.write_csv(rows)
            else:
                assert self.file is not None
                self.file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
                self.file.flush()
        except OSError as error:
            raise self.failed(error) from error

    def write_csv(self, rows: list[dict[str, Any]]) -> None:
        if self.csv is None:
            delimiter = "\t" if self.suffix == ".tsv" else ","
            assert self.file is not None
            self.csv = csv.DictWriter(self.file, list(rows[0]), delimiter=delimiter)
            self.csv.writeheader()
        self.csv.writerows(
            {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
        )

    def write_parquet(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.table is None:
            table = pa.Table.from_pylist(rows)
            self.table = pq.ParquetWriter(self.file, table.schema)
        else:
            table = pa.Table.from_pylist(rows, schema=self.table.schema)
        self.table.write_table(table)

    def failed(self, error: OSError) -> ThawError:
        if error.errno == errno.ENOSPC:
            return ThawError(f"no room left for {self.path}; what was there before still is.")
        return ThawError(f"{self.path} cannot be written: {error}")

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        if self.stdout or self.file is None:
            return
        try:
            if kind is None:
                self.flush()
                if self.table is not None:
                    self.table.close()
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()
                os.replace(self.aside, self.path)
        except OSError as error:
            raise self.failed(error) from error
        finally:
            if isinstance(self.file, io.IOBase) and not self.file.closed:
                self.file.close()
            self.aside.unlink(missing_ok=True)
