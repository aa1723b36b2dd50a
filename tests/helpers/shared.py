"""Runs that are trained once for all tests that only read them."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unittest import mock

from helpers.tiny import runner
from helpers.warm import NO_FIGURES


class SharedRuns:
    """Finished runs by their overrides.

    Args:
        overrides: overrides of all these runs.
        root: directory in which they lie.
    """

    def __init__(self, overrides: list[str], root: Path) -> None:
        self.train = runner(overrides, root)
        self.directories: dict[tuple[str, ...], Path] = {}
        self.numbers = count()

    def get(self, *extra: str) -> Path:
        """Trains with further overrides unless that was done before; gives the run directory."""
        if extra not in self.directories:
            with mock.patch.dict(os.environ):
                os.environ.pop(NO_FIGURES, None)  # another test may look at them
                self.directories[extra] = self.train(*extra, name=f"{next(self.numbers)}")
        return self.directories[extra]

    @contextmanager
    def unchanged(self) -> Iterator[Callable[..., Path]]:
        """Gives `get`; a test that changed what it got fails, so that no other test sees it."""
        before: dict[Path, dict[Path, tuple[int, int]]] = {}

        def get(*extra: str) -> Path:
            directory = self.get(*extra)
            before.setdefault(directory, files_in(directory))
            return directory

        yield get
        changed = [path for path, files in before.items() if files_in(path) != files]
        self.directories = {k: v for k, v in self.directories.items() if v not in changed}
        assert not changed, "the test changed a run that it shares with others; it needs a copy"


@dataclass(frozen=True)
class Exported:
    """A run with its ONNX files, what the command returned and what it printed."""

    directory: Path
    difference: float
    said: str


def export_of(run: Path) -> Exported:
    """Exports a run and its int8 form."""
    from thaw.export import main

    with redirect_stdout(io.StringIO()) as said:
        difference = main([f"run={run}", "quantize=int8", "tolerance=5"])
    return Exported(run, difference, said.getvalue())


def files_in(directory: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of last change of each file, locks apart."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def copy_of(run: Path, directory: Path) -> Path:
    """Copies a run directory, which says in its config that it was made there."""
    shutil.copytree(run, directory)
    for path in (directory / ".hydra").iterdir():
        path.write_text(path.read_text().replace(str(run), str(directory)))
    return directory
