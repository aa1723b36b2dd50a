"""Lone surrogates: half an emoji, as JSON can spell it, is no character and cannot be encoded."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from thaw.data.read.rows import Row, numbered, replaced

log = logging.getLogger(__name__)

LONE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def replace_surrogates(rows: Iterable[Row], origin: str) -> Iterator[Row]:
    """Yields rows with U+FFFD for each lone surrogate, and warns once of how many there were.

    A tokenizer takes no lone surrogate, and no file holds one. The replacement is one character
    for one, so that spans stay where they are. Strings in lists and mappings count, too.
    """
    found: Counter[str] = Counter()
    first = 0
    for number, row in numbered(rows):
        bad = {str(column): n for column, value in row.items() if (n := count_surrogates(value))}
        if not bad:
            yield row
            continue
        found.update(bad)
        first = first or number
        yield replaced(row, {k: without_surrogates(v) for k, v in row.items()})
    if found:
        counts = ", ".join(f"{count} in {column!r}" for column, count in found.items())
        log.warning(
            f"{origin}: lone surrogates, such as half an emoji, are no characters and are replaced "
            f"by U+FFFD: {counts}; the first in row {first}"
        )


def count_surrogates(value: Any) -> int:
    """Returns how many lone surrogates a value holds."""
    if isinstance(value, str):
        try:
            value.isascii() or value.encode()  # several times faster than to search
        except UnicodeEncodeError:
            return len(LONE.findall(value))
    elif isinstance(value, Mapping):
        return sum(map(count_surrogates, [*value, *value.values()]))
    elif isinstance(value, (list, tuple)):
        return sum(map(count_surrogates, value))
    return 0


def without_surrogates(value: Any) -> Any:
    """Returns a value with U+FFFD for each lone surrogate."""
    if isinstance(value, str):
        return LONE.sub(REPLACEMENT, value)
    if isinstance(value, Mapping):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return [*map(without_surrogates, value)] if isinstance(value, (list, tuple)) else value
