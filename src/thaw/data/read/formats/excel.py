"""Excel workbooks, a row at a time, through openpyxl (an extra)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.header import Header, find_header, shown
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Placed, Reader, Remarks
from thaw.errors import ThawError

log = logging.getLogger(__name__)


def excel_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields rows of a sheet, by default the first; its first row is the header, as `how` says."""
    header: Header | None = None
    empty = 0
    for number, row in enumerate(sheet_cells(path, part), start=1):
        if all(cell is None for cell in row):
            empty += 1
            continue
        if header is None:
            filled = [place for place, cell in enumerate(row) if cell is not None]
            header = find_header(path, row[: filled[-1] + 1], how)
            if not header.is_row:
                continue
        if any(cell is not None for cell in row[header.width :]):
            raise ThawError(
                f"{path} row {number}: a cell beyond the {header.width} columns "
                f"({', '.join(header.names)}): {shown(row)}."
            )
        cells = [*row[: header.width], *[None] * (header.width - len(row))]
        yield Placed(header.as_row(cells), number)
    if header is None:
        raise ThawError(f"{path} is empty.")
    return Remarks(parts={"empty rows": empty})


def sheet_cells(path: Path, part: str | None) -> Iterator[list[Any]]:
    """Yields cells of a sheet, row by row; empty ones are None."""
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
                f"{path}: sheet {sheet.title!r} is read, of {', '.join(book.sheetnames)}; another "
                f"one is named behind a colon, {path.name}:{book.sheetnames[1]}"
            )
        for row in sheet.iter_rows(values_only=True):
            yield [None if isinstance(cell, str) and not cell else cell for cell in row]
    finally:
        book.close()
