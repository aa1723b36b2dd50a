"""Finds `conf/` and the choices of its groups."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from thaw.storage.files import conf_dir


def own_dirs() -> list[str]:
    """Returns the directories of the user's own configs, as `--config-dir` names one."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        paths = (str(source.path) for source in sources if source.schema == "file")
        return [path for path in paths if path != str(conf_dir())]
    named, _ = config_dir_of(sys.argv[1:])
    return [os.path.abspath(named)] if named else []


def config_dir_of(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns the directory that `--config-dir` names, and the rest of the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    known, rest = parser.parse_known_args(argv)
    return known.config_dir, rest


def search_path(directories: Sequence[str]) -> list[str]:
    """Returns the override that makes Hydra look for configs in further directories."""
    quoted = ("'file://{}'".format(path.replace("'", r"\'")) for path in directories)
    return [f"hydra.searchpath=[{','.join(quoted)}]"] if directories else []


def choices(group: str) -> list[str]:
    """Returns the choices of a config group."""
    directories = [conf_dir(), *map(Path, own_dirs())]
    return sorted({p.stem for parent in directories for p in (parent / group).glob("*.yaml")})
