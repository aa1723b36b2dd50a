"""Checks a quantized export against the run's own predictions of its test split."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from thaw.cli.finished_run import Finished
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.encoder.onnx.graph import quantize
from thaw.errors import ThawError
from thaw.model import Model
from thaw.storage.files import write_atomic
from thaw.tasks.predictors.texts import column_names

POINTS = 0.3  # of F1 that quantizing may cost, by default


@dataclass(frozen=True)
class Check:
    """A quantized graph beside torch, on the texts of the test."""

    # F1 of torch, as the run's test has it: of the second of two labels, the mean over labels,
    # or of entities.
    score: float
    int8: float  # the same of the quantized graph
    changed: int  # number of texts whose prediction is another one
    texts: int  # number of texts
    # Points of F1 that one scale for all inputs of a layer cost, where that was too much; the
    # feed-forward layers then have one for each 32.
    one_scale: float | None = None

    @property
    def loss(self) -> float:
        """Points of F1 that quantizing cost."""
        return 100 * (self.score - self.int8)

    @property
    def limit(self) -> float:
        """Points of F1 that it may cost by default: 0.3, or the share of one text."""
        return max(POINTS, 100 / self.texts)

    def __str__(self) -> str:
        blocks = ""
        if self.one_scale is not None:
            blocks = (
                "; the inputs of feed-forward layers have a scale for each 32, which is slower: "
                f"with one for all, F1 fell by {self.one_scale:.2f} points"
            )
        return (
            f"F1 {self.int8:.4f}, torch's {self.score:.4f}, on {self.texts} texts of the test; "
            f"{self.changed} predictions change{blocks}"
        )

    def accepted(self, points: float | None) -> bool:
        """Returns whether F1 falls by at most `points`; by default by `limit`, or by one text."""
        if points is None:
            return self.loss <= self.limit or self.changed <= 1
        return self.loss <= points


def quantize_checked(run: Path, found: Finished, points: float | None) -> Check:
    """Quantizes an exported graph, predicts the test split with it, and keeps the scores in
    `int8.json`. Where F1 falls by too much, the feed-forward layers are quantized in blocks.

    Raises:
        ThawError: there was no test, or F1 falls by too much both times, see `Check.accepted`; the
            quantized graph is then deleted.
    """
    directory = found.model / "onnx"
    try:
        quantize(directory)
        check = compared(run, found)
        if not check.accepted(points):
            loss = check.loss
            quantize(directory, in_blocks=True)
            check = replace(compared(run, found), one_scale=loss)
            if not check.accepted(points):
                raise ThawError(refusal(check, loss, points))
    except BaseException:  # Ctrl-C too: what was not checked does not stay
        (directory / "model_int8.onnx").unlink(missing_ok=True)
        raise
    write_atomic(directory / "int8.json", json.dumps(asdict(check), indent=2) + "\n")
    return check


def refusal(check: Check, one_scale: float, points: float | None) -> str:
    """Returns why neither of two quantized graphs is kept, and what accepts the better one."""
    limit = check.limit if points is None else points
    few = f", which is one of {check.texts} texts" * (points is None and limit > POINTS)
    least = math.ceil(10 * min(check.loss, one_scale)) / 10
    return (
        f"quantize=int8: F1 falls by {check.loss:.2f} points; expected {limit:.3g} at most{few}. "
        f"{check}. Nothing quantized was kept. tolerance={least:g} accepts the smaller loss."
    )


def require_predictions(run: Path, found: Finished) -> Path:
    """Returns the run's predictions of its test; raises ThawError if it has none, or none that F1
    is of."""
    if found.task.startswith("thaw.tasks.regression."):
        raise ThawError(
            "quantize=int8 is measured by F1, which task=regression has none of. "
            "tolerance=null quantizes without measuring."
        )
    path = run / ("predictions.jsonl" if tags_words(found) else "predictions.parquet")
    if not path.is_file():
        raise ThawError(
            f"quantize=int8: {run} has no {path.name} to measure the loss on, as it was not "
            "tested. tolerance=null quantizes without measuring it; train with data.test=<file> to "
            "measure it."
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
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    return Check(scores[0], scores[1], changed, len(rows))


def label_score(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """Returns F1 of labels, or of lists of labels, as the task's test computes it."""
    import torch

    from thaw.tasks.metrics.classification import classification_metrics

    several = any(isinstance(names, list) for names in gold)
    number = {name: i for i, name in enumerate(labels)}
    metric = classification_metrics(labels, several, ["f1"])["f1"]
    sides = (
        [[int(n in given) for n in labels] if several else number[given] for given in side]
        for side in (predicted, gold)
    )
    metric.update(*map(torch.tensor, sides))
    return float(metric.compute())


def entity_score(
    predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], labels: Sequence[str]
) -> float:
    """Returns F1 of whole entities, as the task's test computes it."""
    from thaw.tasks.metrics.entities import EntityF1

    metric = EntityF1([name[2:] for name in labels if name.startswith("B-")])
    metric.update(predicted, gold)
    return float(metric.compute()["f1"])
