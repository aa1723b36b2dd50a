"""Checks values against `conf/schema.json`, the JSON Schema of every option.

`python -m thaw.cli.reference` writes that file from the constructors, so that neither torch nor the
seconds that it takes to load are needed here. Nor is jsonschema, for the dozen keywords in use:
version 4.26 takes 0.2 s to import (2 cores), this module with all that it imports 0.1 s.
"""

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from thaw.cli.conf import conf_dir
from thaw.errors import ThawError

# The keywords of pydantic's fragments, besides type, enum, const, anyOf, items and prefixItems.
LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "maxLength": lambda value, limit: len(value) <= limit,
    "pattern": lambda value, limit: re.search(limit, value) is not None,
    "required": lambda value, limit: set(limit) <= set(value),
}
TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": (int, float),
    "number": (int, float),
    "string": str,
    "array": (list, tuple),
    "object": dict,
}
WORDS = {"null": "null", "boolean": "bool", "integer": "int", "number": "float", "string": "str"}
SIGNS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


@cache
def schema() -> dict[str, Any]:
    """Returns the content of `conf/schema.json`."""
    return json.loads((conf_dir() / "schema.json").read_text(encoding="utf-8"))


@cache
def definition(target: str) -> dict[str, Any]:
    """Returns the JSON Schema of the options that a `_target_` takes.

    A constructor that the file does not know, such as a user's own, is imported and inspected; so
    are all where another version of Lightning is installed than the file was written with.
    """
    from importlib.metadata import version  # 50 ms, which --help does without

    known = schema()["definitions"].get(target)
    if known is not None and schema()["x-lightning"] == version("lightning"):
        return known
    from thaw.cli.reference.constructors import definition_of

    try:
        return definition_of(target)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ThawError(f"_target_={target} cannot be imported: {reason}") from error


def fits(value: Any, fragment: Mapping[str, Any]) -> bool:
    """Returns whether a value of the composed config is what a JSON Schema allows."""
    if "anyOf" in fragment:
        return any(fits(value, part) for part in fragment["anyOf"])
    if "$ref" in fragment:  # an interpolation, which is resolved by now
        return False
    if (allowed := choices_of(fragment)) is not None:
        return any(value == choice and type(value) is type(choice) for choice in allowed)
    if "type" in fragment and not is_of_type(value, fragment["type"]):
        return False
    if not all(test(value, fragment[key]) for key, test in LIMITS.items() if key in fragment):
        return False
    if isinstance(value, (list, tuple)):
        first = fragment.get("prefixItems", [])
        rest = [fragment.get("items", {})] * (len(value) - len(first))
        return all(map(fits, value, [*first, *rest]))
    inner = fragment.get("additionalProperties")
    if isinstance(value, dict) and isinstance(inner, dict):
        return all(fits(item, inner) for item in value.values())
    return True


def choices_of(fragment: Mapping[str, Any]) -> list[Any] | None:
    """Returns the values that a fragment lists, None if it lists none."""
    return [fragment["const"]] if "const" in fragment else fragment.get("enum")


def is_of_type(value: Any, kind: str) -> bool:
    """Returns whether a value is of one of JSON's types. `1e5` is an integer, as in JSON Schema."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[kind])


def describe(fragment: Mapping[str, Any]) -> str:
    """Returns a type in words, "" for what cannot be typed on a command line."""
    if "anyOf" in fragment:
        return join_types(map(describe, fragment["anyOf"]))
    if (allowed := choices_of(fragment)) is not None:
        return join_types("null" if choice is None else str(choice) for choice in allowed)
    kind = fragment.get("type", "")
    if kind == "array":
        items = fragment.get("prefixItems", [fragment.get("items", {})])
        inner = join_types(map(describe, items))
        return f"list of {inner}" if inner else "" if any(items) else "list"
    if kind == "object":
        return "" if "required" in fragment else "mapping"
    if fragment.get("format") == "path":
        return "path"
    limits = [f"{sign} {fragment[key]}" for key, sign in SIGNS.items() if key in fragment]
    return " ".join([WORDS.get(kind, ""), ", ".join(limits)]).strip()


def join_types(words: Iterable[str]) -> str:
    """Joins types with "or", each once and null last."""
    every = dict.fromkeys(part for word in words for part in word.split(" or ") if part)
    return " or ".join(sorted(every, key=lambda part: part == "null"))


def listed(fragment: Mapping[str, Any]) -> list[str]:
    """Returns the words that an option may be, of those that a fragment lists."""
    own = [choice for choice in choices_of(fragment) or [] if isinstance(choice, str)]
    return [*own, *(word for part in fragment.get("anyOf", []) for word in listed(part))]
