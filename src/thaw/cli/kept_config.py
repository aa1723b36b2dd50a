"""What a run directory keeps of its config, resolved: predict and evaluate work where variables,
working directory and configs of the run are not there."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from thaw.cli.overrides import key_of
from thaw.cli.secrets import HIDDEN, is_secret, redacted
from thaw.errors import ThawError
from thaw.storage.files import write_atomic

KEPT = Path(".hydra") / "resolved.yaml"  # in the run directory
PARTS = ("data", "task", "model")
SPLITS = ("train", "validation", "test", "cut_from")
FILES = ("path", "config", "revision", *SPLITS, "folds", "fold")  # options that name what is read
SOURCES = (*FILES, "shots", "steps")
# Options of data that other data keeps.
BATCHING = ("max_tokens", "eval_batch_size", "encoding", "long", "stride")
FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*(\w+)")


def keep_config(cfg: DictConfig, run_dir: Path) -> None:
    """Writes what predict and evaluate need of a config; a run does it when training begins.

    Interpolations are resolved and paths absolute. Secrets are left out; what comes from a variable
    that is called as a secret stays an interpolation.
    """
    kept = {part: resolved(cfg[part]) for part in PARTS}
    kept["data"] = with_absolute_paths(kept["data"])
    (run_dir / KEPT).parent.mkdir(parents=True, exist_ok=True)
    write_atomic(run_dir / KEPT, OmegaConf.to_yaml(OmegaConf.create(redacted(kept))))


def resolved(node: Any) -> Any:
    """Returns a node as plain containers, its interpolations resolved, except for secrets and for
    what cannot be resolved here: this is None."""
    if not OmegaConf.is_config(node):
        return node
    if not OmegaConf.is_dict(node):
        return OmegaConf.to_container(node, resolve=True)
    found = {}
    unresolved: Any = OmegaConf.to_container(node, resolve=False)
    for key, raw in unresolved.items():
        names = FROM_ENVIRONMENT.findall(raw) if isinstance(raw, str) else []
        if any(map(is_secret, names)):
            found[key] = raw
            continue
        try:
            found[key] = resolved(node[key])
        except OmegaConfBaseException:
            found[key] = None
    return found


def with_absolute_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a data set with absolute paths of what is on this disk."""
    out = dict(data)
    path = out.get("path")
    if isinstance(path, str) and os.path.isdir(os.path.expanduser(path)):
        out["path"] = os.path.abspath(os.path.expanduser(path))
    elif path is None:
        out |= {key: absolute(out[key]) for key in SPLITS if isinstance(out.get(key), str)}
    return out


def absolute(path: str) -> str:
    """Returns the absolute path of a file that is there, and of a part of one, `file.json:key`."""
    own = os.path.expanduser(path)
    there = os.path.exists(own) or os.path.exists(own.rpartition(":")[0] or own)
    return os.path.abspath(own) if there else path


def kept_config(run: Path) -> dict[str, Any] | None:
    """Returns what `keep_config` wrote; None of a run of thaw 0.1, which kept none."""
    loaded = load_yaml(run / KEPT)
    return loaded if isinstance(loaded, dict) else None


def load_yaml(path: Path) -> Any:
    """Returns the content of a YAML file, None if there is no file; interpolations stay, as a
    variable of the run's machine may not be set here."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.exists() else None


def restore(cfg: DictConfig, run: Path, own: Sequence[str], typed: Sequence[str]) -> DictConfig:
    """Returns a composed config with the values that a run's had when it began.

    The overrides that the user has `typed` stay. Where they name other data, only what the run's
    `own` overrides say of data is restored.
    """
    kept = kept_config(run)
    if kept is None:
        return cfg
    keys = {key_of(override) for override in typed}
    overridden = {key_of(override) for override in own}
    other = "data" in keys
    data: Any = OmegaConf.to_container(cfg.data, resolve=False)
    with open_dict(cfg):
        for part in ("data", "task"):
            for key, value in (kept.get(part) or {}).items():
                name = f"{part}.{key}"
                stays = any(f"{k}.".startswith(f"{name}.") for k in keys)
                if part == "data" and other:
                    stays |= not any(f"{k}.".startswith(f"{name}.") for k in overridden)
                if not stays and HIDDEN not in str(value):
                    handed = data.get(key) == f"${{task.{key}}}"  # as task=setfit hands its shots
                    cfg["task" if handed else part][key] = value
    return cfg


def run_overrides(run: Path, data: str | None) -> list[str]:
    """Returns those overrides of a run that matter to its evaluation.

    Where other data is evaluated, `data=<name>`, the run's batching is kept, and its columns too if
    it was started with the same `data=<name>`.
    """
    overrides = load_yaml(run / ".hydra" / "overrides.yaml")
    if overrides is None:
        raise ThawError(f"run={run} has no .hydra/overrides.yaml: was it made by train.py?")
    kept = []
    for override in map(str, overrides):
        group, _, key = key_of(override).partition(".")
        if group == "data" and data is not None:
            stays = key in BATCHING or (data in overrides and key and key not in SOURCES)
        else:
            stays = group in ("data", "task", "experiment", "model")
        if stays or override.startswith("trainer.precision="):
            kept.append(override)
    return kept


def run_config(run: Path) -> Any:
    """Returns the config of a run as it was resolved when the run began; that of an older run as
    far as it can be resolved here."""
    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/config.yaml: was it made by train.py?")
    kept = kept_config(run)
    if kept is None:
        cfg: Any = OmegaConf.load(path)
        kept = {part: resolved(cfg[part]) for part in PARTS if part in cfg}
    return OmegaConf.create(kept)
