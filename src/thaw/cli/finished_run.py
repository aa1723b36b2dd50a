"""What a finished run's directory says of how it was made. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thaw.cli.kept_config import PARTS, kept_config, resolved
from thaw.errors import ThawError
from thaw.storage.checkpoints import checked_model

BATCHING = ("max_tokens", "eval_batch_size", "encoding")  # of a run's data
PLACES = (
    "path",
    "config",
    "revision",
    "train",
    "validation",
    "test",
    "cut_from",
    "folds",
    "fold",
    "shots",
    "steps",
)
OWN = {"data": "thaw.data.", "task": "thaw.tasks.", "trainer": "thaw.training.trainer."}


def finished(run: Path) -> Path:
    """The model directory of a finished run.

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
        cfg: composed from what the run holds.
        run: its directory.
        parts: of the config, each made by a class of thaw and by nothing else.
        trust: a module besides, that the user has named.
    """
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
        for path, target in named(plain(cfg[part]), part):
            if path != part or not target.startswith(known):
                raise ThawError(
                    f"{run} names code to run, {target} ({path}): it may come from anywhere, so "
                    f"thaw runs nothing but its own {OWN[part]}* there. A module of your own is "
                    f"named with trust={target.split('.')[0]}."
                )


def run_overrides(run: Path, data: str | None) -> list[str]:
    """The overrides that a run was started with, those that matter to evaluation.

    Args:
        run: the run directory.
        data: other data than the run's, `data=<name>`: of the run's own, its batching stays, and
            where it is of the same kind its columns, too.
    """
    from omegaconf import OmegaConf

    path = run / ".hydra" / "overrides.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/overrides.yaml: was it made by train.py?")
    # As typed: a variable of the run's machine may not be set here.
    loaded: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    words = [str(word) for word in loaded]
    kept = []
    for word in words:
        group, _, key = word.lstrip("+~").partition("=")[0].partition(".")
        if group == "data" and data is not None:
            stays = key in BATCHING or (data in words and key and key not in PLACES)
        else:
            stays = group in ("data", "task", "experiment", "model")
        if stays or word.startswith("trainer.precision="):
            kept.append(word)
    return kept


def run_config(run: Path) -> Any:
    """The config of a run: as it was resolved when the run began, or, of an older run, as far as it
    can be resolved here."""
    from omegaconf import OmegaConf

    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/config.yaml: was it made by train.py?")
    kept = kept_config(run)
    if kept is None:
        cfg = OmegaConf.load(path)
        kept = {part: resolved(cfg[part]) for part in PARTS if part in cfg}
    return OmegaConf.create(kept)
