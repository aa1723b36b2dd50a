"""Finds the names that a mistyped word is close to, or that another tool has for it."""

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from thaw.errors import ThawError


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Returns ` Did you mean ...?` with the known words that are close, "" if none is."""
    matches = expand(word, known) or difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def expand(word: str, known: Sequence[str]) -> list[str]:
    """Returns the names that a word abbreviates, three at most: `lr`, `task.lr`, `epochs`."""
    group, _, short = word.rpartition(".")
    found = []
    for key in known:
        parts = key.split(".")[-1].split("_")
        initials = "".join(part[:1] for part in parts)
        fits = short in parts or (len(short) > 1 and short == initials)
        if len(parts) > 1 and fits and key.startswith(f"{group}." if group else ""):
            found.append(key)
    return [k for k in found if not k.startswith(("callbacks.", "hydra."))][:3]


@cache
def coming_from() -> dict[str, dict[str, str]]:
    """Returns `coming_from.yaml`: by tool, what is typed there and what does the same here."""
    path = Path(__file__).with_name("coming_from.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def said_here(typed: str) -> str:
    """Returns a sentence with what an option of another tool, an override or its key alone, is
    called here; "" for others."""
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
        taken = word.startswith("--") or (
            word.startswith("+") and "." not in word.partition("=")[0]
        )
        if taken and (said := said_here(word)):
            raise ThawError(f"there is no option {word}. {said}")
