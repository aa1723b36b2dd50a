"""What a finished run leaves in its directory."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.export import export, model_card
from thaw.files import write_whole
from thaw.report import learning_curve_figure, metrics_table

log = logging.getLogger(__name__)


def write_run(
    run_dir: Path,
    task: Any,
    data: Any,
    cfg: Mapping[str, Any],
    metrics: dict[str, float],
    results: Mapping[str, Any] | None,
) -> None:
    """Writes metrics, predictions, figures and `model/`, and prints the closing table.

    Args:
        run_dir: of the run.
        task: with the weights to export.
        data: the datamodule.
        cfg: the composed config, plain.
        metrics: flat names to numbers.
        results: of `task.test_results()`, if there was a test.
    """
    if results is not None:
        metrics |= results["metrics"]
    metrics |= task.finish(run_dir)
    card = model_card(
        cfg, metrics, task.library, task.pipeline, task.pipeline_options, data.labels, data.sizes()
    )
    # First: what would be missed most.
    export(task.model, data.tokenizer, card, run_dir / "model", task.complete_export)
    if results is not None:
        task.write_test(run_dir, data, results)
    if (run_dir / "metrics.csv").exists():
        learning_curve_figure(run_dir / "metrics.csv", run_dir / "learning_curve.png")
    # Last: its presence says that the run is finished.
    write_whole(run_dir / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    metrics_table(metrics)
    print(f"run directory: {run_dir}")
