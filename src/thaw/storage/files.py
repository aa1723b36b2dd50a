"""Writes files and directories so that they appear whole or not at all, whatever dies meanwhile."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thaw.errors import ThawError


def conf_dir() -> Path:
    """Returns the directory of configs: within the package that a wheel installs, or beside
    `train.py` in a clone; raises ThawError if there is neither."""
    package = Path(__file__).parents[1]
    places = (package / "conf", package.parents[1] / "conf")
    for place in places:
        if (place / "train.yaml").is_file():
            return place
    raise ThawError(
        f"no configs at {' or '.join(map(str, places))}: install thaw from a wheel, or from a "
        "clone with `pip install -e .`"
    )


def at_home(path: Any) -> Any:
    """Returns a path with ~ replaced, as a shell does it; what is not a string is left alone."""
    return os.path.expanduser(path) if isinstance(path, str) else path


def partial_name(path: Path) -> Path:
    """Returns the name beside `path` under which it is written."""
    return path.with_name(f".{path.name}.partial")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file, {} if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@contextmanager
def atomic(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yields a name beside `path`; the file or directory written there is renamed on success, and
    replaces what was there. If `shared`, several processes may write at once; the last one wins."""
    partial = partial_name(path.with_name(f"{path.name}.{os.getpid()}") if shared else path)
    if partial.is_dir():
        shutil.rmtree(partial)  # its writer was killed; a file is overwritten
    try:
        yield partial
        put(partial, path)
    finally:
        remove(partial)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file, whole or not at all; text as UTF-8."""
    with atomic(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def put(partial: Path, path: Path) -> None:
    """Gives a file or a directory its name, once all of it is on the disk."""
    for part in [*partial.rglob("*"), partial] if partial.is_dir() else [partial]:
        sync(part)
    if path.is_dir():
        shutil.rmtree(path)  # a directory is not replaced
    os.replace(partial, path)
    sync(path.parent)


def remove(path: Path) -> None:
    """Deletes a file or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's names, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
