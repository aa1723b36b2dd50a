"""Names of columns that are added to rows without a loss of theirs."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from thaw.errors import ThawError

log = logging.getLogger(__name__)


class AddedColumns:
    """Adds columns to rows; one whose name is taken gets another, `prediction_2`, which is said.

    Args:
        taken: names of the columns that the rows have.
        origin: a file, for messages.
    """

    def __init__(self, taken: Iterable[str], origin: str) -> None:
        self.taken = set(taken)
        self.origin = origin
        self.names: dict[str, str] = {}
        self.number = 0

    def add(self, row: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row with further columns.

        Raises:
            ThawError: the row has a column of a name that was free in the first rows.
        """
        self.number += 1
        if new := [name for name in added if name not in self.names]:
            self.choose(new)
        named = {self.names[name]: value for name, value in added.items()}
        if lost := [name for name in named if name in row]:
            raise ThawError(
                f"{self.origin}: row {self.number} has a column {lost[0]!r}, which the first rows "
                "lack, and thaw writes one of that name. Rename it in the input."
            )
        return {**row, **named}

    def choose(self, names: Iterable[str]) -> None:
        """Chooses the names that columns are written under, and says which are not their own."""
        other: dict[str, str] = {}
        for name in names:
            free, number = name, 2
            while free in self.taken:
                free, number = f"{name}_{number}", number + 1
            self.names[name] = free
            self.taken.add(free)
            other |= {name: free} if free != name else {}
        if other:
            log.warning(
                "%s has columns of its own called %s: they are kept, and thaw's are called %s",
                self.origin,
                ", ".join(map(repr, other)),
                ", ".join(map(repr, other.values())),
            )
