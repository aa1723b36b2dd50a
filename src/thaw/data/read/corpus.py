"""Running text: a text a line, tables of texts or of words, or a folder of .txt files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from thaw.data.read.formats.content import is_fasttext, is_saved, looks_tagged, suffix_of
from thaw.data.read.formats.registry import BY_SUFFIX, TABLES, rows_of
from thaw.data.read.reading import Reading
from thaw.data.read.rows import Reader, Remarks, Rows
from thaw.data.read.text_files import COMPRESSED, open_lines, require_file, split_part
from thaw.errors import ThawError

LONGEST = 1_000_000  # characters: a longer line is no line
MOST_CONTROL = 0.3  # of the first bytes of a text: what comes out of a PDF has some
CONTROL = bytes({*range(32)} - {*b"\t\n\v\f\r\x1b"})


def corpus_rows(path: Path, how: Reading, documents: bool) -> Rows:
    """Rows of a file or folder, in memory that does not grow with it.

    A row has what a table has; of a text file `text`, the line. Of a folder, `document` names the
    file that the row is a part of. With `documents`, whose rows are to be joined, a line keeps its
    end, and one that never ends comes in pieces.
    """
    other = how.reader is not None or how.format not in (None, "text", "table")
    whole, _ = split_part(path)
    if whole.is_dir():
        other |= is_saved(whole)
    elif not other and whole.is_file():
        suffix = suffix_of(whole)
        other = suffix in BY_SUFFIX and suffix != ".txt"
        if not other:
            require_text(path, how.encoding)
            other = is_fasttext(whole, how.encoding)
        if suffix == ".tsv" or not other:  # where words with tags may be in lines of any name
            how = replace(how, words=looks_tagged(whole, how.encoding))
            other |= how.words
    if other:
        return rows_of(path, how)
    rows = (folder_rows if path.is_dir() else text_file_rows)(path, how.encoding, documents)
    return Rows(rows, "text", path)


def folder_rows(path: Path, encoding: str, documents: bool) -> Reader:
    """Rows of the .txt files in a folder and the folders below, in the order of their names."""
    files = sorted(p for p in path.rglob("*") if ".txt" in p.suffixes and p.is_file())
    if not files:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise ThawError(f"{path} has no .txt files; it holds {inside}. Name a file in it.")
    left_out = Counter({"empty files": sum(not file.stat().st_size for file in files)})
    every = sum(p.is_file() for p in path.rglob("*"))
    left_out["files without .txt in their names"] = every - len(files)
    for file in files:
        if file.stat().st_size:
            name = str(file.relative_to(path))
            rows = Rows(text_file_rows(file, encoding, documents))
            for row in rows:
                yield {**row, "document": name}
            left_out.update(rows.remarks.parts)
    return Remarks(parts=left_out)


def text_file_rows(path: Path, encoding: str, documents: bool) -> Reader:
    """Lines of a text file as `text`; with `documents` also `document`, the line's number."""
    require_text(path, encoding)
    number, blank = 1, 0
    for piece in open_lines(path, encoding, LONGEST):
        ended = piece.endswith("\n")
        if not documents and len(piece) >= LONGEST:
            raise ThawError(
                f"{path} line {number} is longer than {LONGEST:,} characters; expected a text a "
                "line. data.pack=documents cuts it into blocks of data.max_tokens."
            )
        if piece.strip():
            yield (
                {"text": piece, "document": number} if documents else {"text": piece.rstrip("\r\n")}
            )
        else:
            blank += 1
        number += ended
    return Remarks(parts={"blank lines": blank})


def require_text(path: Path, encoding: str) -> None:
    """Raises ThawError if a file begins as no text does."""
    require_file(path)
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        return
    with open(path, "rb") as raw:
        head = raw.read(4096)
    if path.suffix.lower() not in COMPRESSED and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        control = len(head) - len(head.translate(None, CONTROL))
        if head.startswith(b"%PDF") or b"\0" in head or control > len(head) * MOST_CONTROL:
            raise ThawError(
                f"{path} is a binary file: it begins with {head[:8]!r}. Expected text, a text a "
                f"line, or a table ({', '.join(TABLES)})."
            )


def joined(rows: Iterable[Mapping[str, Any]], column: str) -> Iterator[Mapping[str, Any]]:
    """Rows with those of one `document`, which follow each other, joined to one."""
    for _, parts in groupby(enumerate(rows), lambda pair: pair[1].get("document", pair[0])):
        (_, first), *rest = parts
        whole = {column: "".join([first[column], *(r[column] for _, r in rest)])} if rest else {}
        yield {**first, **whole}
