"""Lets a command go on when what reads its output has ended, as `| head` does."""

import io
import os
import sys
from typing import Any


class Readerless(io.FileIO):
    """A file descriptor whose output goes nowhere once nobody reads it: a run has its log, and an
    export its files. (Without SIGPIPE, which would also end a process for a lost connection.)"""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def go_on_without_readers() -> None:
    """Replaces the standard output and error of this process, unless something else, such as a
    notebook, has done so."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = Readerless(stream.fileno(), "w", closefd=False)
        own = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, own)
