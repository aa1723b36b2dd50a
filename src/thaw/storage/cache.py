"""A cache on disk for wheels, tokens and states."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from thaw.errors import ThawError
from thaw.storage.files import atomic, partial_name, remove, write_atomic

log = logging.getLogger(__name__)

Found = TypeVar("Found")


class NoRoom(Exception):
    """An entry does not fit into the cache; the message says why."""


class DiskCache:
    """A directory of entries, which are directories themselves, shared by processes.

    An entry appears under its key whole or not at all: it is written beside it and renamed. One
    process at a time writes, reads or deletes it, under `<key>.lock`. The sizes of its files are
    noted in `<key>.sizes`, so that a truncated file is noticed. What a process maps into memory
    while it reads an entry stays readable after another process deletes that entry.

    Args:
        root: directory of the cache; created when it is first needed.
        budget: bytes that all entries may take; the least recently used are deleted first. None:
            nothing is deleted.
    """

    def __init__(self, root: Path, budget: int | None = None) -> None:
        self.root = root
        self.budget = budget

    def get(self, key: str, make: Callable[[Path], None], read: Callable[[Path], Found]) -> Found:
        """Returns what `read` makes of an entry, after `make` has written it if it is missing.

        Args:
            key: name of the entry, from all that its content follows from.
            make: writes the files of the entry into the empty directory that it is given.
            read: loads an entry from its directory; any exception counts as damage.
        """
        entry = self.root / key
        if self.budget is None and self.is_whole(key):
            return read(entry)  # never deleted, so no lock is needed: the cache may be read-only
        self.root.mkdir(parents=True, exist_ok=True)
        with self.lock(key):
            found = self.read_if_whole(key, read)
            if found is not None:
                os.utime(entry)
                return found
            self.sweep()
            self.write(key, make)
            if self.budget is not None:
                with suppress(NoRoom):  # this entry is in use, whatever it takes
                    self.make_room()
            return read(entry)

    def find(self, key: str, read: Callable[[Path], Found]) -> Found | None:
        """Returns what `read` makes of an entry, or None if it is missing or damaged."""
        if not (self.root / key).exists():
            return None
        with self.lock(key):
            return self.read_if_whole(key, read)

    def make_room(self, size: int = 0) -> None:
        """Deletes the least recently used entries until `size` more bytes fit; raises NoRoom if
        other processes use too much of the budget, or of the disk."""
        budget = shutil.disk_usage(self.root).total if self.budget is None else self.budget
        with FileLock(self.root / "room.lock"):  # two processes would delete twice as much
            free = shutil.disk_usage(self.root).free
            entries = self.entries()
            total = sum(bytes_ for _, bytes_, _ in entries)
            for _, bytes_, key in entries:
                if total + size <= budget and size <= free:
                    break
                with suppress(Timeout), self.lock(key, timeout=0):
                    self.delete(key)
                    total, free = total - bytes_, free + bytes_
        if total + size > budget:
            raise NoRoom("other runs use the rest of the budget")
        if size > free:
            raise NoRoom(f"{self.root} has {gib(free)} left")

    def entries(self) -> list[tuple[float, int, str]]:
        """Returns time of last use, bytes and key of each entry, the least recently used first.

        Only what has sizes noted is an entry: the root may be a directory with other things in it.
        Other processes write and delete meanwhile, so that an entry may be gone by now.
        """
        found = []
        for noted in self.root.glob("*.sizes"):
            path = noted.with_suffix("")
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, sum(file_sizes(path).values()), path.name))
        return sorted(found)

    def sweep(self) -> None:
        """Deletes what killed processes left unfinished, and what thaw 0.1 kept in another format.

        Whatever a process still writes is locked, and stays.
        """
        for lock in self.root.glob("*.lock"):
            old = self.root / f"{lock.stem}.partial"
            for partial in (partial_name(lock.with_suffix("")), old):
                if partial.exists():
                    with suppress(Timeout), self.lock(lock.stem, timeout=0):
                        remove(partial)
        for about in self.root.glob(f"{'[0-9a-f]' * 32}*/about.json"):
            key = about.parent.name
            with suppress(Timeout), self.lock(key, timeout=0):
                if not (self.root / f"{key}.sizes").exists():
                    remove(about.parent)

    def lock(self, key: str, timeout: float = -1) -> FileLock:
        """Returns the lock of an entry; as a context, Timeout is raised if others hold it."""
        return FileLock(self.root / f"{key}.lock", timeout=timeout)

    def is_whole(self, key: str) -> bool:
        """Returns whether an entry exists and its files have the sizes that were noted."""
        noted = self.root / f"{key}.sizes"
        with suppress(OSError, ValueError):
            return json.loads(noted.read_text(encoding="utf-8")) == file_sizes(self.root / key)
        return False

    def read_if_whole(self, key: str, read: Callable[[Path], Found]) -> Found | None:
        """Returns what `read` makes of an entry, or None; a damaged entry is deleted."""
        entry = self.root / key
        if not entry.exists():
            return None
        why = "its files have other sizes than when they were written"
        if self.is_whole(key):
            try:
                return read(entry)
            except Exception as error:  # damage can look like anything
                why = f"{type(error).__name__}: {error}"
        log.warning("%s is damaged and made again: %s", entry, why)
        self.delete(key)
        return None

    def write(self, key: str, make: Callable[[Path], None]) -> None:
        """Writes an entry, whole or not at all."""
        with atomic(self.root / key) as partial:
            partial.mkdir()
            make(partial)
            # Noted first: without the entry they mean nothing.
            write_atomic(self.root / f"{key}.sizes", json.dumps(file_sizes(partial)))

    def delete(self, key: str) -> None:
        """Deletes an entry, whole or not at all; it may be gone."""
        partial = partial_name(self.root / key)
        remove(partial)
        with suppress(FileNotFoundError):
            os.replace(self.root / key, partial)
        remove(partial)
        (self.root / f"{key}.sizes").unlink(missing_ok=True)


def file_sizes(directory: Path) -> dict[str, int]:
    """Returns the size in bytes of each file below a directory, by its relative path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}


def gib(size: int) -> str:
    """Returns a number of bytes for people."""
    return f"{size / 2**30:.2f} GiB"


def cache_dir() -> Path:
    """Returns `$THAW_CACHE`, else `$XDG_CACHE_HOME/thaw`, else `~/.cache/thaw`; raises ThawError if
    it is to be below the home directory of a user who has none."""
    try:
        if own := os.environ.get("THAW_CACHE"):
            return Path(own).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thaw"
    except RuntimeError as error:  # a container's user, whose number has no name
        raise ThawError(
            "this user has no home directory to keep models and tokens in (HOME is not set): "
            "THAW_CACHE=<directory> names another place."
        ) from error


@contextmanager
def disk_errors(directory: Path, variable: str) -> Iterator[None]:
    """Raises ThawError, with what to do, where a cache cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "Not enough disk space" in str(error):
            why = "no room left"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            why = "no permission to write"
        else:
            raise
        raise ThawError(f"{why} in {directory}: {variable}=<directory> moves the cache.") from error
