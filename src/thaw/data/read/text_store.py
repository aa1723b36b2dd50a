"""Texts in a file while a data set is large: memory does not grow with their length."""

import mmap
import tempfile
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from thaw.storage.cache import cache_dir, disk_errors

Text = tuple[str, ...]
FEW = 20_000  # texts that stay in memory
BATCH = 1000  # texts written at a time
READS = 100_000  # after which pages are given back


class Spool(Sequence[Text]):
    """Texts, or pairs of them, in a memory-mapped Arrow file that is gone with the process.

    None can be added once one was read.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        # Bytes and not strings: JSON may hold half an emoji, which is not UTF-8.
        self.schema = pa.schema([(str(i), pa.binary()) for i in range(len(texts[0]))])
        with disk_errors(cache_dir(), "THAW_CACHE"):
            cache_dir().mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=cache_dir())  # noqa: SIM115  (stays open)
            self.writer: Any = pa.ipc.new_file(self.file, self.schema)
        self.unwritten: list[Text] = list(texts)
        self.written = self.reads = 0

    def append(self, text: Text) -> None:
        """Adds a text."""
        if self.writer is None:
            raise ValueError("texts cannot be added once one was read")
        self.unwritten.append(text)
        if len(self.unwritten) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Writes the texts that are still in memory."""
        columns = [
            pa.array([part.encode("utf-8", "surrogatepass") for part in column], pa.binary())
            for column in zip(*self.unwritten, strict=True)
        ]
        self.written += len(self.unwritten)
        self.unwritten = []
        with disk_errors(cache_dir(), "THAW_CACHE"):
            self.writer.write_batch(pa.record_batch(columns, schema=self.schema))

    @cached_property
    def columns(self) -> list[pa.ChunkedArray]:
        """The columns of all texts, mapped into memory: the file ends here."""
        if self.unwritten:
            self.flush()
        with disk_errors(cache_dir(), "THAW_CACHE"):
            self.writer.close()
            self.file.flush()
        self.writer = None
        # By its descriptor: the file has no name that pyarrow could open.
        self.mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self.mapped))).read_all().columns

    def __len__(self) -> int:
        return self.written + len(self.unwritten)

    def __getitem__(self, row: Any) -> Any:
        columns = self.columns
        self.reads += 1
        if self.reads % READS == 0:  # the system keeps the pages, and this process does not
            self.mapped.madvise(mmap.MADV_DONTNEED)
        return tuple(column[row].as_py().decode("utf-8", "surrogatepass") for column in columns)


class Picked(Sequence[Text]):
    """Some of the texts, by their indices in all of them, in an order of their own."""

    def __init__(self, texts: Sequence[Text], rows: Iterable[int]) -> None:
        self.texts = texts
        self.rows = array("q", rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        return self.texts[self.rows[row]]


def hashes(texts: Sequence[Text]) -> np.ndarray:
    """Returns a number of 64 bits for each text, the same for the same text in this process."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def differently_labelled(labels: Sequence[Any], numbers: np.ndarray) -> list[tuple[int, int]]:
    """Returns pairs of rows with the same text and different labels; `numbers` are `hashes`."""
    if not labels:
        return []
    order = np.argsort(numbers, kind="stable")
    again = np.flatnonzero(np.diff(numbers[order]) == 0)
    pairs = zip(order[again].tolist(), order[again + 1].tolist(), strict=True)
    return [(i, j) for i, j in pairs if labels[i] != labels[j]]
