"""Encoded texts on disk: tokenized once, mapped into memory, shared by runs and processes."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset
from filelock import FileLock, Timeout

from thaw.storage.cache import cache_dir, disk_errors
from thaw.storage.files import put

log = logging.getLogger(__name__)

BUDGET_GIB = 20.0  # of all that is kept; what was used least recently goes first
PART = 10_000  # rows written at a time
VERSION = 2  # of what is kept, part of its key

Rows = dict[str, list]  # columns of the same length


def arrow_type(value: Any) -> pa.DataType:
    """How a value is kept: tokens and labels take four bytes."""
    if isinstance(value, list):
        return pa.list_(arrow_type(value[0]) if value else pa.int32())
    return pa.float32() if isinstance(value, float) else pa.int32()


def key_of(*parts: Any) -> str:
    """A name for what follows from some values; of an iterable its items count."""
    state = hashlib.sha256(str(VERSION).encode())
    for part in parts:
        items = [part] if isinstance(part, (str, int, dict)) or part is None else part
        for value in items:
            state.update(repr(value).encode("utf-8", "surrogatepass"))
    return state.hexdigest()[:32]


def keep(key: str, make: Callable[[dict[str, Any]], Iterable[Rows]]) -> tuple[Dataset, dict]:
    """Encoded rows that were kept, or are made and kept now; by one process at a time.

    Args:
        key: of `key_of`, from all that they follow from.
        make: gives them piece by piece, and puts what there is to say of them into a dictionary.

    Returns:
        The rows, and that dictionary.

    Raises:
        ThawError: there is no room on the disk.
    """
    root = cache_dir() / "tokens"
    place = root / key
    with disk_errors(root, "THAW_CACHE"):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            found = kept(place)
            if found is None:
                write(place, make)
                found = kept(place)
                assert found is not None
            os.utime(place)
        make_room(root, int(BUDGET_GIB * 2**30), place)
    return found


def kept(place: Path) -> tuple[Dataset, dict] | None:
    """What is kept at a place; None where nothing is, or was damaged: it is gone then."""
    if not place.exists():
        return None
    try:
        about = json.loads((place / "about.json").read_text(encoding="utf-8"))
        size = (place / "rows.arrow").stat().st_size
        if size != about["bytes"]:
            raise ValueError(f"rows.arrow has {size:,} bytes of {about['bytes']:,}")
        return Dataset.from_file(str(place / "rows.arrow")), about["about"]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        log.warning("kept tokens are damaged and made anew: %s: %s", place, error)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        return None


def write(place: Path, make: Callable[[dict[str, Any]], Iterable[Rows]]) -> None:
    """Writes rows to a place, whole or not at all."""
    aside = place.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    about: dict[str, Any] = {}
    try:
        with open(aside / "rows.arrow", "wb") as file:
            parts = joined(make(about))
            first = next(parts)
            schema = pa.schema([(name, arrow_type(values[0])) for name, values in first.items()])
            with pa.ipc.new_stream(file, schema) as writer:
                for rows in chain([first], parts):
                    writer.write_batch(pa.record_batch(rows, schema=schema))
        said = {"about": about, "bytes": (aside / "rows.arrow").stat().st_size}
        (aside / "about.json").write_text(json.dumps(said), encoding="utf-8")
        put(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def joined(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """Pieces put together until they have `PART` rows."""
    kept: Rows = {}
    for rows in pieces:
        for name, values in rows.items():
            kept.setdefault(name, []).extend(values)
        if max(map(len, kept.values()), default=0) >= PART:
            yield kept
            kept = {}
    if any(kept.values()):
        yield kept


def make_room(root: Path, budget: int, mine: Path) -> None:
    """Deletes what was used least recently until all takes no more than a budget.

    A process that has a deleted file mapped keeps it.

    Args:
        root: of all that is kept.
        budget: in bytes.
        mine: stays.
    """
    places = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in places}
    total = sum(sizes.values())
    for place in places:
        if total <= budget:
            break
        if place != mine and not place.suffix:
            with suppress(Timeout), FileLock(f"{place}.lock", timeout=0):
                shutil.rmtree(place)
                total -= sizes[place]
