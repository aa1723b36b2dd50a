"""Files of any format, read by a function of the user's own."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.errors import ThawError

EXPECTED = "Expected module.function, of a module beside train.py or in PYTHONPATH."
OWN_READER = (
    "data.reader=my_reader.rows reads it with a function of yours: my_reader.py, beside train.py, "
    "has `def rows(path):`, which yields a dict of columns for each row. In prediction it is "
    "reader=my_reader.rows."
)


def require_reader(reader: str) -> None:
    """Raises ThawError unless a reader's name is one of a module that can be found."""
    module, _, name = reader.rpartition(".")
    try:
        found = bool(module and name.isidentifier()) and importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if not found:
        raise ThawError(
            f"data.reader={reader} cannot be imported: no module {module!r}. {EXPECTED}"
        )


def own_rows(reader: str, path: Path) -> Iterator[dict[str, Any]]:
    """Yields rows of the user's own function, "module.function", which gets the path; raises
    ThawError if there is none, it fails, or what it gives are no rows."""
    require_reader(reader)
    module, _, name = reader.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ThawError(f"data.reader={reader} cannot be imported: {error}. {EXPECTED}") from error
    number = 0
    try:
        for number, row in enumerate(function(path), start=1):
            if not isinstance(row, dict):
                raise ThawError(
                    f"data.reader={reader}: row {number} of {path} is {row!r:.60}; expected a "
                    'dict, {"text": ..., "label": ...}.'
                )
            yield row
    except ThawError:
        raise
    except Exception as error:  # it is the user's code
        raise ThawError(
            f"data.reader={reader} failed after {number} rows of {path}: "
            f"{type(error).__name__}: {error}"
        ) from error
