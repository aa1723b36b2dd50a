"""Checks a composed config against the constructors it is for, before anything is fetched."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from thaw.cli import conf_dir, near
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


def leave_unread(cfg: DictConfig, typed: Sequence[str] = ()) -> None:
    """Leaves out of `cfg.data` what other tasks read: a data set's file describes all of it.

    Args:
        cfg: the composed config, changed in place.
        typed: the user's overrides, which must have an effect.

    Raises:
        ThawError: an override sets what this task does not read.
    """
    known = OmegaConf.load(conf_dir() / "data" / "files.yaml")
    read, _, _ = signature(get_object(cfg.data._target_))
    unread = [str(key) for key in cfg.data if key in known and key not in read]
    for word in typed:
        group, _, key = word.lstrip("+~").partition("=")[0].partition(".")
        if group == "data" and key.split(".")[0] in unread:
            options = sorted(set(read) & set(known))
            raise ThawError(
                f"{word}: this task does not read data.{key}.{near(key, options)} "
                f"It reads {', '.join(options)}."
            )
    with open_dict(cfg):
        for key in unread:
            del cfg.data[key]


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
    parameters, hints, open_ended = signature(target)
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
    required = {k for k, p in parameters.items() if p.default is p.empty}
    if absent := sorted(required - set(node) - given):
        raise ThawError(f"{path} needs {', '.join(absent)}.")


def signature(target: Callable) -> tuple[dict[str, inspect.Parameter], dict[str, Any], bool]:
    """What a target takes: a class that passes `**options` on takes its base's arguments too.

    Returns:
        Parameters by name; their types; whether it takes any name besides.
    """
    makers: list[Callable] = [target]
    if inspect.isclass(target):
        makers = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    for maker in makers:
        own = list(inspect.signature(maker).parameters.values())
        own = own[1:] if inspect.isclass(target) else own
        named = [p for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        # What a base requires, the class may give it.
        above = [p.replace(default=None) for p in named] if parameters else named
        parameters = {p.name: p for p in above} | parameters
        hints = typing.get_type_hints(maker, include_extras=True) | hints
        if len(named) == len(own):
            return parameters, hints, False
    return parameters, hints, True


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
