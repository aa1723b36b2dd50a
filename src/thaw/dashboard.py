"""Makes a W&B workspace for the runs: `python -m thaw.dashboard entity=<team or user>`."""

import sys
from typing import Any

from thaw.cli.compose import exit_clearly
from thaw.cli.overrides import read_arguments
from thaw.errors import ThawError

USAGE = "usage: python -m thaw.dashboard entity=<team or user> [project=thaw] [name=thaw]"
SCORES = ("f1", "accuracy", "precision", "recall")


def workspace(entity: str, project: str, name: str) -> Any:
    """Returns a workspace, not saved yet, with scores, training, speed and reports of a project's
    runs; raises ThawError if wandb-workspaces is not installed."""
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ThawError(
            "the dashboard needs wandb-workspaces: pip install -e '.[dashboard]'."
        ) from None
    step = "trainer/global_step"

    def lines(title: str, *keys: str, regex: str | None = None) -> Any:
        return wr.LinePlot(title=title, x=step, y=list(keys), metric_regex=regex)

    scores = [wr.BarPlot(title=f"test {s}", metrics=[f"test/{s}"]) for s in SCORES]
    tables = ("errors", "predictions", "per label", "entities", "pretraining", "probes")
    panels = {
        "Scores": [*scores, *(lines(f"validation {s}", f"val/{s}") for s in SCORES)],
        "Training": [
            lines("loss", "train/loss"),
            lines("validation loss", "val/loss"),
            lines("perplexity", "val/perplexity"),
            lines("learning rate", regex="lr/.*"),
        ],
        "Speed": [
            lines("tokens a second", "train/tokens_per_second"),
            lines("peak memory, MiB", "train/memory_mib"),
            wr.BarPlot(title="seconds of training", metrics=["train_seconds"]),
            wr.BarPlot(title="samples a second", metrics=["samples_per_second"]),
        ],
        "Found": [
            wr.MediaBrowser(title="report", media_keys=["report"]),
            *(wr.WeavePanelSummaryTable(table_name=key) for key in tables),
        ],
    }
    grouped = ws.RunsetSettings(groupby=[ws.Metric("Group")])
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[ws.Section(name=n, is_open=True, panels=p) for n, p in panels.items()],
        runset_settings=grouped,
        auto_generate_panels=True,  # for charts of W&B's own types, such as the confusion matrix
    )


def main(argv: list[str]) -> None:
    """Saves the workspace and prints its address; raises ThawError if there is no API key."""
    from thaw.training.loggers import has_key

    options, _ = read_arguments(argv, {"entity": None, "project": "thaw", "name": "thaw"}, USAGE)
    made = workspace(options["entity"], options["project"], options["name"])
    if not has_key():
        raise ThawError(
            "W&B stores workspaces, so this needs an account: `wandb login`, or set WANDB_API_KEY. "
            "Without an account, every run and every sweep still has its report.html."
        )
    print(made.save().url)


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
