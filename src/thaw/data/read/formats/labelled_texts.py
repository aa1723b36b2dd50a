"""Texts with labels where no table is: fastText's lines, and a folder a class."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.data.read.reading import Reading
from thaw.data.read.text_files import open_lines
from thaw.errors import ThawError

log = logging.getLogger(__name__)

LABEL = "__label__"


def fasttext_rows(path: Path, part: str | None, how: Reading) -> Iterator[dict[str, Any]]:
    """Yields rows of a file whose lines begin with `__label__` and a name, once or several times.

    Args:
        path: any name; .gz, .bz2 and .xz are unpacked.
        part: not used.
        how: see `Reading`.

    Returns:
        Rows with `text` and `label`; `label` is a list in all rows where one has several.

    Raises:
        ThawError: a label has no name.
    """
    several = any(len(labels) > 1 for _, labels, _ in labelled_lines(path, how.encoding))
    for _, labels, text in labelled_lines(path, how.encoding):
        one = labels[0] if labels else None
        yield {how.text: text, "label": labels if several else one}


def labelled_lines(path: Path, encoding: str) -> Iterator[tuple[int, list[str], str]]:
    """Yields number, labels and text of each line that is not blank."""
    for number, line in enumerate(open_lines(path, encoding), start=1):
        words = line.split()
        if not words:
            continue
        labels = [word[len(LABEL) :] for word in words if word.startswith(LABEL)]
        if "" in labels:
            raise ThawError(f"{path} line {number}: {LABEL} without a name: {line.strip()[:60]!r}.")
        rest = line.strip()
        while rest.startswith(LABEL):
            rest = rest.partition(" ")[2].lstrip()
        if LABEL in rest:  # fastText takes labels anywhere in a line
            rest = " ".join(word for word in rest.split() if not word.startswith(LABEL))
        yield number, labels, rest


def folder_rows(path: Path, part: str | None, how: Reading) -> Iterator[dict[str, Any]]:
    """Yields rows of a folder that has a folder for each class, with a file for each text.

    Args:
        path: the folder of folders.
        part: not used.
        how: see `Reading`.

    Returns:
        Rows with `text`, `label` (the folder's name) and `document` (the file's), in the order of
        names. Hidden files are passed over.

    Raises:
        ThawError: a folder holds folders, or a file is no text.
    """
    counts: Counter[str] = Counter()
    for folder in class_folders(path):
        for file in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
            if file.is_dir():
                raise ThawError(
                    f"{path}: {folder.name} holds a folder, {file.name}; expected a folder a class "
                    f"with a file a text. Is it data.train={folder}?"
                )
            counts[folder.name] += 1
            text = "".join(open_lines(file, how.encoding)) if file.stat().st_size else ""
            text = text.rstrip("\r\n")
            yield {how.text: text, "label": folder.name, "document": str(file.relative_to(path))}
    beside = [p.name for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    if beside:
        log.warning(
            "%s: %d files beside the folders are passed over, such as %s",
            path,
            len(beside),
            min(beside),
        )
    log.info("%s: %d classes of a folder each, %d texts", path, len(counts), counts.total())


def class_folders(path: Path) -> list[Path]:
    """Returns the folders in a folder, without hidden ones, in the order of their names."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
