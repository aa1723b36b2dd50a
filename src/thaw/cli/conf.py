"""Finds `conf/` and the choices of its groups."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from thaw.errors import ThawError


def conf_dir() -> Path:
    """The directory of configs beside `train.py`.

    Raises:
        ThawError: thaw was installed without its checkout.
    """
    path = Path(__file__).parents[3] / "conf"
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


def tasks() -> list[str]:
    """The names of all tasks."""
    return choices("task")
