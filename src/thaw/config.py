"""Checks a composed config against the constructors it is for, before anything is fetched."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from thaw.cli import near
from thaw.errors import ThawError


def plain(node: Any) -> Any:
    """A config node as plain containers, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True)


def check(cfg: DictConfig, given: Mapping[str, set[str]], parts: Sequence[str] = ()) -> None:
    """Checks every node with a `_target_`: its keys are arguments, its values of their types.

    Args:
        cfg: the composed config.
        given: arguments that the code adds, by dotted name of the node.
        parts: only these nodes of the top level; none: all.

    Raises:
        ThawError: names the key, and the nearest right ones.
    """
    chosen = {key: plain(cfg[key]) for key in parts} if parts else plain(cfg)
    for path, node in targets(chosen):
        target = get_object(node["_target_"])
        arguments(path, node, target, given.get(path, set()))


def targets(node: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All nodes with a `_target_`, with their dotted names."""
    if not isinstance(node, dict):
        return []
    found = [(path, node)] if "_target_" in node else []
    for key, value in node.items():
        found += targets(value, f"{path}.{key}" if path else str(key))
    return found


def arguments(path: str, node: dict[str, Any], target: Callable, given: set[str]) -> None:
    """Checks one node against its constructor's signature."""
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    init = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(init)
    for key, value in node.items():
        if key.startswith("_") and key.endswith("_"):
            continue
        if key not in parameters:
            if open_ended:
                continue
            options = sorted(set(parameters) - given)
            raise ThawError(
                f"there is no option {path}.{key}.{near(key, options)} "
                f"{path} has {', '.join(options)}."
            )
        if key in hints:
            fits(f"{path}.{key}", value, hints[key])
    required = {
        k
        for k, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if absent := sorted(required - set(node) - given):
        raise ThawError(f"{path} needs {', '.join(absent)}.")


def fits(name: str, value: Any, hint: Any) -> None:
    """Raises ThawError if a value is not of an argument's type."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        adapter = TypeAdapter(hint)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        expected = "; ".join(dict.fromkeys(e["msg"] for e in error.errors()))
        raise ThawError(f"{name}={value!r} does not fit: {expected}.") from error
