"""Texts in a file while a data set is large: memory takes 8 bytes a text, whatever its length."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np

from thaw.errors import ThawError
from thaw.storage.cache import cache_dir, disk_errors

Text = tuple[str, ...]
FEW = 20_000  # texts that stay in memory


class Spool(Sequence[Text]):
    """Texts, or pairs of them, in a file without a name that is gone with the process.

    Args:
        texts: the first ones.

    Raises:
        ThawError: there is no room on the disk.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        self.width = len(texts[0])
        self.ends = array("q", [0])
        with disk_errors(cache_dir(), "THAW_CACHE"):
            cache_dir().mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=cache_dir())  # noqa: SIM115  (stays open)
        for text in texts:
            self.append(text)

    def append(self, text: Text) -> None:
        """Adds a text."""
        with disk_errors(cache_dir(), "THAW_CACHE"):
            for part in text:
                size = self.file.write(part.encode("utf-8", "surrogatepass"))
                self.ends.append(self.ends[-1] + size)

    def __len__(self) -> int:
        return (len(self.ends) - 1) // self.width

    @overload
    def __getitem__(self, key: int) -> Text: ...
    @overload
    def __getitem__(self, key: slice) -> list[Text]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self[row] for row in range(len(self))[key]]
        first = range(len(self))[key] * self.width
        ends = self.ends[first : first + self.width + 1]
        with disk_errors(cache_dir(), "THAW_CACHE"):
            self.file.flush()
        # Not seek and read: a loader's workers have the file in common.
        whole = os.pread(self.file.fileno(), ends[-1] - ends[0], ends[0])
        if len(whole) != ends[-1] - ends[0]:
            raise ThawError(f"texts in {cache_dir()} were cut off while they were in use.")
        cuts = [end - ends[0] for end in ends]
        return tuple(
            whole[cuts[i] : cuts[i + 1]].decode("utf-8", "surrogatepass") for i in range(self.width)
        )


class Picked(Sequence[Text]):
    """Some rows of a spool, in an order of their own.

    Args:
        texts: all of them.
        rows: the numbers of these.
    """

    def __init__(self, texts: Sequence[Text], rows: Iterable[int]) -> None:
        self.texts = texts
        self.rows = array("q", rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: int) -> Text: ...
    @overload
    def __getitem__(self, key: slice) -> list[Text]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self.texts[row] for row in self.rows[key]]
        return self.texts[self.rows[key]]


def hashes(texts: Sequence[Text]) -> np.ndarray:
    """A number of 64 bits for each text, the same for the same text in this process."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))
