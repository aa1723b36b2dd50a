"""A finished run and any data set give metrics: `python -m thaw.evaluate run=<dir> data=...`."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thaw.cli import compose, config_dir_of, exit_clearly
from thaw.errors import ThawError
from thaw.redact import require_whole
from thaw.sources import checked_model

USAGE = """usage: python -m thaw.evaluate run=<run directory> [split=test] [output=metrics.json]
       [data=<name>] [data.KEY=VALUE ...] [trainer.KEY=VALUE ...]
       [--config-dir <directory of your own configs>] [trust=<module of your own>]
Without data= the run's own data is taken."""

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
        What was printed: metrics prefixed `test/`.

    Raises:
        ThawError: the run is not finished, an option does not exist, or the data does not fit.
    """
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
            raise ThawError(f"there is no option {key}.\n{USAGE}")
    if run is None:
        raise ThawError(f"run=<run directory> must be given.\n{USAGE}")
    model = finished(run)
    kept = run_overrides(run, new_data=any(w.startswith("data=") for w in rest))
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


def run_overrides(run: Path, new_data: bool) -> list[str]:
    """The overrides that a run was started with, those that matter to evaluation.

    Args:
        run: the run directory.
        new_data: leave the run's own data out.
    """
    from omegaconf import OmegaConf

    path = run / ".hydra" / "overrides.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/overrides.yaml: was it made by train.py?")
    groups = ("data", "task", "experiment", "model")
    words = [str(word) for word in OmegaConf.load(path)]
    kept = [w for w in words if w.lstrip("+~").split("=")[0].split(".")[0] in groups]
    kept += [w for w in words if w.startswith("trainer.precision=")]
    # Another data set keeps the run's batching, and leaves its columns and files.
    sizes = ("data.max_tokens", "data.eval_batch_size", "data.encoding")
    return [w for w in kept if not new_data or not w.startswith("data") or w.startswith(sizes)]


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
