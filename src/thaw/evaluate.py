"""A finished run and any data set give metrics: `python -m thaw.evaluate run=<dir> data=...`."""

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thaw.cli.compose import compose, exit_clearly
from thaw.cli.conf import config_dir_of
from thaw.cli.finished_run import finished, refuse_code, refuse_reader, require_same
from thaw.cli.kept_config import restore, run_overrides
from thaw.cli.overrides import key_of, read_arguments
from thaw.cli.secrets import require_whole
from thaw.errors import ThawError
from thaw.report.sections import TestResults

KNOWN = {"run": None, "split": "test", "output": "", "trust": ""}
USAGE = """usage: python -m thaw.evaluate run=<run directory> [split=test] [output=<file>.json]
       [data=<name>] [data.KEY=VALUE ...] [trainer.KEY=VALUE ...]
       [--config-dir <directory of your own configs>] [trust=<module of your own>]
Without data= the run's own data is taken; with the same data= as the run's, its columns are. What
was measured is printed, and written where output= says. run= is also the directory of a sweep: the
probabilities of its finished runs are averaged, if their labels agree."""


def run_test(trainer: Any, task: Any, data: Any) -> TestResults:
    """Tests a task and returns its results; call it on every process."""
    trainer.test(task, datamodule=data, verbose=False)
    logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("test/")}
    found = task.test_results()
    return dataclasses.replace(found, metrics=logged | found.metrics)


def require_same_tokens(models: Sequence[Path]) -> None:
    """Raises ThawError unless models read the same tokens, which a batch has for all of them."""
    from transformers import AutoTokenizer

    first, *rest = (AutoTokenizer.from_pretrained(m, trust_remote_code=False) for m in models)
    for tokenizer, model in zip(rest, models[1:], strict=True):
        if tokenizer.get_vocab() != first.get_vocab():
            raise ThawError(
                f"{models[0]} and {model} have different tokenizers: evaluate them one by one; "
                "python -m thaw.predict averages them."
            )


def main(argv: list[str]) -> dict[str, float]:
    """Evaluates `model/` of a run; the probabilities of several models, those of a sweep's runs,
    are averaged. Returns what was printed: metrics prefixed `test/`, `val/` or `train/`. Raises
    ThawError if the run is not finished, an option does not exist, or the data does not fit."""
    given, typed = read_arguments(config_dir_of(argv)[1], KNOWN, USAGE, groups=("data", "trainer"))
    if not Path(given["run"]).is_dir():
        raise ThawError(f"run={given['run']}: no such directory.")
    found = finished(given["run"], given["trust"])
    require_same(found)
    model = found[0].model
    run = model.parent
    other_data = any(key_of(override) == "data" for override in typed)
    if not other_data and (other := next((f for f in found if f.files != found[0].files), None)):
        raise ThawError(
            f"{run} and {other.model.parent} have different data, such as other folds, and one may "
            "have been trained on what the other tests on: name data that all of them are measured "
            "on, data=files data.test=<file>."
        )
    kept = run_overrides(run, next((o for o in reversed(typed) if key_of(o) == "data"), None))
    require_whole(kept, typed, run)
    kept.append("trainer.default_root_dir=null")
    composed = compose(kept)
    began = restore(composed.copy(), run, kept, [])
    for ran in (composed, began):
        refuse_code(ran, run, ("data", "task", "trainer"), given["trust"])
    cfg = restore(compose([*kept, *typed]), run, kept, typed)
    if not any(key_of(override) == "data.reader" for override in typed):
        refuse_reader(began.data.get("reader"), run, given["trust"])

    import lightning.pytorch  # noqa: F401  # first: it sets the levels of its loggers
    from hydra.utils import instantiate

    from thaw.cli.check import check, find_on_hub, leave_unread
    from thaw.report.figures import metrics_table
    from thaw.storage.files import read_json, write_atomic
    from thaw.training.libraries import silence_libraries

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    silence_libraries()
    leave_unread(cfg, typed)
    check(cfg, ("data", "task"))
    find_on_hub(cfg)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = instantiate(cfg.trainer, callbacks=[], _convert_="all", **off)
    trained = read_json(model / "config.json")
    split = given["split"]
    options = {"tokenizer": model, "only": split, "trained": trained}
    data = instantiate(cfg.data, seed=0, _convert_="all", **options)
    if split not in data.sources:
        raise ThawError(f"split={split}: expected one of {', '.join(data.sources)}.")
    data.setup("test")
    options = {"_convert_": "all", **data.task_kwargs()}
    task, *others = (instantiate(cfg.task, checkpoint=f.model, **options) for f in found)
    for loaded, one in zip((task, *others), found, strict=True):
        loaded.read_export(one.model)
    if others:
        require_same_tokens([f.model for f in found])
        task.average_with(others)
    metrics = run_test(trainer, task, data).metrics
    part = "val/" if split == "validation" else f"{split}/"
    metrics = {k.replace("test/", part, 1): v for k, v in metrics.items()}
    if trainer.is_global_zero:
        metrics_table(metrics)
        if given["output"]:
            write_atomic(Path(given["output"]), json.dumps(metrics, indent=2) + "\n")
    return metrics


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
