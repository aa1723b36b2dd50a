"""Names of labels: their order, their counts, those that look alike, and how they are shown."""

import logging
import math
import re
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from thaw.errors import ThawError

log = logging.getLogger(__name__)

Label = str | list[str] | None
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
SIMPLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # what Hydra takes for a word without quotes
SHOWN = 10  # labels in a message
NO_LABEL = ("none", "null", "nan", "n/a", "na", "#n/a", "<na>", "nil", "-", "?")
SEPARATORS = ("|", ";", ",", "/")


def is_scores(names: set[str]) -> bool:
    """Returns whether names are numbers, and not whole ones."""
    if not names or not all(NUMBER.fullmatch(name) for name in names):
        return False
    return any(not float(name.replace(",", ".")).is_integer() for name in names)


def normalized(name: str) -> str:
    """Returns a name in lower case and in Unicode's form NFC, without invisible characters, with
    single spaces; of a whole number without its fraction, 1.0 as 1."""
    text = "".join(c for c in name if not is_unseen(c))
    text = unicodedata.normalize("NFC", " ".join(text.split()).casefold())
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", text)


def is_unseen(character: str) -> bool:
    """Returns whether a character is not seen: a format character or a variation selector."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def in_order(names: Iterable[str]) -> list[str]:
    """Returns names in an order that is the same in every process: numbers by value, if all are."""
    found = set(names)
    try:
        values = {name: float(name) for name in found}
    except ValueError:
        return sorted(found)
    if not all(map(math.isfinite, values.values())):
        return sorted(found)
    return sorted(found, key=lambda name: (values[name], name))


def names_in(label: Label) -> Sequence[str]:
    """Returns the names of a label: one, those of a list, or none."""
    if label is None:
        return ()
    return label if isinstance(label, list) else (label,)


def label_counts(labels: Iterable[Label]) -> Counter[str]:
    """Returns how many rows have each label, in the order of `in_order`."""
    counts: Counter[str] = Counter()
    for label in labels:
        counts.update(names_in(label))
    return Counter({name: counts[name] for name in in_order(counts)})


def label_names(labels: Iterable[Any], given: Sequence[str] | None) -> list[str]:
    """Returns the labels in their order: as given, else by `in_order`; raises ThawError if one is
    not among those given."""
    counts = label_counts(labels)
    if given is None:
        return list(counts)
    if extra := {name: n for name, n in counts.items() if name not in set(given)}:
        raise ThawError(
            f"train has labels that data.labels={bracketed(given)} does not name: "
            f"{counted(extra)}. Add them there, or leave their rows out: "
            f"{option('data.drop_labels', list(extra))}."
        )
    return list(given)


def together(names: Iterable[str], key: Callable[[str], Any]) -> list[list[str]]:
    """Returns the names that have the same key as another one, in a list for each key."""
    found: defaultdict[Any, list[str]] = defaultdict(list)
    for name in in_order(names):
        found[key(name)].append(name)
    return [group for group in found.values() if len(group) > 1]


def warn_of_alike(counts: Mapping[str, int], origin: str) -> None:
    """Warns of labels that only look different, with their counts."""
    if groups := together(counts, normalized):
        alike = [" and ".join(f"{n!a} ({counts[n]})" for n in group) for group in groups[:SHOWN]]
        more = f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
        log.warning(
            f"{origin}: labels that differ in case, spaces, Unicode form or invisible characters "
            f"only are different classes: {'; '.join(alike)}{more}. data.normalize_labels=true "
            "makes one of them"
        )
    numbers = {name for name in map(normalized, counts) if NUMBER.fullmatch(name)}
    if same := together(numbers, lambda name: float(name.replace(",", "."))):
        found = "; ".join(" and ".join(map(repr, group)) for group in same[:SHOWN])
        what = "labels are the same number in different writing, and different classes"
        log.warning(f"{origin}: {what}: {found}")


def is_several(name: str, separator: str, names: Collection[str]) -> bool:
    """Returns whether a name seems to be several with a separator, one of which is a name too."""
    parts = [part.strip() for part in name.split(separator)]
    return len(parts) > 1 and all(parts) and any(part in names for part in parts)


def warn_of_odd(counts: Mapping[str, int], origin: str) -> None:
    """Warns of labels that seem to say that there is none, and of those that seem to be several."""
    if none := {name: n for name, n in counts.items() if name.lower() in NO_LABEL}:
        log.warning(
            f"{origin}: labels that seem to say that a text has none are classes like the others: "
            f"{counted(none)}. {option('data.drop_labels', list(none))} leaves their rows out"
        )
    for separator in SEPARATORS:
        if found := {n: c for n, c in counts.items() if is_several(n, separator, counts)}:
            log.warning(
                f"{origin}: labels that seem to be several are a class each: {counted(found)}. "
                f"\"data.label_separator='{separator}'\" makes several labels of them"
            )


def warn_of_undropped(dropped: Iterable[str], counts: Mapping[str, int], origin: str) -> None:
    """Warns of labels that stay, with these counts, although one like them is to be dropped."""
    looks = {normalized(name): name for name in dropped}
    stayed = {name: n for name, n in counts.items() if normalized(name) in looks}
    if stayed:
        names = ", ".join(ascii(looks[normalized(name)]) for name in stayed)
        log.warning(
            f"{origin}: data.drop_labels names {names}, and rows with {counted(stayed)} stay: they "
            "differ in case, spaces, Unicode form or invisible characters. "
            "data.normalize_labels=true drops them, too"
        )


def counted(counts: Mapping[str, int]) -> str:
    """Returns labels with their counts, for messages; what is not seen in them is escaped."""
    return listed([f"{shown(name)} ({count})" for name, count in counts.items()], plain=True)


def listed(names: Sequence[str], plain: bool = False) -> str:
    """Returns some names and how many more there are, for messages."""
    text = ", ".join(names[:SHOWN] if plain else map(shown, names[:SHOWN]))
    return text + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def shown(name: str) -> str:
    """Returns a name in quotes, with escapes where it would look like another one."""
    return repr(name) if distinct_name(name) == name else ascii(name)


def distinct_name(name: str) -> str:
    """Returns a name, with escapes where it would look like another one."""
    seen = "".join(c for c in name if unicodedata.category(c)[0] != "C" and not is_unseen(c))
    plain = unicodedata.normalize("NFC", seen) == name
    return name if plain else ascii(name)[1:-1]


def bracketed(names: Sequence[str]) -> str:
    """Returns a list as Hydra reads it."""
    return f"[{','.join(map(quoted, names))}]"


def quoted(name: str) -> str:
    """Returns a name as Hydra reads it as a string."""
    if SIMPLE.fullmatch(name) and name.lower() not in ("true", "false", "null", "nan", "inf"):
        return name
    return '"' + re.sub(r'(\\*)("|\Z)', lambda m: 2 * m[1] + (m[2] and '\\"'), name) + '"'


def option(key: str, names: Sequence[str]) -> str:
    """Returns an override that sets a list of names, as it is typed in a shell."""
    return shlex.quote(f"{key}={bracketed(names)}")


def names_of(config: Mapping[str, Any]) -> list[str]:
    """Returns the label names of a model's config in their order."""
    names = config["id2label"]
    return [names[key] for key in sorted(names, key=int)]
