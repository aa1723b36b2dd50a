"""Files that appear whole or not at all, whenever the process or the machine dies."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def at_home(path: Any) -> Any:
    """A path with ~ replaced, as a shell does it; what is no string is left alone."""
    return os.path.expanduser(path) if isinstance(path, str) else path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name aside in the same directory; what is written there gets the file's name on success."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        yield aside
        put(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file aside and renames it."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def put(aside: Path, path: Path) -> None:
    """Gives a file or a directory its name, once all of it is on the disk."""
    parts = [*aside.rglob("*"), aside] if aside.is_dir() else [aside]
    for part in parts:
        sync(part)
    if path.is_dir():
        shutil.rmtree(path)  # a directory is not replaced
    os.replace(aside, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's names, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
