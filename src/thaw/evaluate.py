"""A finished run and any data set give metrics: `python -m thaw.evaluate run=<dir> data=...`."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thaw.cli import compose, config_dir_of, exit_clearly, near, show_usage
from thaw.errors import ThawError
from thaw.redact import require_whole
from thaw.sources import checked_model

USAGE = """usage: python -m thaw.evaluate run=<run directory> [split=test] [output=<file>.json]
       [data=<name>] [data.KEY=VALUE ...] [trainer.KEY=VALUE ...]
       [--config-dir <directory of your own configs>] [trust=<module of your own>]
Without data= the run's own data is taken; with the same data= as the run's, its columns are. What
was measured is printed, and written where output= says."""

BATCHING = ("max_tokens", "eval_batch_size", "encoding")  # of a run's data
PLACES = ("path", "config", "revision", "train", "validation", "test", "cut_from", "folds", "fold",
          "shots", "steps")  # fmt: skip
OWN = {"data": "thaw.data.", "task": "thaw.tasks.", "trainer": "thaw.trainer."}


def evaluate(trainer: Any, task: Any, data: Any) -> dict[str, float]:
    """Metrics of the test split, each prefixed `test/`."""
    trainer.test(task, datamodule=data, verbose=False)
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("test/")}


def main(argv: list[str]) -> dict[str, float]:
    """Evaluates `model/` of a run.

    Args:
        argv: words of the command line, see `USAGE`.

    Returns:
        What was printed: metrics prefixed `test/`, `val/` or `train/`.

    Raises:
        ThawError: the run is not finished, an option does not exist, or the data does not fit.
    """
    show_usage(argv, USAGE)
    own = {"split": "test", "output": "", "trust": ""}
    rest = []
    run = None
    for word in config_dir_of(argv)[1]:
        key, _, value = word.partition("=")
        if key == "run":
            run = Path(value)
        elif key in own:
            own[key] = value
        elif key.split(".")[0].lstrip("+") in ("data", "trainer"):
            rest.append(word)
        else:
            hint = near(key, [*own, "run", "data", "trainer"])
            raise ThawError(f"there is no option {key}.{hint}\n{USAGE}")
    if run is None:
        raise ThawError(f"run=<run directory> must be given.\n{USAGE}")
    model = finished(run)
    kept = run_overrides(run, next((w for w in rest[::-1] if w.startswith("data=")), None))
    require_whole(kept, rest, run)
    kept.append("trainer.default_root_dir=null")
    refuse_code(compose(kept), run, ("data", "task", "trainer"), own["trust"])
    cfg = compose([*kept, *rest])

    from hydra.utils import instantiate
    from rich.console import Console

    from thaw.config import GIVEN, check, leave_unread
    from thaw.files import write_whole
    from thaw.report import metrics_table
    from thaw.train import quieten

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quieten()
    leave_unread(cfg, rest)
    check(cfg, GIVEN, parts=("data", "task"))
    trainer = instantiate(
        cfg.trainer, logger=False, callbacks=[], enable_checkpointing=False,
        enable_progress_bar=False, _convert_="all",
    )  # fmt: skip
    data = instantiate(cfg.data, tokenizer=model, seed=0, _convert_="all")
    if own["split"] not in data.sources:
        raise ThawError(f"split={own['split']}: expected one of {', '.join(data.sources)}.")
    data.read(only=own["split"], trained=json.loads((model / "config.json").read_text("utf-8")))
    data.rows["test"], data.encoded["test"] = data.rows[own["split"]], data.encoded[own["split"]]
    task = instantiate(cfg.task, checkpoint=model, _convert_="all", **data.for_task())
    metrics = evaluate(trainer, task, data) | task.test_results()["metrics"]
    part = "val/" if own["split"] == "validation" else f"{own['split']}/"
    metrics = {k.replace("test/", part, 1): v for k, v in metrics.items()}
    if trainer.is_global_zero:
        metrics_table(metrics, Console())
        if own["output"]:
            write_whole(Path(own["output"]), json.dumps(metrics, indent=2) + "\n")
    return metrics


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
    from thaw.config import plain

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
    words = [str(word) for word in OmegaConf.load(path)]
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


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
