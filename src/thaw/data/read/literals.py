"""Lists and mappings that a cell of a table holds as text."""

import ast
import json
import re
from typing import Any

QUOTED = r"""(?:'([^']*)'|"([^"]*)")"""
ADJACENT = re.compile(r"""['"]\s+['"]""")  # Python would read 'a' 'b' as 'ab'


def literal(text: str) -> Any:
    """Returns the list or mapping in a cell, as Python, JSON or numpy writes it, or None."""
    for parse in (json.loads, numpy_vector, ast.literal_eval):
        if parse is ast.literal_eval and ADJACENT.search(text):
            return None
        try:
            found = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(found, list | dict):
            return found
        if isinstance(found, set | frozenset):
            return sorted(map(str, found))
    return None


def numpy_vector(text: str) -> list[Any]:
    """Returns the values of an array as numpy prints it: `[0. 1. 0.]`, `['a' 'b']`."""
    inner = text.removeprefix("[").removesuffix("]")
    if re.fullmatch(rf"\s*({QUOTED}\s*)+", inner):
        return [a or b for a, b in re.findall(QUOTED, inner)]
    return [float(number) for number in inner.split()]
