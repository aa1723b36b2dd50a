"""What format a file or a directory is of, where its content shows it for certain."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from thaw.data.read.entities.tag_schemes import is_tag
from thaw.data.read.formats.arrow_files import SAVED, SAVED_SPLITS
from thaw.data.read.formats.column_layout import is_word, split_fields
from thaw.data.read.formats.labelled_texts import LABEL, class_folders
from thaw.data.read.reading import Reading
from thaw.data.read.text_files import COMPRESSED, open_lines

ANSWERS = ("accept", "reject", "ignore")  # Prodigy's


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file's name, without that of its compression."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def looks_tagged(path: Path, encoding: str) -> bool:
    """Returns whether each of the first lines ends in a tag, as those of a column file do."""
    head = map(split_fields, islice(open_lines(path, encoding, 1 << 16), 200))
    fields = [f for f in head if is_word(f) and not f[0].startswith("#")]
    return bool(fields) and all(len(f) > 1 and (f[-1] == "O" or is_tag(f[-1])) for f in fields)


def is_fasttext(path: Path, encoding: str) -> bool:
    """Returns whether each of the first lines begins with a label as fastText writes them."""
    begins = True
    found = False
    for piece in islice(open_lines(path, encoding, 1 << 16), 100):
        if begins and piece.strip():
            if not piece.startswith(LABEL):
                return False
            found = True
        begins = piece.endswith("\n")
    return found


def is_saved(path: Path) -> bool:
    """Returns whether a directory was written by `datasets.save_to_disk`."""
    return (path / SAVED_SPLITS).is_file() or all((path / name).is_file() for name in SAVED)


def has_classes(path: Path) -> bool:
    """Returns whether a directory has two folders with files in them."""
    filled = [f for f in class_folders(path) if any(p.is_file() for p in f.iterdir())]
    return len(filled) > 1


def found_tool(head: Sequence[Any]) -> str | None:
    """Returns the tool that wrote records, where they show it for certain."""
    records = [r for r in head if isinstance(r, dict)]
    if head and all(is_spacy_pair(r) for r in head):
        return "spacy_json"
    if not head or len(records) < len(head):
        return None
    answers = [r["answer"] for r in records if "answer" in r]
    if answers and all("text" in r for r in records) and all(a in ANSWERS for a in answers):
        return "prodigy"
    if all("text" in r and "Comments" in r for r in records):
        return "doccano"
    if all(
        isinstance(r.get("data"), dict)
        and any(isinstance(r.get(key), list) for key in ("annotations", "completions"))
        for r in records
    ):
        return "label_studio"
    return "spacy_json" if all(isinstance(r.get("paragraphs"), list) for r in records) else None


def is_spacy_pair(record: Any) -> bool:
    """Returns whether a record is a text and what spaCy 2 says of it."""
    match record:
        case [str(), dict(said)]:
            return not said.keys().isdisjoint({"entities", "cats"})
    return False


def spans_column(rows: Sequence[Mapping[str, Any]], how: Reading) -> str | None:
    """Returns the only column of the first rows with spans; None if one has the asked name."""
    if any(how.spans in row or how.text not in row for row in rows):
        return None
    found = [
        column
        for column in dict.fromkeys(column for row in rows for column in row)
        if any(row.get(column) for row in rows)
        and all(
            value is None or (isinstance(value, list) and all(map(is_span, value)))
            for value in (row.get(column) for row in rows)
        )
    ]
    return found[0] if len(found) == 1 else None


def tool_of_spans(rows: Sequence[Mapping[str, Any]], column: str) -> str | None:
    """Returns the tool whose spans a column of the first rows holds; None: several write such."""
    span = next(row[column][0] for row in rows if row.get(column))
    if isinstance(span, list):
        return "doccano" if column in ("label", "labels") else None
    return "doccano" if "start_offset" in span else "label_studio" if "labels" in span else None


def is_span(item: Any) -> bool:
    """Returns whether a value is a span, as one of the tools writes it."""
    if isinstance(item, list):
        return [type(v) for v in item] == [int, int, str]
    keys = set(item) if isinstance(item, dict) else set()
    placed = {"start", "end"} <= keys or "start_offset" in keys
    return placed and not keys.isdisjoint({"label", "labels", "type"})
