"""Prints parts and parameters of a model: `python -m thaw.parameters model=... freeze=...`."""

import sys
from typing import Any

from thaw.cli.compose import compose, exit_clearly
from thaw.cli.conf import config_dir_of
from thaw.cli.overrides import show_usage

USAGE = """usage: python -m thaw.parameters [GROUP=CHOICE ...] [KEY=VALUE ...] [--config-dir <dir>]
The overrides are those of train.py."""


def frozen_task(overrides: list[str]) -> Any:
    """Returns a task, frozen as it would train, without reading data; raises ThawError if an option
    is wrong, or the checkpoint does not fit the task."""
    from hydra.utils import instantiate

    from thaw.cli.check import check, leave_unread, plain
    from thaw.cli.schema import definition
    from thaw.storage.checkpoints import fetch_model
    from thaw.training.libraries import silence_libraries

    silence_libraries()
    cfg = compose([*overrides, "run_dir=."])
    leave_unread(cfg)
    check(cfg, ("model", "data", "task", "freeze"))
    checkpoint = fetch_model(plain(cfg.model).get("checkpoint"), cfg.model.revision)
    takes = definition(cfg.task._target_)["properties"]
    # The head's size follows from the labels: two where only the data would say.
    labels = [str(name) for name in cfg.data.get("labels") or ("0", "1")]
    given: dict[str, Any] = {"labels": labels} if "labels" in takes else {}
    if cfg.task.get("class_weights") is not None:  # the data would count the classes
        given["class_weights"] = None
    freeze = instantiate(cfg.freeze, _convert_="all")
    return instantiate(cfg.task, checkpoint=checkpoint, freeze=freeze, _convert_="all", **given)


def main(overrides: list[str]) -> None:
    """Prints the table of parts, then name, shape, part and state of each parameter."""
    from thaw.data.summary import aligned
    from thaw.encoder.blocks import parameter_table, parts_or_halves

    task = frozen_task(config_dir_of(overrides)[1])
    parts = parts_or_halves(task.model)
    print(f"{parameter_table(task)}\n")
    lines = [("parameter", "shape", "part", "trains")]
    for name, p in task.model.named_parameters():
        shape = " x ".join(map(str, p.shape))
        lines.append((name, shape, parts[name], "trained" if p.requires_grad else "frozen"))
    print("\n".join(aligned(lines, right=False)))


if __name__ == "__main__":
    with exit_clearly():
        show_usage(sys.argv[1:], USAGE)
        main(sys.argv[1:])
