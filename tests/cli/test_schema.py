"""Values are checked against the JSON Schema of the constructors' types."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from thaw.cli.check import check_type
from thaw.cli.reference.constructors import definition_of, fragment, parse_arguments
from thaw.cli.schema import LIMITS, TYPES, definition, describe, fits, schema
from thaw.errors import ThawError

KEYWORDS = {
    *LIMITS,
    *("type", "enum", "const", "anyOf", "items", "prefixItems", "additionalProperties"),
    *("description", "format", "$ref"),
}


class Plain:
    """A class that no value of a config is an instance of."""


@dataclass
class Options:
    """A class that a config holds as a mapping with `_target_`."""

    size: int = 1


HINTS = (
    Any,
    str,
    int,
    float,
    bool,
    str | None,
    PositiveInt | None,
    int | float | None,
    Annotated[float, Field(gt=0, le=1)],
    Annotated[int, Field(ge=2)] | None,
    Annotated[str, Field(min_length=2, pattern="^x")],
    Literal["auto", 3, None],
    bool | Literal["auto"],
    Sequence[str],
    list[int] | str | int,
    tuple[float, float],
    Annotated[list[int], Field(min_length=1)],
    str | Sequence[str] | Mapping[str, int],
    str | Path,
    Plain | bool,
    Callable | None,
)
SAMPLES = (
    *(0, 1, -1, 3, 0.5, 2.5, True, None, "x", "xy", "auto", "1", "1.5"),
    *([], ["x"], [1], [1, 2], [0.5, 1], [None], {}, {"a": 1}, {"a": "b"}),
)


def accepted_by_pydantic(hint, value):
    adapter = TypeAdapter(hint, config={"arbitrary_types_allowed": True})
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_a_value_fits_where_pydantic_accepts_it_for_the_same_type(hint):
    for value in SAMPLES:
        assert fits(value, fragment(hint)) == accepted_by_pydantic(hint, value), value


def test_an_object_is_typed_as_a_mapping_with_its_target():
    for hint in (Plain, Options, timedelta, Callable):
        assert fits({"_target_": "any.name"}, fragment(hint))
        assert not fits({"size": 1}, fragment(hint))
        assert not fits("1", fragment(hint))


def test_a_value_is_never_converted():
    assert not fits("1", fragment(int))
    assert not fits(True, fragment(int))
    assert not fits(1, fragment(bool))
    assert fits(100000.0, fragment(int))


def parts(fragment):
    yield fragment
    for key in ("items", "additionalProperties"):
        if isinstance(fragment.get(key), dict):
            yield from parts(fragment[key])
    for part in [*fragment.get("anyOf", []), *fragment.get("prefixItems", [])]:
        yield from parts(part)


def test_the_checks_know_every_keyword_of_the_schema():
    targets = {name: found for name, found in schema()["definitions"].items() if "." in name}
    assert "thaw.tasks.ner.TokenClassification" in targets
    for target, found in targets.items():
        for option in found["properties"].values():
            for part in parts(option):
                assert set(part) <= KEYWORDS, (target, part)
                assert part.get("type", "null") in TYPES, (target, part)


def test_types_are_in_words():
    assert describe(fragment(PositiveInt | None)) == "int > 0 or null"
    assert describe(fragment(Annotated[float, Field(gt=0, le=1)])) == "float > 0, ≤ 1"
    assert describe(fragment(Literal["a", "b", None])) == "a or b or null"
    union = str | Sequence[str] | Mapping[str, int]
    assert describe(fragment(union)) == "str or list of str or mapping"
    assert describe(fragment(list)) == "list"
    assert describe(fragment(tuple[int, float])) == "list of int or float"


def test_a_value_of_a_wrong_type_is_answered_with_the_right_one():
    with pytest.raises(
        ThawError, match=r"^a\.b='maxx' does not fit: expected max or min\. .*max\?"
    ):
        check_type("a.b", "maxx", fragment(Literal["max", "min"]))
    with pytest.raises(ThawError, match=r"^a=3 does not fit: expected a mapping with _target_\."):
        check_type("a", 3, fragment(Plain))


class Base:
    def __init__(self, path: str, cached: bool = False) -> None: ...


class Passing(Base):
    def __init__(self, size: int, **options: Any) -> None: ...


def any_options(size: int = 1, **options: Any) -> None: ...


def unknown_type(size: "NotImported", count: int = 1) -> None: ...  # noqa: F821


def test_a_class_takes_the_options_that_it_passes_on_to_its_base():
    found = definition_of(f"{__name__}.Passing")
    assert list(found["properties"]) == ["size", "path", "cached"]
    assert (found["additionalProperties"], found["x-required"]) == (False, ["size"])
    assert definition_of(f"{__name__}.any_options")["additionalProperties"] is True


def test_a_type_that_only_a_checker_imports_is_left_to_the_constructor():
    assert definition_of(f"{__name__}.unknown_type")["properties"] == {"size": {}, "count": {}}


def test_another_version_of_lightning_is_inspected_itself(monkeypatch):
    target = "lightning.pytorch.callbacks.EarlyStopping"
    assert "anyOf" in definition(target)["properties"]["patience"]  # or an interpolation
    monkeypatch.setitem(schema(), "x-lightning", "0.1")
    definition.cache_clear()
    assert definition(target)["properties"]["patience"] == {"type": "integer"}
    monkeypatch.undo()
    definition.cache_clear()


def test_a_docstring_says_what_its_arguments_are():
    text = (
        "What.\n\nArgs:\n    a: first\n        and more.\n    b: second\n\nReturns:\n    c: no.\n"
    )
    assert parse_arguments(text) == {"a": "first and more.", "b": "second"}
