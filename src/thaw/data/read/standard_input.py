"""Standard input as a text a line, in any encoding."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from thaw.data.read.text_files import text_lines

NAME = Path("standard input")  # in messages


class CountedBytes(io.RawIOBase):
    """Bytes of a stream that cannot seek, with the number of those that were read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # One read at most: what arrives through a pipe is used as it comes.
        piece = getattr(self.stream, "read1", self.stream.read)(len(buffer))
        buffer[: len(piece)] = piece
        self.count += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self.count


def standard_input_lines(encoding: str) -> Iterator[str]:
    """Returns the lines of standard input as they come, read as a text file is."""

    def opened(path: Path, mode: str) -> io.BufferedReader:
        return io.BufferedReader(CountedBytes(sys.stdin.buffer))

    return text_lines(NAME, opened, encoding, newline="\n")
