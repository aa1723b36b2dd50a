"""Files to rows: CSV, TSV, JSONL and Parquet, in memory that does not grow with the file."""

import bz2
import codecs
import csv
import difflib
import gzip
import io
import json
import logging
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from thaw.errors import ThawError

log = logging.getLogger(__name__)

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
BATCH = 4096


def read_rows(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Rows of a table as column to value.

    Values of CSV and TSV are strings as written: "NA" and "null" too. JSONL and Parquet keep
    numbers, lists and nulls. A byte-order mark is passed over. Where the header of a .csv has no
    comma, but semicolons or tabs, as spreadsheets write them in much of Europe, fields are apart
    by those.

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
    return csv_rows(path, lines, "\t" if suffix == ".tsv" else None)


def text_rows(
    path: str | Path, encoding: str = "utf-8", column: str = "text"
) -> Iterator[dict[str, Any]]:
    """Rows with one column of a file with a text a line, whatever its name; see `read_rows` for
    compression and errors."""
    return ({column: line.rstrip("\r\n")} for line in open_lines(Path(path), encoding))


def open_lines(path: Path, encoding: str, longest: int = -1) -> Iterator[str]:
    """Lines of a text file of any name, with their ends; see `read_rows` for errors.

    Args:
        path: of the file.
        encoding: of the text.
        longest: characters; a longer line comes in pieces of so many, each but the last without a
            line end. -1: lines come whole.
    """
    require_file(path)
    opener = COMPRESSED.get(path.suffix.lower(), open)
    return text_lines(path, opener, encoding, newline="\n", longest=longest)


def require_file(path: Path) -> None:
    """Raises ThawError unless a path is a file with something in it."""
    if path.is_dir():
        raise ThawError(f"{path} is a directory; name a file in it ({', '.join(FORMATS)}).")
    if not path.is_file():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise ThawError(f"{path}: no such file{where}.{hint}")
    if path.stat().st_size == 0:
        raise ThawError(f"{path} is empty.")


def kind(path: Path) -> tuple[str, Callable[..., Any]]:
    """The format's suffix, and what opens the file; a ThawError where there is none."""
    require_file(path)
    *rest, last = ["", *(s.lower() for s in path.suffixes)]
    suffix = rest[-1] if last in COMPRESSED and rest else last
    if suffix not in FORMATS or (suffix == ".parquet" and last in COMPRESSED):
        raise ThawError(
            f"{path}: unknown format; thaw reads {', '.join(FORMATS)}, and text with "
            f"{', '.join(COMPRESSED)} after it."
        )
    return suffix, COMPRESSED.get(last, open)


def text_lines(
    path: Path, opener: Callable[..., Any], encoding: str, newline: str, longest: int = -1
) -> Iterator[str]:
    """Lines of text with their ends; names the byte where the encoding fails."""
    number = 0
    try:
        name = codecs.lookup(encoding).name
        with opener(path, "rb") as raw:
            file = io.TextIOWrapper(raw, "utf-8-sig" if name == "utf-8" else name, newline=newline)
            try:
                lines = iter(lambda: file.readline(longest), "") if longest > 0 else file
                for number, line in enumerate(lines, start=1):
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
                guess = "utf-16" if marked else "cp1252" if name.startswith("utf-8") else "utf-8"
                raise ThawError(
                    f"{path} is not {encoding}: byte {place} (0x{bad:02x}) in line {line_number}. "
                    f"Give its encoding, such as data.encoding={guess} in training, "
                    f"encoding={guess} in prediction."
                ) from error
    except UnicodeError as error:
        raise ThawError(f"{path} is not {encoding}: {error}.") from error
    except LookupError as error:
        raise ThawError(f"there is no encoding {encoding!r}; try utf-8 or cp1252.") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ThawError(f"{path} cannot be read, is it damaged? {error}") from error


def csv_rows(path: Path, lines: Iterator[str], delimiter: str | None) -> Iterator[dict[str, Any]]:
    """Rows of CSV with a header line (RFC 4180).

    Args:
        path: for messages.
        lines: with their ends.
        delimiter: between fields; None: as the header has it.
    """
    csv.field_size_limit(2**31 - 1)
    if delimiter is None:
        head = next(lines, "")
        lines = chain([head], lines)
        delimiter = next((d for d in ",;\t" if d in head), ",")
        if delimiter != ",":
            log.info("%s: the fields of the header are apart by %r", path, delimiter)
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
    """Refuses two columns of one name."""
    for place, name in enumerate(names):
        if name in names[:place]:
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
