"""What a finished run leaves in its directory."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.export import export, model_card, write_whole
from thaw.report import confusion_figure, learning_curve_figure, metrics_table

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
        data: with the splits' texts.
        cfg: the composed config, plain.
        metrics: flat names to numbers.
        results: of `task.test_results()`, if there was a test.
    """
    if results is not None:
        for name, values in results["per_class"].items():
            metrics |= {
                f"test/{name}/{label}": v for label, v in zip(data.labels, values, strict=True)
            }
        write_predictions(run_dir / "predictions.parquet", data, results)
        if results["confusion"] is not None:
            confusion_figure(results["confusion"], data.labels, run_dir / "confusion.png")
    if (run_dir / "metrics.csv").exists():
        learning_curve_figure(run_dir / "metrics.csv", run_dir / "learning_curve.png")
    sizes = {split: len(texts) for split, texts in data.texts.items()}
    card = model_card(cfg, metrics, data.labels, sizes)
    export(task.model, data.tokenizer, card, run_dir / "model")
    # Last: its presence says that the run is finished.
    write_whole(run_dir / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    metrics_table(metrics)
    print(f"run directory: {run_dir}")


def write_predictions(path: Path, data: Any, results: Mapping[str, Any]) -> None:
    """Writes text, label, prediction and the probability of each class, one row a test text."""
    from thaw.data.write import RowWriter

    texts = data.texts["test"]
    with RowWriter(path) as writer:
        for row, p in zip(results["rows"], results["probabilities"].tolist(), strict=True):
            columns = dict(zip(data.columns.text, texts.texts[row], strict=True))
            columns = {
                f"text_{k}" if k in ("label", "prediction") else k: v for k, v in columns.items()
            }
            writer.write(
                columns | {"label": texts.labels[row]} | predicted(p, data.labels, data.multi_label)
            )


def predicted(probabilities: list[float], labels: list[str], multi_label: bool) -> dict[str, Any]:
    """A row's prediction with label names, and the probability of each class."""
    if multi_label:
        prediction: Any = [n for n, p in zip(labels, probabilities, strict=True) if p > 0.5]
    else:
        prediction = labels[max(range(len(labels)), key=probabilities.__getitem__)]
    named = {f"probability/{n}": p for n, p in zip(labels, probabilities, strict=True)}
    return {"prediction": prediction} | named
