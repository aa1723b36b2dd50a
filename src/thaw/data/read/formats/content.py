"""What format a file or a directory is of, where its content shows it for certain."""

from itertools import islice
from pathlib import Path

from thaw.data.read.entities.tag_schemes import is_tag
from thaw.data.read.formats.arrow_files import SAVED, SAVED_SPLITS
from thaw.data.read.formats.column_layout import is_word, split_fields
from thaw.data.read.formats.labelled_texts import LABEL, class_folders
from thaw.data.read.text_files import COMPRESSED, open_lines


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file's name, without that of its compression."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def looks_tagged(path: Path, encoding: str) -> bool:
    """Returns whether each of the first lines ends in a tag, as those of a column file do."""
    head = map(split_fields, islice(open_lines(path, encoding), 200))
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
