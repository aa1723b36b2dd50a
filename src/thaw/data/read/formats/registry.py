"""The formats that thaw reads: one name and one function each."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thaw.data.read.column_files import COLUMN_SUFFIXES, column_rows
from thaw.data.read.formats import annotations
from thaw.data.read.formats.arrow_files import parquet_rows, saved_rows
from thaw.data.read.formats.brat import brat_rows
from thaw.data.read.formats.conllu_files import conllu_rows
from thaw.data.read.formats.content import (
    has_classes,
    is_fasttext,
    is_saved,
    looks_tagged,
    suffix_of,
)
from thaw.data.read.formats.csv_files import cell_rows, csv_rows, shown
from thaw.data.read.formats.excel import excel_rows
from thaw.data.read.formats.json_files import json_records, json_rows
from thaw.data.read.formats.labelled_texts import (
    class_folders,
    fasttext_rows,
    folder_rows,
)
from thaw.data.read.formats.options import Reading
from thaw.data.read.formats.own import own_rows
from thaw.data.read.formats.spacy_files import spacy_rows
from thaw.data.read.formats.word_rows import sentences_of_words
from thaw.data.read.text_files import COMPRESSED, open_lines, require_file, split_part, text_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        rows: reads a file, or a part of it, as `Reading` says.
        suffixes: of its files, where these tell it.
        about: what it is, for people.
        files: whether files are of it.
        directories: whether directories are.
    """

    rows: Callable[[Path, str | None, Reading], Rows]
    suffixes: tuple[str, ...] = ()
    about: str = ""
    files: bool = True
    directories: bool = False


def separated(delimiter: str | None) -> Callable[[Path, str | None, Reading], Rows]:
    """Returns a reader of tables with a delimiter; None: as the first line has it."""

    def rows(path: Path, part: str | None, how: Reading) -> Rows:
        lines = text_lines(path, opener(path), how.encoding, newline="")
        return csv_rows(path, lines, delimiter, how)

    return rows


def lines_of_json(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns rows of JSON Lines; see `json_rows`."""
    return annotations.table_rows(path, json_rows(path, open_lines(path, how.encoding)), how)


def whole_json(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns rows of a .json file; see `json_records`."""
    return annotations.table_rows(path, json_records(path, part, how.encoding), how)


def exported(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns rows of an annotation tool's export, in JSON Lines or in JSON."""
    return whole_json(path, part, how)


def workbook(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns rows of an Excel sheet."""
    return cell_rows(path, excel_rows(path, part, how), how)


def column_file(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns sentences of a column file; see `column_rows`."""
    if suffix_of(path) in TABLES and suffix_of(path) not in (".csv", ".tsv"):
        raise ThawError(
            f"{path} is a table, and data.format=columns is for a word a line: data.format=null, "
            "as data=files has it, finds the format."
        )
    return column_rows(path, how.encoding, how.token_column, how.tag_column, how.header, how.scheme)


def text_lines_of(path: Path, part: str | None, how: Reading) -> Rows:
    """Returns rows of a text a line."""
    return ({how.text: line.rstrip("\r\n")} for line in open_lines(path, how.encoding))


FORMATS: dict[str, Format] = {
    "csv": Format(separated(None), (".csv",), "fields apart by commas, semicolons or tabs"),
    "tsv": Format(separated("\t"), (".tsv",), "fields apart by tabs"),
    "jsonl": Format(lines_of_json, (".jsonl", ".ndjson"), "a JSON object a line"),
    "json": Format(
        whole_json,
        (".json",),
        "an array of objects, such an array under a key, or an object a line",
    ),
    "parquet": Format(parquet_rows, (".parquet",), "Parquet, with the class names of `datasets`"),
    "excel": Format(workbook, (".xlsx", ".xlsm"), "an Excel sheet (pip install openpyxl)"),
    "saved": Format(
        saved_rows, files=False, directories=True, about="a directory of `datasets.save_to_disk`"
    ),
    "fasttext": Format(fasttext_rows, (), "__label__pos in front of a text, a text a line"),
    "folders": Format(
        folder_rows, files=False, directories=True, about="a folder a class, a file a text"
    ),
    "text": Format(text_lines_of, (), "a text a line"),
    "columns": Format(
        column_file,
        COLUMN_SUFFIXES,
        "a word a line with its tag in a column, a blank line between sentences",
    ),
    "conllu": Format(conllu_rows, (".conllu", ".conllup"), "CoNLL-U, with tags in MISC"),
    "brat": Format(
        brat_rows, (".ann",), "a folder of .txt files beside .ann files", directories=True
    ),
    "prodigy": Format(exported, (), "Prodigy's JSONL; only what was accepted is read"),
    "doccano": Format(exported, (), "doccano's JSONL"),
    "label_studio": Format(exported, (), "Label Studio's JSON and JSON-MIN"),
    "spacy_json": Format(exported, (), "spaCy 2's training data in JSON"),
    "spacy": Format(spacy_rows, (".spacy",), "spaCy 3's .spacy (pip install spacy)"),
}
TABLES = tuple(
    suffix
    for name in ("csv", "tsv", "jsonl", "json", "parquet", "excel")
    for suffix in FORMATS[name].suffixes
)
BINARY = ("parquet", "excel", "spacy")  # which are not unpacked
TABLE = "table"  # before 0.2: every format but column files


def rows_of(path: Path, how: Reading) -> Rows:
    """Returns rows of a file or directory in its format.

    Args:
        path: of what is read; `:part` behind it names a key of a .json file, a sheet of a workbook
            or a split of a saved data set.
        how: the format, where it is not to be found from name and content, and its options.

    Raises:
        ThawError: there is no such file, its format is not known, or it is not of its format.
    """
    if how.reader is not None:
        rows = own_rows(how.reader, path)
    else:
        path, part = split_part(path)
        found = found_format(path, how) if how.format in (None, TABLE) else str(how.format)
        if found not in FORMATS:
            raise ThawError(f"data.format={how.format}: expected one of {', '.join(FORMATS)}.")
        asked = None if how.format == TABLE else how.format
        require_place(path, found)
        rows = FORMATS[found].rows(path, part, replace(how, format=asked))
    if not how.words:
        return rows
    return sentences_of_words(rows, how, str(path))


def require_place(path: Path, name: str) -> None:
    """Raises ThawError unless a path is a file, or a directory, as files of a format are."""
    form = FORMATS[name]
    if form.directories and path.is_dir():
        return
    if form.files:
        require_file(path)
    elif not path.is_dir():
        raise ThawError(f"{path} is no directory, and what data.format={name} reads is one.")


def opener(path: Path) -> Callable[..., Any]:
    """Returns what opens a file, compressed or not."""
    return COMPRESSED.get(path.suffix.lower(), open)


def found_format(path: Path, how: Reading) -> str:
    """Returns the format of a file or directory, by its suffix or its content.

    Raises:
        ThawError: there is no such file, or the format is not certain.
    """
    if path.is_dir():
        return found_in_directory(path, how)
    require_file(path)
    suffix = suffix_of(path)
    by_suffix = {s: name for name, form in FORMATS.items() for s in form.suffixes}
    packed = path.suffix.lower() in COMPRESSED
    open_ended = suffix in (".txt", ".tsv") or suffix not in by_suffix
    if open_ended and is_fasttext(path, how.encoding):
        found = "fasttext"
    elif open_ended and how.words and looks_tagged(path, how.encoding):
        found = "columns"
    elif suffix in by_suffix and suffix != ".txt" and not (packed and by_suffix[suffix] in BINARY):
        return by_suffix[suffix]
    else:
        raise unknown(path, by_suffix, how.encoding)
    log.info("%s: read as format=%s, as its first lines show", path, found)
    return found


def unknown(path: Path, by_suffix: dict[str, str], encoding: str) -> ThawError:
    """Returns the error for a file whose format is not known."""
    first = [] if path.suffix.lower() in COMPRESSED else first_fields(path, encoding)
    tabs = (
        f" Its first line is {shown(first)}, apart by tabs: data.format=tsv, with "
        "data.header=false where that is a row."
        if len(first) > 1
        else ""
    )
    return ThawError(
        f"{path}: unknown format; thaw reads "
        f"{', '.join(s for s, name in by_suffix.items() if name != 'columns')} by the name, text "
        f"with {', '.join(COMPRESSED)} after it, and others with data.format="
        f"{'|'.join(FORMATS)}. Any other is read by a function of yours: data.reader." + tabs
    )


def first_fields(path: Path, encoding: str) -> list[str]:
    """Returns the fields of a file's first line, apart by tabs."""
    return next(open_lines(path, encoding, 1 << 16), "").rstrip("\r\n").split("\t")


def found_in_directory(path: Path, how: Reading) -> str:
    """Returns the format of what a directory holds.

    Raises:
        ThawError: it holds nothing that thaw reads as a whole.
    """
    if is_saved(path):
        form = "saved"
    elif next(path.rglob("*.ann"), None) is not None:
        form = "brat"
    elif not how.words and has_classes(path):
        form = "folders"
    else:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        if below := [folder for folder in class_folders(path) if has_classes(folder)]:
            inside += f" (is it data.train={below[-1]}?)"
        raise ThawError(
            f"{path} is a directory; name a file in it. It holds {inside}; as a whole thaw reads a "
            "folder of a folder for each class, brat's files, and what datasets.save_to_disk wrote."
        )
    log.info("%s: read as format=%s, as what it holds shows", path, form)
    return form
