"""Files as rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading


def read_rows(path: str | Path, encoding: str = "utf-8") -> Iterator[dict[str, Any]]:
    """Returns rows of a file in the format that its name and content tell."""
    return rows_of(Path(path), Reading(encoding=encoding))
