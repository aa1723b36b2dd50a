"""Excel workbooks, a row at a time, through openpyxl (an extra)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.formats.csv_files import cell_rows
from thaw.data.read.reading import Reading
from thaw.errors import ThawError

log = logging.getLogger(__name__)


def excel_rows(path: Path, part: str | None, how: Reading) -> Iterator[dict[str, Any]]:
    """Returns rows of a sheet, by default the first one; see `cell_rows` and `sheet_cells`."""
    return cell_rows(path, sheet_cells(path, part), how)


def sheet_cells(path: Path, part: str | None) -> Iterator[list[Any]]:
    """Yields cells of a sheet, row by row, without rows that are empty.

    Raises:
        ThawError: openpyxl is not installed, the file is damaged, or there is no such sheet.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ThawError(
            f"{path} is read with openpyxl, which is not installed: pip install openpyxl "
            "(or thaw[excel]). A .csv needs nothing."
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # zipfile, XML and openpyxl each have errors of their own
        raise ThawError(f"{path} cannot be read as Excel, is it damaged? {error}") from error
    try:
        if part is not None and part not in book.sheetnames:
            raise ThawError(f"{path} has no sheet {part!r}; it has {', '.join(book.sheetnames)}.")
        sheet = book[part] if part is not None else book.worksheets[0]
        if part is None and len(book.worksheets) > 1:
            log.info(
                "%s: sheet %r is read, of %s; another one is named behind a colon, %s:%s",
                path,
                sheet.title,
                ", ".join(book.sheetnames),
                path.name,
                book.sheetnames[1],
            )
        for row in sheet.iter_rows(values_only=True):
            cells = [None if isinstance(cell, str) and not cell else cell for cell in row]
            if any(cell is not None for cell in cells):
                yield cells
    finally:
        book.close()
