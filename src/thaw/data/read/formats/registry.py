"""The formats that thaw reads: one name and one function each."""

import logging
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from thaw.data.read.entities.word_rows import sentences_of_words
from thaw.data.read.formats import content
from thaw.data.read.formats.annotations.brat import brat_rows
from thaw.data.read.formats.annotations.spacy_files import spacy_rows
from thaw.data.read.formats.annotations.tools import json_rows
from thaw.data.read.formats.arrow_files import parquet_rows, saved_rows
from thaw.data.read.formats.column_files import COLUMN_SUFFIXES, column_rows
from thaw.data.read.formats.conllu_files import conllu_rows
from thaw.data.read.formats.csv_files import csv_rows
from thaw.data.read.formats.excel import excel_rows
from thaw.data.read.formats.labelled_texts import class_folders, fasttext_rows, folder_rows
from thaw.data.read.formats.own import OWN_READER, own_rows
from thaw.data.read.header import shown
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Rows
from thaw.data.read.text_files import COMPRESSED, open_lines, require_file, split_part
from thaw.errors import ThawError, require_choice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Format:
    """A format: the function that reads it, the suffixes that tell it, and what is of it."""

    rows: Callable[[Path, str | None, Reading], Iterator[Any]]
    suffixes: tuple[str, ...] = ()
    files: bool = True
    directories: bool = False


def line_rows(path: Path, part: str | None, how: Reading) -> Iterator[Any]:
    """Returns rows of a text a line."""
    return ({how.text: line.rstrip("\r\n")} for line in open_lines(path, how.encoding))


A_FOLDER: dict[str, Any] = {"files": False, "directories": True}
FORMATS = {
    "csv": Format(csv_rows, (".csv",)),  # fields apart by commas, semicolons or tabs
    "tsv": Format(partial(csv_rows, asked="\t"), (".tsv",)),  # fields apart by tabs
    "jsonl": Format(partial(json_rows, lines=True), (".jsonl", ".ndjson")),
    "json": Format(json_rows, (".json",)),  # an array, an array under a key, or an object a line
    "parquet": Format(parquet_rows, (".parquet",)),  # with the class names of `datasets`
    "excel": Format(excel_rows, (".xlsx", ".xlsm")),  # pip install openpyxl
    "saved": Format(saved_rows, **A_FOLDER),  # a directory of `datasets.save_to_disk`
    "fasttext": Format(fasttext_rows),  # __label__pos in front of a text, a text a line
    "folders": Format(folder_rows, **A_FOLDER),  # a folder a class, a file a text
    "text": Format(line_rows),  # a text a line
    # A word a line with its tag in a column, a blank line between sentences.
    "columns": Format(column_rows, COLUMN_SUFFIXES),
    "conllu": Format(conllu_rows, (".conllu", ".conllup")),  # with tags in MISC
    "brat": Format(brat_rows, (".ann",), directories=True),  # .txt files beside .ann files
    "prodigy": Format(json_rows),  # JSONL, of which only what was accepted is read
    "doccano": Format(json_rows),  # JSONL
    "label_studio": Format(json_rows),  # JSON and JSON-MIN
    "spacy_json": Format(json_rows),  # spaCy 2's training data
    "spacy": Format(spacy_rows, (".spacy",)),  # spaCy 3; pip install spacy
}
BY_SUFFIX = {suffix: name for name, form in FORMATS.items() for suffix in form.suffixes}
TABLES = tuple(
    suffix
    for name in ("csv", "tsv", "jsonl", "json", "parquet", "excel")
    for suffix in FORMATS[name].suffixes
)
BINARY = ("parquet", "excel", "spacy")  # which are not unpacked
TABLE = "table"  # before 0.2: every format but column files


def rows_of(path: Path, how: Reading) -> Rows:
    """Returns rows of a file or directory in its format; raises ThawError if there is no such file,
    its format is not known, or it is not of its format.

    Args:
        path: of what is read; `:part` behind it names a key of a .json file, a sheet of a workbook
            or a split of a saved data set.
        how: the format, where it is not to be found from name and content, and its options.
    """
    if how.reader is not None:
        rows = Rows(own_rows(how.reader, path), f"data.reader={how.reader}")
    else:
        path, part = split_part(path)
        require_no_page(path)
        found = found_format(path, how) if how.format in (None, TABLE) else str(how.format)
        require_choice("data.format", found, FORMATS)
        require_kind(path, found)
        asked = None if how.format == TABLE else how.format
        rows = Rows(FORMATS[found].rows(path, part, replace(how, format=asked)), found, path)
    if not how.words:
        return rows

    def sentences() -> Reader:
        yield from sentences_of_words(rows, how, str(path))
        return rows.remarks

    return Rows(sentences())


def require_no_page(path: Path) -> None:
    """Raises ThawError if a file named as a table is a page of HTML."""
    if content.suffix_of(path) not in (*TABLES, ".xls") or not path.is_file():
        return
    with open(path, "rb") as raw:
        head = raw.read(200).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise ThawError(
            f"{path} is a page of HTML, not a table. Was a link downloaded, and not the file? "
            "Where the page holds the table itself, `pip install lxml`, and then `python -c "
            "'import pandas, sys; pandas.read_html(sys.argv[1], keep_default_na=False)[0]"
            f'.to_csv("table.csv", index=False)\' {shlex.quote(str(path))}` makes table.csv of it.'
        )


def require_kind(path: Path, name: str) -> None:
    """Raises ThawError unless a path is a file, or a directory, as a format is."""
    form = FORMATS[name]
    if form.directories and path.is_dir():
        return
    if not form.files:
        raise ThawError(f"{path} is no directory, and what data.format={name} reads is one.")
    require_file(path)
    suffix = content.suffix_of(path)
    if name == "columns" and suffix in TABLES and suffix not in (".csv", ".tsv"):
        raise ThawError(
            f"{path} is a table, and data.format=columns is for a word a line: data.format=null, "
            "as data=files has it, finds the format."
        )


def found_format(path: Path, how: Reading) -> str:
    """Returns the format of a file or directory; raises ThawError if it is not certain."""
    if path.is_dir():
        found = found_in_directory(path, how)
    else:
        require_file(path)
        suffix = content.suffix_of(path)
        name = BY_SUFFIX.get(suffix)
        if suffix in (".txt", ".tsv") or name is None:
            if content.is_fasttext(path, how.encoding):
                name = "fasttext"
            elif how.words and content.looks_tagged(path, how.encoding):
                name = "columns"
            elif suffix == ".txt":
                name = None
        if name is None or (path.suffix.lower() in COMPRESSED and name in BINARY):
            raise unknown(path, how.encoding)
        if name == BY_SUFFIX.get(suffix) and suffix != ".txt":
            return name
        found = name
    what = "what it holds shows" if path.is_dir() else "its first lines show"
    log.info("%s: read as format=%s, as %s", path, found, what)
    return found


def unknown(path: Path, encoding: str) -> ThawError:
    """Returns the error for a file whose format is not known."""
    packed = path.suffix.lower() in COMPRESSED
    first = "" if packed else next(open_lines(path, encoding, longest=1 << 16), "")
    fields = first.rstrip("\r\n").split("\t")
    tabs = (
        f" Its first line is {shown(fields)}, apart by tabs: data.format=tsv, with "
        "data.header=false where that is a row."
    )
    return ThawError(
        f"{path}: unknown format; thaw reads "
        f"{', '.join(s for s, name in BY_SUFFIX.items() if name != 'columns')} by the name, text "
        f"with {', '.join(COMPRESSED)} after it, and others with data.format="
        f"{'|'.join(FORMATS)}. Where it is of none of them, {OWN_READER}" + tabs * (len(fields) > 1)
    )


def found_in_directory(path: Path, how: Reading) -> str:
    """Returns the format of what a directory holds; raises ThawError if it is not certain."""
    if content.is_saved(path):
        return "saved"
    if next(path.rglob("*.ann"), None) is not None:
        return "brat"
    if not how.words and content.has_classes(path):
        return "folders"
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
    if below := [folder for folder in class_folders(path) if content.has_classes(folder)]:
        inside += f" (is it data.train={below[-1]}?)"
    raise ThawError(
        f"{path} is a directory; name a file in it. It holds {inside}; as a whole thaw reads a "
        "folder of a folder for each class, brat's files, and what datasets.save_to_disk wrote."
    )
