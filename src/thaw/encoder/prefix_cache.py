"""Options of the cache of frozen blocks' states."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.storage.cache import cache_dir


@dataclass(frozen=True)
class Cache:
    """Where states are kept.

    Attributes:
        budget_gib: of all that is kept; what was used least recently goes first.
        path: a directory; None: `prefix/` of thaw's cache.
    """

    budget_gib: float = 8.0
    path: str | None = None

    @property
    def root(self) -> Path:
        return Path(self.path).expanduser() if self.path else cache_dir() / "prefix"

    def make_room(self, size: int) -> None:
        """Deletes what was used least recently until `size` bytes fit.

        A process that has a deleted file mapped keeps it.

        Raises:
            PrefixUnavailable: they never fit.
        """
        budget = int(self.budget_gib * 2**30)
        free = shutil.disk_usage(self.root).free
        if size > budget:
            raise PrefixUnavailable(
                f"it takes {gib(size)}, freeze.cache.budget_gib is {self.budget_gib}"
            )
        kept = sorted(self.root.glob("*.states"), key=lambda p: p.stat().st_mtime)
        sizes = {place: sum(f.stat().st_size for f in place.iterdir()) for place in kept}
        total = sum(sizes.values())
        for place in kept:
            if total + size <= budget and size <= free:
                break
            with suppress(Timeout), FileLock(place.with_suffix(".lock"), timeout=0):
                aside = place.with_suffix(".partial")
                os.replace(place, aside)
                shutil.rmtree(aside)
                total, free = total - sizes[place], free + sizes[place]
        if total + size > budget:
            raise PrefixUnavailable(
                f"it takes {gib(size)}, and other runs use the rest of the budget"
            )
        if size > free:
            raise PrefixUnavailable(f"it takes {gib(size)}, {self.root} has {gib(free)} left")
        for aside in self.root.glob("*.partial"):
            with suppress(Timeout), FileLock(aside.with_suffix(".lock"), timeout=0):
                shutil.rmtree(aside, ignore_errors=True)  # its writer was killed


class PrefixUnavailable(Exception):
    """States are not kept; the message says why."""


def gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB"
