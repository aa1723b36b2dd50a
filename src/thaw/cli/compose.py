"""Composes the config of a run, explains what an override got wrong, and exits with that."""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.cli.coming_from import MORE, flagged, is_group, said_here, unreadable, wrong_choice
from thaw.cli.conf import choices, conf_dir, own_dirs, search_path
from thaw.cli.overrides import did_you_mean, key_of, override_words
from thaw.cli.secrets import redacted_text
from thaw.errors import UNWRITABLE, ThawError
from thaw.storage.standard_output import go_on_without_readers


def register_resolvers() -> None:
    """Registers `${thaw.stamp:}`, which keeps run directories apart, and the others."""
    from thaw.cli.jobs import direction, job_dir, run_name, running_sweep
    from thaw.cli.processes import first_only, stamp
    from thaw.cli.watched_metric import better

    OmegaConf.register_new_resolver("thaw.stamp", stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("thaw.first_only", first_only, replace=True)
    OmegaConf.register_new_resolver("thaw.sweep", lambda resume, new: resume or new, replace=True)
    OmegaConf.register_new_resolver("thaw.job", job_dir, replace=True)
    OmegaConf.register_new_resolver("thaw.options", options_of, replace=True)
    OmegaConf.register_new_resolver(
        "thaw.group", lambda: getattr(running_sweep(), "name", None), replace=True
    )
    OmegaConf.register_new_resolver("thaw.name", run_name, replace=True)
    OmegaConf.register_new_resolver("thaw.task", lambda t: t.split(".")[-2], replace=True)
    OmegaConf.register_new_resolver("thaw.better", better, replace=True)
    OmegaConf.register_new_resolver("thaw.if_in", chosen, replace=True)
    OmegaConf.register_new_resolver("thaw.direction", direction, replace=True)


def chosen(value: str, values: Sequence[str], found: str, other: str) -> str:
    """Returns one of two texts, the first if a value is among others: `${thaw.if_in:...}`."""
    return found if value in values else other


def options_of(*, _root_: DictConfig) -> str:
    """Returns the options of a config for `--help`, see `thaw.cli.reference.help.options_help`."""
    from thaw.cli.reference.help import options_help  # not loaded without --help

    return options_help(_root_)


def compose(overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/train.yaml` with command-line overrides, outside of `train.py`; raises
    ThawError if one names a key or a choice that does not exist."""
    refuse_options_of_others(overrides)
    with explained_overrides(overrides):
        return composed(overrides)


def composed(overrides: Sequence[str]) -> DictConfig:
    """Returns `conf/train.yaml` with overrides; mistakes in them raise Hydra's errors."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose("train", [*search_path(own_dirs()), *overrides])


def refuse_options_of_others(words: Sequence[str]) -> None:
    """Raises ThawError for options that another tool has and Hydra would take as they are, with
    whatever else is wrong with the command line."""
    if taken := flagged(words):
        rest = [word for word in words if word not in taken]
        raise ThawError("\n".join([*taken.values(), *mistakes(rest)]) + MORE)


@contextmanager
def explained_overrides(overrides: Sequence[str]) -> Iterator[None]:
    """Turns what Hydra raises of overrides into a ThawError that says what they got wrong."""
    from hydra.errors import HydraException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        first, word = explain(error, overrides)
        rest = [o for o in overrides if key_of(o) != word]
        found = [first, *(mistakes(rest) if word else [])]
        more = MORE if any(" here" in sentence for sentence in found) else ""
        raise ThawError("\n".join(found) + more) from error
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Overrides that Hydra's grammar lets through, such as `data=null` or `+=`.
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("hydra", "omegaconf", "antlr4"):
            raise
        reason = str(error).splitlines() or [type(error).__name__]
        if reason[0].startswith("Config group override must be"):  # logger=null, freeze=2
            for key, _, value in (override.partition("=") for override in overrides):
                if is_group(key) and re.fullmatch(r"null|true|false|[\d.]+", value, re.I):
                    raise ThawError(wrong_choice(key, value)) from error
        raise ThawError(
            f"cannot read {' '.join(map(repr, overrides))}: {reason[0]}. Expected GROUP=CHOICE or "
            "KEY=VALUE; `python train.py --help` lists every choice and option."
        ) from error


def mistakes(words: Sequence[str]) -> list[str]:
    """Returns what each wrong override of a command line got wrong. Hydra names the first alone, so
    that what it names is left out until the others compose."""
    from hydra.errors import HydraException

    found: list[str] = []
    left = override_words(words)
    while left:
        try:
            composed(left)
            break
        except (HydraException, OmegaConfBaseException) as error:
            sentence, word = explain(error, words)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError):
            break
        rest = [override for override in left if key_of(override) != word]
        if len(rest) == len(left):
            break
        found.append(sentence)
        left = rest
    return found


@contextmanager
def exit_clearly() -> Iterator[None]:
    """Turns a user's mistake into a message and exit code 2; other errors keep a traceback."""
    go_on_without_readers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit before we can say more
    try:
        with explained_overrides(sys.argv[1:]):
            yield
    except ThawError as error:
        fail(str(error))
    except OSError as error:
        # Hydra makes the run directory and its log before a run begins.
        if error.filename is None or error.errno not in UNWRITABLE:
            raise
        fail(f"{error.filename}: {error.strerror}. hydra.run.dir=<directory> names another place.")


def fail(message: str) -> NoReturn:
    """Prints an error and exits with code 2; a ThawError is the cause, for a caller in Python."""
    print(f"\nthaw: {redacted_text(message)}", file=sys.stderr)
    raise SystemExit(2) from ThawError(message)


def keys(cfg: Mapping, prefix: str = "") -> list[str]:
    """Returns all dotted keys of a config, inner nodes too."""
    found = []
    for key in cfg:
        found.append(f"{prefix}{key}")
        raw = cfg._get_node(key) if isinstance(cfg, DictConfig) else cfg[key]
        if isinstance(raw, Mapping):
            found += keys(raw, f"{prefix}{key}.")
    return found


def has_key(group: str, choice: str, key: str) -> bool:
    """Returns whether a config has a key with a choice of a group; False if it does not compose."""
    from hydra.errors import HydraException

    try:
        return key in keys(composed([f"{group}={choice}"]))
    except (HydraException, OmegaConfBaseException):
        return False


@cache
def all_keys() -> dict[str, list[str]]:
    """Returns all dotted keys with the tasks that have them."""
    found: dict[str, list[str]] = {}
    for task in choices("task"):
        for key in keys(compose([f"task={task}"])):
            found.setdefault(key, []).append(task)
    return dict(sorted(found.items()))


def explain(error: BaseException, words: Sequence[str]) -> tuple[str, str]:
    """Returns what an override of a command line got wrong, with the nearest right ones; and the
    key of the override, "" where the error is of no single one."""
    from hydra.errors import OverrideParseException

    text = str(error)
    if isinstance(error.__cause__, ThawError):  # Hydra wraps what a constructor raises
        return str(error.__cause__), ""
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, words), key_of(error.override)
    if choice := re.search(r"Could not (?:find|load) '((?:hydra/)?\w+)/([^']*)'", text):
        return wrong_choice(*choice.groups()), choice[1]
    if wrong := re.search(r"Could not override '([^']+)'", text):
        return wrong_key(wrong[1], "No match in the defaults list" in text, words), wrong[1]
    cause = f"\n{error.__cause__}" if error.__cause__ else ""
    return text + cause, ""


def wrong_key(word: str, grouped: bool, words: Sequence[str]) -> str:
    """Returns what a key that the config does not have may have meant.

    Args:
        word: key of an override, as Hydra names it.
        grouped: whether Hydra looked for a group, as it does for a value that may be a choice.
        words: command line, which has the value.
    """
    typed = next((w for w in words if key_of(w) == word), word)
    if word == "hydra.sweeper.params":
        return f"{word} has none of these: write it as {shlex.quote(f'+{typed}')}, which adds them."
    if said := said_here(typed):
        return f"there is no option {word}. {said}"
    groups = [p.name for p in conf_dir().iterdir() if p.is_dir()]
    if word in groups:
        offered = ", ".join(choices(word))
        return f"{word} is a group: {word}=CHOICE, of {offered}; or {word}.KEY=VALUE."
    tasks = [] if grouped else all_keys().get(word, [])
    group = "task" if tasks and tasks != choices("task") else word.split(".")[0]
    having = tasks if group == "task" else choices(group) if group in groups else []
    if having := [c for c in having if c in tasks or has_key(group, c, word)]:
        others = " or ".join(f"{group}={choice}" for choice in having)
        return f"{word} is an option of {others}: this is another {group}."
    known = groups + keys(compose([])) if grouped else list(all_keys())
    # A key is often right in its last part and wrong in its group: learning_rate=1e-4.
    hint = did_you_mean(word, known) or did_you_mean(
        word.split(".")[-1], [k.split(".")[-1] for k in known]
    )
    same = [k for k in known if k.split(".")[-1] == word]
    if same := [k for k in same if not k.startswith("callbacks.")] or same:
        hint = f" Did you mean {' or '.join(same)}?"
    return f"there is no option {word}.{hint} `python train.py --help` lists every option."
