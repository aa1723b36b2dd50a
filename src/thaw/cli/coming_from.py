"""Says what to type for an option of another tool, for a choice that a group does not have, and for
what Hydra does not read."""

import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from thaw.cli.conf import choices
from thaw.cli.overrides import did_you_mean, quote
from thaw.data.read.labels.names import option
from thaw.storage.files import conf_dir

PLAIN = re.compile(r"[\w./:+@-]+|\[[\w.,/-]*\]")  # values that neither Hydra nor a shell changes
ENGINES = ("joblib", "submitit", "ray", "optuna")  # launchers and sweepers that are extras of thaw
NOT_NEEDED = "not needed"  # begins an answer that is nothing to type
MORE = " docs/coming-from.md has more."


class Row(NamedTuple):
    """A row of `coming_from.yaml`: what is typed in a tool, and what does the same here."""

    tool: str
    key: str
    value: str
    template: str  # what does the same here, with {} for the value

    @property
    def there(self) -> str:
        """What is typed in the tool."""
        return f"{self.key}={self.value}" if self.value else self.key

    @property
    def here(self) -> str:
        """What does the same here."""
        words = []
        for word in self.template.split():
            key, _, value = word.partition("=")
            # transformers calls its metrics eval_f1 and f1.
            filled = value.replace("{}", self.value).replace("val/eval_", "val/")
            words.append(override(key, filled) if "{}" in value else word)
        return " ".join(words)

    @property
    def answer(self) -> str:
        """What does the same here, for a page: quoted unless it is a sentence."""
        return self.here if self.here.startswith(NOT_NEEDED) else f"`{self.here}`"

    def __str__(self) -> str:
        """Returns the row as a sentence without its end."""
        for word in self.here.split():
            group, equals, choice = word.partition("=")
            if equals and is_group(group) and choice not in choices(group):
                offered = ", ".join(choices(group))
                return f"{self.there} of {self.tool} is `{group}=CHOICE` here, of {offered}"
        answer = f"{self.answer} here"
        if self.here.startswith(NOT_NEEDED):
            answer = f"{NOT_NEEDED} here{self.here.removeprefix(NOT_NEEDED)}"
        return f"{self.there} of {self.tool} is {answer}"


@cache
def coming_from() -> list[Row]:
    """Returns the rows of `coming_from.yaml`."""
    path = Path(__file__).with_name("coming_from.yaml")
    tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Row(tool, key, value, here)
        for tool, table in tables.items()
        for there, here in table.items()
        for key, _, value in [there.partition("=")]
    ]


def override(key: str, value: str) -> str:
    """Returns an override as a user types it in a shell, quoted where it has to be."""
    if PLAIN.fullmatch(value):
        return f"{key}={value}"
    word = f"{key}={quote(value)}"
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def is_group(key: str) -> bool:
    """Returns whether a key is a config group."""
    return key.isidentifier() and (conf_dir() / key).is_dir()


def said_here(typed: str) -> str:
    """Returns a sentence with what an option of another tool, an override or its key alone, is
    called here; "" for others."""
    key, _, value = typed.lstrip("+-").partition("=")
    key = key.replace("-", "_")
    last = key.rpartition(".")[2]
    rows = [row for row in coming_from() if row.key == key] or [
        row for row in coming_from() if row.key == last and not is_group(last)
    ]
    found = [row for row in rows if row.value.lower() == value.lower()]
    if not rows or (is_group(key) and not found):  # another choice of a group is a mistake of thaw
        return ""
    if value and not found:
        found = [row._replace(value=value) for row in rows if "{}" in row.template]
    first = (found or rows)[0]
    # Where values are translated, the others say what is possible.
    fixed = is_group(key) or any("{}" in row.template for row in rows)
    others = [row for row in rows if row is not first and not fixed]
    return "; ".join([str(first), *(f"{row.there} is `{row.here}`" for row in others)]) + "."


def source_of(group: str, typed: str) -> str:
    """Returns the overrides that name a path or a name on the Hub, which was typed as the choice of
    a group; "" for what is neither."""
    from thaw.data.read.formats.registry import BY_SUFFIX

    path = Path(typed).expanduser()
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", typed) and not typed.startswith(".")
    on_disk = path.exists() or typed[:1] in "/~." or path.suffix in (*BY_SUFFIX, ".gz")
    if group == "model" and (named or on_disk):
        return override("model.checkpoint", typed)
    if group == "data" and on_disk:
        return f"data=files {override('data.train', typed)}"
    return f"data=hub {override('data.path', typed)}" if group == "data" and named else ""


def flagged(words: Sequence[str]) -> dict[str, str]:
    """Returns the options of other tools that Hydra would take as they are, each with its answer:
    new keys, such as +fp16=true, and flags, such as --fp16 or --num_train_epochs 5."""
    found = {}
    for word, following in zip(words, [*words, ""][1:], strict=True):
        flag = word.startswith("--")
        new = word.startswith("+") and "." not in word.partition("=")[0]
        apart = flag and "=" not in word and following and "=" not in following
        typed = f"{word}={following}" if apart and not following.startswith("-") else word
        if (flag or new) and (said := said_here(typed)):
            found[word] = f"there is no option {word}. {said}"
    return found


def unreadable(override: str, words: Sequence[str]) -> str:
    """Returns what to type instead of an override that Hydra's grammar does not read."""
    key, equals, value = override.partition("=")
    after = words[words.index(override) + 1 :] if override in words else []
    if not equals and after and "=" not in after[0] and not after[0].startswith("-"):
        typed = f"{override}={after[0]}"
        return f"{override} {after[0]}: {said_here(typed) or f'write `{typed}`.'}"
    if not equals:
        return f"cannot read {override!r}. Expected {key}=VALUE."
    if source := source_of(key, value):
        return f"{override}: {key} has no such choice; write `{source}`."
    if value[:1] == "[" and value[-1:] == "]":
        names = [name.strip(" \"'") for name in value[1:-1].split(",")]
        return f"cannot read {override!r}. Quote what is in the list: {option(key, names)}"
    quoted = value.strip("\"'").replace("'", r"\'")
    return (
        f"cannot read {override!r}. Quote the value for Hydra and the word for the "
        f'shell: "{key}=\'{quoted}\'"; a list is "{key}=[one,two]".'
    )


def wrong_choice(group: str, word: str) -> str:
    """Returns what a choice that a group does not have may have meant."""
    if group in ("hydra/launcher", "hydra/sweeper"):
        extra = word.split("_")[0]
        if extra in ENGINES:
            return f"{group}={word} is not installed: pip install -e '.[{extra}]'."
        return f"{group}={word} does not exist; thaw has extras for {', '.join(ENGINES)}."
    if said := said_here(f"{group}={word}"):
        return f"{group}={word} does not exist. {said}"
    if source := source_of(group, word):
        return f"{group}={word} does not exist; write `{source}`."
    inner, _, name = word.rpartition("/")
    if inner and (conf_dir() / group / inner).is_dir():
        group, word = f"{group}/{inner}", name
    options = choices(group)
    return (
        f"{group}={word} does not exist; {group} is one of {', '.join(options)}."
        f"{did_you_mean(word, options)} --config-dir <directory> adds your own."
    )
