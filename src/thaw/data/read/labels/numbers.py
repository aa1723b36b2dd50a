"""Values of a table as numbers, for `task=regression`."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from thaw.data.read.labels.names import NUMBER
from thaw.data.read.row_values import Columns, is_missing
from thaw.errors import ThawError


class NumberReader:
    """Makes numbers of values, with the arguments and methods of `LabelReader`."""

    def __init__(self, columns: Columns, origin: str) -> None:
        self.column = str(columns.label)
        self.origin = origin

    def read(self, row: Mapping[str, Any], number: int) -> float | None:
        """Returns the number of a row, None where it has none."""
        value: Any = row.get(self.column)
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            return None
        text = value.strip() if isinstance(value, str) else ""
        if NUMBER.fullmatch(text) and "," not in text:
            value = float(text)
        counts = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if counts and math.isfinite(value):
            return float(value)
        raise ThawError(
            f"{self.origin}: row {number}: {self.column} is {value!r:.60}; expected a number, such "
            "as 3.5. Is data.label the right column? Labels that are names are for task=sequence."
        )

    def finish(self, labels: Sequence[Any]) -> None:
        """Does nothing: each number stands for itself."""
