"""Checks a quantized export against the run's own predictions of its test split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from thaw.cli.finished_run import Finished
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.errors import ThawError
from thaw.model import Model
from thaw.storage.files import write_atomic
from thaw.tasks.predictors.texts import column_names


@dataclass(frozen=True)
class Check:
    """A quantized graph beside torch, on the texts of the test."""

    # F1 of torch, as the run's test has it: of the second of two labels, the mean over labels,
    # or of entities.
    score: float
    int8: float  # the same of the quantized graph
    changed: float  # share of the texts whose prediction is another one
    texts: int  # number of texts

    @property
    def loss(self) -> float:
        """Points of F1 that quantizing cost."""
        return 100 * (self.score - self.int8)


def check_quantized(run: Path, found: Finished, points: float) -> Check:
    """Predicts the test split with the quantized graph, and keeps the scores in `int8.json`.

    Raises:
        ThawError: there was no test, or F1 falls by more than `points`; the quantized graph is then
            deleted.
    """
    directory = found.model / "onnx"
    try:
        check = compared(run, found)
        if check.loss > points:
            raise ThawError(
                f"quantize=int8: F1 falls by {check.loss:.2f} points, from {check.score:.4f} to "
                f"{check.int8:.4f}; expected {points:g} at most. Nothing quantized was kept. "
                "tolerance=<points> accepts a larger loss."
            )
    except BaseException:  # Ctrl-C too: what was not checked does not stay
        (directory / "model_int8.onnx").unlink(missing_ok=True)
        raise
    write_atomic(directory / "int8.json", json.dumps(asdict(check), indent=2) + "\n")
    return check


def require_predictions(run: Path, found: Finished) -> Path:
    """Returns the run's predictions of its test; raises ThawError if it has none, or none that F1
    is of."""
    if found.task.startswith("thaw.tasks.regression."):
        raise ThawError("quantize=int8 is measured by F1, which task=regression has none of.")
    path = run / ("predictions.jsonl" if tags_words(found) else "predictions.parquet")
    if not path.is_file():
        raise ThawError(
            f"quantize=int8: {run} has no {path.name} to measure the loss on; train with data.test="
        )
    return path


def tags_words(found: Finished) -> bool:
    """Returns whether a model is of task=ner."""
    return found.task.startswith("thaw.tasks.ner.")


def compared(run: Path, found: Finished) -> Check:
    """Returns the scores of both, see `check_quantized`."""
    rows = list(rows_of(require_predictions(run, found), Reading()))
    model = Model([found], engine="int8")
    if tags_words(found):
        gold, before = [r["gold"] for r in rows], [r["predicted"] for r in rows]
        tokens = ({"tokens": row["tokens"]} for row in rows)
        after = [row["predicted"] for row in model.predictor.predict(tokens, ["tokens"])]
        scores = [entity_score(tags, gold, model.labels) for tags in (before, after)]
    else:
        gold, before = [r["label"] for r in rows], [r["prediction"] for r in rows]
        columns = model.names()
        kept = column_names(columns)
        texts: Any = [[row[c] for c in kept] for row in rows]
        after = model.predict([t[0] for t in texts] if len(kept) == 1 else texts, progress=False)
        scores = [label_score(names, gold, model.labels) for names in (before, after)]
    changed = sum(a != b for a, b in zip(before, after, strict=True)) / len(rows)
    return Check(scores[0], scores[1], changed, len(rows))


def label_score(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """Returns F1 of the second of two labels, else its mean over labels; of lists of labels too."""
    if any(isinstance(names, list) for names in gold):
        binarizer = MultiLabelBinarizer(classes=list(labels)).fit([])
        sides = binarizer.transform(gold), binarizer.transform(predicted)
        return float(f1_score(*sides, average="macro", zero_division=0))
    if len(labels) == 2:
        return float(f1_score(gold, predicted, pos_label=labels[1], zero_division=0))
    options: Mapping[str, Any] = {"labels": list(labels), "average": "macro", "zero_division": 0}
    return float(f1_score(gold, predicted, **options))


def entity_score(
    predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], labels: Sequence[str]
) -> float:
    """Returns F1 of whole entities."""
    from thaw.tasks.metrics.entities import EntityF1

    metric = EntityF1([name[2:] for name in labels if name.startswith("B-")])
    metric.update(predicted, gold)
    return float(metric.compute()["f1"])
