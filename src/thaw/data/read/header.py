"""The columns of a table, found from its first row."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.data.read.reading import Reading
from thaw.errors import ThawError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """The columns of a table: names of those that are read, and their places, where not all are.

    `width` is that of a row with those that are passed over; `is_row` says whether the line that
    this was made from is a row, too.
    """

    names: list[str]
    width: int
    places: list[int] | None
    is_row: bool

    def as_row(self, fields: Sequence[Any]) -> dict[str, Any]:
        """Returns fields, as many as `width`, by the names of their columns."""
        if self.places is not None:
            fields = [fields[place] for place in self.places]
        return dict(zip(self.names, fields, strict=True))


def find_header(path: Path, first: Sequence[Any], how: Reading) -> Header:
    """Returns the columns of a table from its first row, without those that have no name, if
    several."""
    has_header = how.columns is None if how.header is None else how.header
    names = ["" if name is None else str(name) for name in first]
    if how.columns is not None:
        if len(how.columns) != len(first):
            raise ThawError(
                f"{path}: its first row has {len(first)} fields ({shown(first)}), and data.columns "
                f"names {len(how.columns)}: {', '.join(how.columns)}. In prediction it is "
                "columns=, or header=true where the first line has the names."
            )
        if names == list(how.columns) and not has_header:
            log.info("%s: the first line holds the names of data.columns and is no row", path)
            has_header = True
        names = list(how.columns)
    elif not has_header:
        names = [str(place) for place in range(len(first))]
    nameless = [place for place, name in enumerate(names) if not name.strip()]
    places = None
    if len(nameless) > 1:
        log.info("%s: %d columns without a name are passed over", path, len(nameless))
        places = [place for place in range(len(names)) if place not in nameless]
        names = [names[place] for place in places]
    check_names(path, names)
    return Header(names, len(first), places, not has_header)


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises ThawError if two columns have one name."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ThawError(f"{path}: the header has {name!r} twice; rename one.")


def header_hint(row: Mapping[str, Any]) -> str:
    """Returns what to type if the names of columns seem to be a row, after a space; else ""."""
    names = list(row)
    if names == [str(place) for place in range(len(names))]:
        return f" The first row is {shown(row.values())}."
    if not any(len(name.split()) > 3 or name.replace(".", "", 1).isdigit() for name in names):
        return ""
    places = [place for place, name in enumerate(names) if name.strip()]
    text = max(places, key=lambda place: len(names[place]))
    label = min(places, key=lambda place: len(names[place]))
    return (
        f" If the first line is a row ({shown(names)}) and no header, type data.header=false and "
        f"numbers of columns, such as data.text={text} data.label={label}."
    )


def shown(row: Iterable[Any]) -> str:
    """Returns fields with their numbers, for messages."""
    return ", ".join(f"{place}: {str(value)[:30]!r}" for place, value in enumerate(row))
