"""Reads how a finished run was made, from its directory. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.cli.kept_config import PARTS, kept_config, resolved
from thaw.cli.overrides import key_of
from thaw.errors import ThawError
from thaw.storage.checkpoints import checked_model

BATCHING = ("max_tokens", "eval_batch_size", "encoding")  # options of data that other data keeps
SOURCES = (  # options of data that name what is read
    *("path", "config", "revision", "train", "validation", "test"),
    *("cut_from", "folds", "fold", "shots", "steps"),
)
OWN = {"data": "thaw.data.", "task": "thaw.tasks.", "trainer": "thaw.training.trainer."}


def finished_model(run: Path) -> Path:
    """Returns the model directory of a finished run.

    Raises:
        ThawError: there is no such run, or it did not finish.
    """
    if not run.is_dir():
        raise ThawError(f"run={run}: no such directory.")
    if not (run / "model" / "config.json").exists():
        inside = ", ".join(sorted(p.name for p in run.iterdir())) or "nothing"
        raise ThawError(f"run={run} has no model/, so no run finished there; it holds {inside}.")
    return checked_model(run / "model")


def refuse_code(cfg: Any, run: Path, parts: Sequence[str], trust: str) -> None:
    """Raises ThawError where a run directory, which may come from anywhere, names code to run.

    Args:
        cfg: config composed from what the run holds.
        run: run directory.
        parts: keys of the config that a class of thaw makes, and nothing else.
        trust: module that the user trusts too, "" for none.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from thaw.cli.check import plain

    def named(node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict):
            if "_target_" in node:
                yield path, str(node["_target_"])
            node = node.values()
        elif not isinstance(node, list):
            return
        for value in node:
            yield from named(value, f"within {path}")

    for part in parts:
        known = (OWN[part], f"{trust}.") if trust else (OWN[part],)
        try:
            node = plain(cfg[part])
        except OmegaConfBaseException:  # such as a variable that is not set here
            node = OmegaConf.to_container(cfg[part], resolve=False)
        for path, target in named(node, part):
            if path != part or not target.startswith(known):
                raise ThawError(
                    f"{run} names code to run, {target} ({path}): it may come from anywhere, so "
                    f"thaw runs nothing but its own {OWN[part]}* there. A module of your own is "
                    f"named with trust={target.split('.')[0]}."
                )


def refuse_reader(
    reader: str | None, run: Path, trust: str, given: Mapping[str, str] | None = None
) -> None:
    """Raises ThawError where a run directory names a function that reads files.

    Args:
        reader: what the run directory names.
        run: the run directory.
        trust: a module that the user has named.
        given: the options of a prediction, which may name a reader or a format instead.
    """
    own = given is not None and (given["reader"] or given["format"] not in ("", "auto"))
    if reader is None or own or (trust and f"{reader}.".startswith(f"{trust}.")):
        return
    way = (
        "" if given is None else " Or name the input's format, format=..., which reads without it."
    )
    raise ThawError(
        f"{run} names code to read files with, data.reader={reader}: it may come from anywhere. "
        f"trust={reader.rpartition('.')[0]} runs it.{way}"
    )


def run_overrides(run: Path, data: str | None) -> list[str]:
    """Returns those overrides of a run that matter to its evaluation.

    Args:
        run: run directory.
        data: `data=<name>` if other data than the run's is evaluated. Its batching is then kept,
            and its columns too if the run was started with the same `data=<name>`.
    """
    from omegaconf import OmegaConf

    path = run / ".hydra" / "overrides.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/overrides.yaml: was it made by train.py?")
    # As typed: a variable of the run's machine may not be set here.
    loaded: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    overrides = [str(override) for override in loaded]
    kept = []
    for override in overrides:
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
    from omegaconf import DictConfig, OmegaConf

    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/config.yaml: was it made by train.py?")
    kept = kept_config(run)
    if kept is None:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig)
        kept = {part: resolved(cfg[part]) for part in PARTS if part in cfg}
    return OmegaConf.create(kept)
