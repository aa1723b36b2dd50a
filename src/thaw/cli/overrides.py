"""Reads `key=value` words: overrides of `train.py`, and arguments of the other commands; finds the
names that a mistyped one is close to."""

import difflib
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from thaw.errors import ThawError

# Texts that Hydra's grammar takes as they are.
PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w./-]*", re.IGNORECASE)


def split_override(override: str) -> tuple[str, str]:
    """Returns the key and the value of an override: `+task.lr=1` is `task.lr` and `1`."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def key_of(override: str) -> str:
    """Returns the key of an override."""
    return split_override(override)[0]


def value_of(override: str) -> str:
    """Returns the value of an override, without the quotes of Hydra's grammar."""
    value = split_override(override)[1]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(r"\'", "'")
    return value


def group_of(override: str) -> str:
    """Returns the first part of an override's key: `data` of `data.label=stars`."""
    return key_of(override).partition(".")[0]


def override_words(words: Sequence[str], index: int = 0) -> list[str]:
    """Returns the overrides of a command line as those of one job, and no flags: of the values of a
    sweep the one at `index`, or the last."""
    found = []
    for word in words:
        if word.startswith("-") or ("=" not in word and not word.startswith("~")):
            continue
        jobs = swept(word)
        found += [word] if jobs is None else jobs[index : index + 1] or jobs[-1:]
    return found


def swept(word: str) -> list[str] | None:
    """Returns the overrides of the jobs of an override that sweeps, the start of a range that is
    searched; None if it does not sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_override(word)
    except OverrideParseException:  # one of the mistakes to explain
        return None
    if not parsed.is_sweep_override():
        return None
    values: Any = parsed.value()
    if parsed.is_discrete_sweep():
        found = [*parsed.sweep_string_iterator()]
    else:
        found = [str(values.start)] if parsed.is_interval_sweep() else []
    return [f"{parsed.get_key_element()}={value}" for value in found]


def replace(own: Sequence[str], new: Sequence[str]) -> list[str]:
    """Returns overrides where new ones stand in for those of the same keys."""
    keys = {key_of(override) for override in new}
    return [*(override for override in own if key_of(override) not in keys), *new]


def quote(value: object) -> str:
    """Returns a value, such as a path, quoted for Hydra's grammar, whatever is in it."""
    escaped = str(value).replace("'", r"\'")
    return f"'{escaped}'"


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Returns keyword options as overrides: `data={"text": "review"}` is `data.text=review`."""
    found = []
    for key, value in options.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        found += [f"{key}.{name}={literal(part)}" for name, part in inner]
        found += [] if isinstance(value, Mapping) else [f"{key}={literal(value)}"]
    return found


def literal(value: Any) -> str:
    """Returns a value as Hydra's grammar writes it; raises ThawError if no config holds such a
    value."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) else quote(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{literal(k)}:{literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(literal, value)) + "]"
    raise ThawError(f"{value!r:.60} is no value of an option; expected text, numbers or lists.")


def read_arguments(
    argv: Sequence[str], known: Mapping[str, str | None], usage: str, groups: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Reads the command line of a command other than `train.py`: returns a value for each key, and
    the overrides; raises ThawError if a word is not `key=value`, or a key is unknown or missing.

    Args:
        argv: command line without the program. `-h` and `--help` print the usage and exit.
        known: keys with their defaults; None: the key must be given.
        usage: text shown for `--help` and when something is wrong.
        groups: config groups whose overrides the command takes too.
    """
    show_usage(argv, usage)
    values = dict(known)
    overrides = []
    for word in argv:
        key, equals, value = word.partition("=")
        if group_of(word) in groups:
            overrides.append(word)
        elif not equals:
            raise ThawError(f"got {word!r}, expected key=value.\n{usage}")
        elif key not in known:
            hint = did_you_mean(key, [*known, *groups])
            raise ThawError(f"there is no option {key}.{hint}\n{usage}")
        else:
            values[key] = value
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise ThawError(f"{', '.join(missing)} must be given.\n{usage}")
    return {key: str(value) for key, value in values.items()}, overrides


def show_usage(argv: Sequence[str], usage: str) -> None:
    """Prints the usage and exits if the command line asks for it."""
    if {"-h", "--help"} & set(argv):
        print(usage)
        sys.exit(0)


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
