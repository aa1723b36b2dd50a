"""Texts with labels where no table is: fastText's lines, and a folder a class."""

import logging
from collections import Counter
from pathlib import Path

from thaw.data.read.reading import Reading
from thaw.data.read.rows import Placed, Reader, Remarks, Rows, number_of
from thaw.data.read.text_files import open_lines, read_whole
from thaw.errors import ThawError

log = logging.getLogger(__name__)

LABEL = "__label__"


def fasttext_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields `text` and `label` of lines that begin with `__label__` and a name; `label` is a list
    in all rows where one has several."""
    several = any(len(labels) > 1 for _, labels, _ in labelled_lines(path, how.encoding))
    lines = Rows(labelled_lines(path, how.encoding))
    for number, labels, text in lines:
        one = labels[0] if labels else None
        yield Placed({how.text: text, "label": labels if several else one}, number)
    return lines.remarks


def labelled_lines(path: Path, encoding: str) -> Reader:
    """Yields number, labels and text of each line that is not blank."""
    blank = 0
    for number, line in enumerate(open_lines(path, encoding), start=1):
        words = line.split()
        if not words:
            blank += 1
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
    return Remarks(parts={"blank lines": blank})


def folder_rows(path: Path, part: str | None, how: Reading) -> Reader:
    """Yields `text`, `label` and `document` of each file in the folder of each class, in the order
    of names. Hidden files are passed over."""
    counts: Counter[str] = Counter()
    hidden = 0
    for folder in class_folders(path):
        for file in sorted(folder.iterdir()):
            if file.name.startswith("."):
                hidden += 1
                continue
            if file.is_dir():
                raise ThawError(
                    f"{path}: {folder.name} holds a folder, {file.name}; expected a folder a class "
                    f"with a file a text. Is it data.train={folder}?"
                )
            counts[folder.name] += 1
            text = read_whole(file, how.encoding).rstrip("\r\n")
            yield {how.text: text, "label": folder.name, "document": str(file.relative_to(path))}
    beside = [p.name for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    classes, texts = number_of(len(counts), "classes"), number_of(counts.total(), "texts")
    log.info("%s: %s of a folder each, %s", path, classes, texts)
    found = {f"files beside the folders, such as {min(beside)}": len(beside)} if beside else {}
    return Remarks(parts={**found, "hidden files": hidden})


def class_folders(path: Path) -> list[Path]:
    """Returns the folders in a folder, without hidden ones, in the order of their names."""
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
