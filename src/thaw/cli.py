"""What a command line needs around the work: run names, near matches, errors without tracebacks."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw.errors import UNWRITABLE, ThawError

ENGINES = ("joblib", "submitit", "ray", "optuna")  # of sweeps: extras of thaw


def conf_dir() -> Path:
    """The directory of configs beside `train.py`.

    Raises:
        ThawError: thaw was installed without its checkout.
    """
    path = Path(__file__).parents[2] / "conf"
    if not path.is_dir():
        raise ThawError(f"no configs at {path}: install thaw from a clone with `pip install -e .`")
    return path


def own_dirs() -> list[str]:
    """The user's directories of configs beside thaw's, as `--config-dir` names one."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        paths = (str(source.path) for source in sources if source.schema == "file")
        return [path for path in paths if path != str(conf_dir())]
    named, _ = config_dir_of(sys.argv[1:])
    return [os.path.abspath(named)] if named else []


def config_dir_of(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """What `--config-dir` names, and the other words of a command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(argv)
    return known.config_dir, rest


def search(places: Sequence[str]) -> list[str]:
    """The override that makes Hydra look for configs in further directories."""
    quoted = ("'file://{}'".format(place.replace("'", r"\'")) for place in places)
    return [f"hydra.searchpath=[{','.join(quoted)}]"] if places else []


def choices(group: str) -> list[str]:
    """The choices of a config group."""
    places = [conf_dir(), *map(Path, own_dirs())]
    return sorted({path.stem for place in places for path in (place / group).glob("*.yaml")})


def register_resolvers() -> None:
    """Registers `${thaw.stamp:}`, which keeps run directories apart, and those of a sweep's
    directories."""
    from thaw.ranks import first_only, stamp
    from thaw.sweep import direction, group, place, run_name, sweep_dir

    OmegaConf.register_new_resolver("thaw.stamp", stamp, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("thaw.first_only", first_only, replace=True)
    OmegaConf.register_new_resolver("thaw.sweep", sweep_dir, replace=True)
    OmegaConf.register_new_resolver("thaw.job", place, replace=True)
    OmegaConf.register_new_resolver("thaw.group", group, replace=True)
    OmegaConf.register_new_resolver("thaw.name", run_name, replace=True)
    OmegaConf.register_new_resolver("thaw.task", lambda t: t.split(".")[-2], replace=True)
    OmegaConf.register_new_resolver("thaw.direction", direction, replace=True)


def compose(overrides: list[str]) -> DictConfig:
    """Composes `conf/train.yaml` with command-line overrides, outside of `train.py`.

    Raises:
        ThawError: an override names a key or a choice that does not exist.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register_resolvers()
    overrides = [*search(own_dirs()), *overrides]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return hydra_compose("train", overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise ThawError(explain(error)) from error
        except Exception as error:
            if not hydras_own(error):
                raise
            raise ThawError(unreadable(overrides, error)) from error


def hydras_own(error: BaseException) -> bool:
    """Whether Hydra itself stumbled, over words that its grammar lets through, such as `data=null`
    or `+=`: it raises whatever comes then."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    name = at.tb_frame.f_globals.get("__name__", "") if at is not None else ""
    return name.split(".")[0] in ("hydra", "omegaconf", "antlr4")


def unreadable(words: Iterable[str], error: BaseException) -> str:
    """What to say of words that Hydra stumbled over."""
    reason = str(error).splitlines() or [type(error).__name__]
    return (
        f"cannot read {' '.join(map(repr, words))}: {reason[0]}. Expected GROUP=CHOICE or "
        "KEY=VALUE; `python train.py --help` lists every choice and option."
    )


def tasks() -> list[str]:
    """The names of all tasks."""
    return choices("task")


def near(word: str, words: list[str]) -> str:
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


def keys(cfg: Mapping, prefix: str = "") -> list[str]:
    """All dotted keys of a config, inner nodes too."""
    found = []
    for key in cfg:
        found.append(f"{prefix}{key}")
        raw = cfg._get_node(key) if isinstance(cfg, DictConfig) else cfg[key]
        if isinstance(raw, Mapping):
            found += keys(raw, f"{prefix}{key}.")
    return found


@cache
def all_keys() -> dict[str, list[str]]:
    """All dotted keys, with the tasks that have them."""
    found: dict[str, list[str]] = {}
    for task in tasks():
        for key in keys(compose([f"task={task}"])):
            found.setdefault(key, []).append(task)
    return dict(sorted(found.items()))


def explain(error: BaseException) -> str:
    """Says in a few lines what an override got wrong, with the nearest right ones."""
    from hydra.errors import OverrideParseException

    text = str(error)
    if isinstance(error.__cause__, ThawError):  # Hydra wraps what a constructor raises
        return str(error.__cause__)
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        quoted = value.strip("\"'").replace("'", r"\'")
        return (
            f"cannot read {error.override!r}. Quote the value for Hydra and the word for the "
            f'shell: "{key}=\'{quoted}\'"; a list is "{key}=[one,two]".'
        )
    if choice := re.search(r"Could not find '([\w/.-]+)/([^/']+)'", text):
        group, word = choice.groups()
        if group in ("hydra/launcher", "hydra/sweeper"):
            extra = word.split("_")[0]
            if extra in ENGINES:
                return f"{group}={word} is not installed: pip install -e '.[{extra}]'."
            return f"{group}={word} does not exist; thaw has extras for {', '.join(ENGINES)}."
        options = choices(group)
        return (
            f"{group}={word} does not exist; {group} is one of {', '.join(options)}."
            f"{near(word, options)} --config-dir <directory> adds your own."
        )
    if wrong := re.search(r"Could not override '([^']+)'", text):
        word = wrong.group(1)
        groups = [p.name for p in conf_dir().iterdir() if p.is_dir()]
        if word in groups:
            offered = ", ".join(choices(word))
            return f"{word} is a group: {word}=CHOICE, of {offered}; or {word}.KEY=VALUE."
        grouped = "No match in the defaults list" in text
        if not grouped and word in all_keys():
            others = " or ".join(f"task={task}" for task in all_keys()[word])
            return f"{word} is an option of {others}: this is another task."
        known = groups + keys(compose([])) if grouped else list(all_keys())
        # A key is often right in its last part and wrong in its group: learning_rate=1e-4.
        hint = near(word, known) or near(word.split(".")[-1], [k.split(".")[-1] for k in known])
        same = [k for k in known if k.split(".")[-1] == word and not k.startswith("callbacks.")]
        if same:
            hint = f" Did you mean {' or '.join(same)}?"
        return f"there is no option {word}.{hint} `python train.py --help` lists every option."
    cause = f"\n{error.__cause__}" if error.__cause__ else ""
    return text + cause


@contextmanager
def exit_clearly() -> Iterator[None]:
    """Turns a user's mistake into a message and exit code 2; other errors keep a traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print and exit before we can say more
    from hydra.errors import HydraException

    try:
        yield
    except ThawError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain(error))
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        if not hydras_own(error):
            raise
        fail(unreadable(sys.argv[1:], error))
    except OSError as error:
        # Hydra makes the run directory and its log before a run begins.
        if error.filename is None or error.errno not in UNWRITABLE:
            raise
        fail(f"{error.filename}: {error.strerror}. hydra.run.dir=<directory> names another place.")


def fail(message: str) -> None:
    """Prints an error and exits with code 2."""
    from thaw.redact import redacted_text

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
            raise ThawError(f"there is no option {key}.{near(key, list(known))}\n{usage}")
        values[key] = value
    missing = [key for key, value in values.items() if value is None]
    if missing:
        raise ThawError(f"{', '.join(missing)} must be given.\n{usage}")
    return {key: str(value) for key, value in values.items()}
