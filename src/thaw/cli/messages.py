"""Finds the names that a mistyped word is close to."""

import difflib
from collections.abc import Sequence


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
