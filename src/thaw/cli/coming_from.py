"""Options of other tools that users type, and what does the same here."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from thaw.cli.overrides import key_of
from thaw.errors import ThawError


@cache
def coming_from() -> dict[str, dict[str, str]]:
    """Returns `coming_from.yaml`: by tool, what is typed there and what does the same here."""
    path = Path(__file__).with_suffix(".yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def said_here(typed: str) -> str:
    """Returns a sentence with what an option of another tool is called here, "" for others.

    Args:
        typed: an override, or its key alone.
    """
    typed = typed.lstrip("+-")
    key = typed.partition("=")[0].replace("-", "_")
    rows = {there: (tool, here) for tool, t in coming_from().items() for there, here in t.items()}
    # A choice of a group, such as trainer=gpu, is meant itself, an option whatever its value is.
    choices = ("trainer=", "debug=", "logger=")
    names = {t.partition("=")[0]: t for t in rows if not t.startswith(choices)}
    there = typed if typed in rows else names.get(key) or names.get(key.rpartition(".")[2])
    if there is None:
        return ""
    tool, here = rows[there]
    return f"{there} of {tool} is `{here}` here; docs/coming-from.md has more."


def refuse_options_of_others(words: Sequence[str]) -> None:
    """Raises ThawError for options that another tool has and Hydra would take as they are: new
    keys, such as +fp16=true, and flags, such as --fp16."""
    for word in words:
        taken = word.startswith("--") or (word.startswith("+") and "." not in key_of(word))
        if taken and (said := said_here(word)):
            raise ThawError(f"there is no option {word}. {said}")
