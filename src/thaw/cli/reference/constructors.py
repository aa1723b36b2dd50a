"""Describes the options of a constructor as JSON Schema.

The constructor is imported, and torch with it: only `python -m thaw.cli.reference` and a `_target_`
of a user's own come here.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any

from hydra.utils import get_object
from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

# An object, which a config can only hold as a mapping that Hydra makes it from.
MADE = {"type": "object", "required": ["_target_"]}


class Fragments(GenerateJsonSchema):
    """Pydantic's JSON Schema, where classes stand for what `_target_` makes."""

    def made(self, *about: Any, **named: Any) -> Any:
        return dict(MADE)

    handle_invalid_for_json_schema = timedelta_schema = dataclass_schema = model_schema = made

    def union_schema(self, schema: Any) -> Any:
        # `int | float` is the `float | int` of an earlier import: typing caches unions as sets.
        found = super().union_schema(schema)
        if "anyOf" in found:
            found["anyOf"].sort(key=lambda p: (p.get("type") in ("array", "object"), str(p)))
        return found


def definition_of(target: str) -> dict[str, Any]:
    """Returns the JSON Schema of the options that a class or function takes, with the names of
    required arguments as `x-required`: files that set some of the options only are complete too.

    A class that passes `**options` on takes the arguments of its bases too, and may give its base
    what that requires.
    """
    made = get_object(target)
    docs = argument_docs(made)
    options: dict[str, Any] = {}
    required: list[str] = []
    takes_more = True
    for maker in constructors(made):
        parameters = list(inspect.signature(maker).parameters.values())[inspect.isclass(made) :]
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        if not options:
            required = [p.name for p in named if p.default is p.empty]
        hints = type_hints(maker)
        for name in (p.name for p in named if p.name not in options):
            options[name] = fragment(hints.get(name, Any))
            if name in docs:
                options[name]["description"] = docs[name]
        takes_more = len(named) < len(parameters)
        if not takes_more:
            break
    return {"properties": options, "additionalProperties": takes_more, "x-required": required}


def constructors(made: Any) -> list[Callable]:
    """Returns a function, or the constructors of a class and of its bases in order."""
    if not inspect.isclass(made):
        return [made]
    return [vars(c)["__init__"] for c in made.__mro__ if "__init__" in vars(c) and c is not object]


def type_hints(maker: Callable) -> dict[str, Any]:
    """Returns the types of arguments; none where they name what is only imported for checkers."""
    try:
        return typing.get_type_hints(maker, include_extras=True)
    except NameError:
        return {}


def fragment(hint: Any) -> dict[str, Any]:
    """Returns the JSON Schema of a type, {} (anything) where it refers to other schemas."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # the type has a configuration of its own
        adapter = TypeAdapter(hint)
    found = adapter.json_schema(schema_generator=Fragments)
    return {} if "$defs" in found else found


def argument_docs(made: Any) -> dict[str, str]:
    """Returns what the docstrings of a class of thaw, and of its bases, say about arguments."""
    found: dict[str, str] = {}
    for part in made.__mro__ if inspect.isclass(made) else [made]:
        if part.__module__.startswith("thaw."):
            found = parse_arguments(inspect.cleandoc(part.__doc__ or "")) | found
    return found


def parse_arguments(docstring: str) -> dict[str, str]:
    """Returns the `Args:` of a docstring by name."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line == "Args:"
        elif inside and line.startswith("    ") and line[4:5].strip():
            name, _, text = line.strip().partition(": ")
            found[name] = text
        elif inside and line.strip():
            found[name] += " " + line.strip()
    return found
