"""Tables of any format as rows; see `thaw.data.read.formats.registry` for all there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.formats.options import Reading
from thaw.data.read.formats.registry import rows_of


def read_rows(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Returns rows of a file as column to value.

    Values of CSV and TSV are strings as written: "NA" and "null" too. JSON and Parquet keep
    numbers, lists and nulls.

    Args:
        path: of a format that its name or content tells.
        encoding: of the text formats.

    Raises:
        ThawError: no such file, an unknown format, an empty file, bytes that are not of the
            encoding, a bad header, a ragged row, invalid JSON, or a damaged file.
    """
    return rows_of(Path(path), Reading(encoding=encoding))
