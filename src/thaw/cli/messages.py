"""Near matches, usage and `key=value` words of the commands."""

import difflib
import sys
from collections.abc import Sequence

from thaw.errors import ThawError


def did_you_mean(word: str, words: list[str]) -> str:
    """` Did you mean ...?` with the close matches of a word, or nothing."""
    matches = abbreviated(word, words) or difflib.get_close_matches(word, words, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def abbreviated(word: str, known: Sequence[str]) -> list[str]:
    """The names that a word is short for, three at most: `lr`, `task.lr`, `epochs`."""
    group, _, short = word.rpartition(".")
    found = []
    for key in known:
        parts = key.split(".")[-1].split("_")
        initials = "".join(part[:1] for part in parts)
        fits = short in parts or (len(short) > 1 and short == initials)
        if len(parts) > 1 and fits and key.startswith(f"{group}." if group else ""):
            found.append(key)
    return [k for k in found if not k.startswith(("callbacks.", "hydra."))][:3]


def fail(message: str) -> None:
    """Prints an error and exits with code 2."""
    from thaw.cli.secrets import redacted_text

    print(f"\nthaw: {redacted_text(message)}", file=sys.stderr)
    sys.exit(2)


def show_usage(argv: Sequence[str], usage: str) -> None:
    """Prints the usage and ends the program where it is asked for."""
    if {"-h", "--help"} & set(argv):
        print(usage)
        sys.exit(0)


def arguments(argv: list[str], known: dict[str, str | None], usage: str) -> dict[str, str]:
    """Reads `key=value` words of a command.

    Args:
        argv: the words.
        known: the keys with their defaults; None: must be given.
        usage: shown when something is missing.

    Returns:
        A value for each key.

    Raises:
        ThawError: a word is not `key=value`, a key is unknown or missing.
    """
    show_usage(argv, usage)
    values = dict(known)
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals:
            raise ThawError(f"got {word!r}, expected key=value.\n{usage}")
        if key not in known:
            raise ThawError(f"there is no option {key}.{did_you_mean(key, list(known))}\n{usage}")
        values[key] = value
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise ThawError(f"{', '.join(missing)} must be given.\n{usage}")
    return {key: str(value) for key, value in values.items()}
