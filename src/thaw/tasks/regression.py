"""Regression: a number for a whole text, or for a pair of texts.

Shapes: B batch, N texts.
"""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, PearsonCorrCoef
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.regression import SpearmanCorrCoef
from torchmetrics.utilities import dim_zero_cat
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from thaw.cli.watched_metric import NUMBERS
from thaw.encoder.first_token import first_token_only
from thaw.encoder.load import load_fresh
from thaw.errors import ThawError
from thaw.report.sections import ERRORS, Section, Table, TestResults, shortened
from thaw.tasks.losses import labels_and_inputs
from thaw.tasks.predictors.regression import RegressionPredictor
from thaw.tasks.text_task import Pooling, TextTask


class Regression(TextTask):
    """One output on the encoder's pooled output, trained on standardised numbers.

    The exported model predicts in the unit of the labels: mean and standard deviation become part
    of its last layer.

    Args:
        checkpoint: model directory; a head of one output in it predicts in the unit of the labels.
        mean: mean of the numbers of train.
        std: their standard deviation.
        loss: mse, the mean squared error, or mae, the mean absolute error, of standardised numbers.
        window_pooling: how the outputs for a text's windows become the text's: mean or maximum.
        windows_at_once: most windows whose states are in memory together.
        window_stride: number of tokens that two windows share; None: texts are cut.
        options: options of `OptimizedModule`.

    Raises:
        ThawError: the architecture's head has no single last layer.
    """

    predictor = RegressionPredictor
    metrics = NUMBERS

    def __init__(
        self,
        checkpoint: str | Path,
        mean: float = 0.0,
        std: float = 1.0,
        loss: Literal["mse", "mae"] = "mse",
        window_pooling: Pooling = "mean",
        windows_at_once: PositiveInt = 32,
        window_stride: int | None = None,
        **options: Any,
    ) -> None:
        one = {"num_labels": 1, "problem_type": "regression"}
        model, fresh = load_fresh(AutoModelForSequenceClassification, checkpoint, **one)
        model.config.label_mean, model.config.label_std = mean, std
        name, layer = last_layer(model)
        if f"{name}.weight" not in fresh:
            rescale(layer, 1 / std, -mean / std)
        first_token_only(model)  # replaces a block, so before blocks are frozen
        super().__init__(model, **options)
        self.mean, self.std = mean, std
        self.error = {"mse": F.mse_loss, "mae": F.l1_loss}[loss]
        self.read_windows(window_stride, window_pooling, windows_at_once)
        self.scores = MetricCollection(
            {
                "rmse": MeanSquaredError(squared=False),
                "mae": MeanAbsoluteError(),
                "pearson": PearsonCorrCoef(),
                "spearman": Spearman(),
            }
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the mean error of standardised numbers: logits (B, 1) and labels (B,)."""
        return self.error(logits.squeeze(-1).float(), labels)

    def mean_logits(self, _: Any, args: Any, inputs: dict[str, Any], own: Tensor) -> Tensor:
        return torch.stack([own, *(other(**inputs) for other in self.others)]).mean(0)

    def evaluate(self, batch: dict[str, Tensor]) -> Tensor:
        """Returns the outputs (B,) of a batch; adds its loss to the mean and its scores."""
        labels, inputs = labels_and_inputs(batch)
        logits = self(**inputs)
        self.eval_loss.update(self.loss(logits, labels), len(labels))
        found = logits.squeeze(-1).float()
        self.scores.update(found * self.std, labels * self.std)  # no score depends on the mean
        return found

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.test_outputs.append((batch["row"].cpu(), self.evaluate(batch).cpu()))

    def test_results(self) -> TestResults:
        """Returns the predicted number of each text of the test, in the unit of the labels."""
        found = self.outputs_by_row()
        return TestResults({}, {row: n * self.std + self.mean for row, n in found.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["label_scale"] = {"mean": self.mean, "std": self.std}

    def gather_weights(self) -> None:
        """Gathers the whole model, which predicts in the unit of the labels from now on."""
        super().gather_weights()
        rescale(last_layer(self.model)[1], self.std, self.mean)
        self.mean, self.std = 0.0, 1.0

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes `predictions.parquet`, one row a text, and `scatter.png`; returns the scatter of
        predictions against labels, and the largest errors."""
        from thaw.report.figures import image, scatter

        self.write_predictions(run_dir, data, test, lambda number: {"prediction": number})
        texts = data.rows["test"]
        points = [(texts.labels[row], number) for row, number in test.outputs.items()]
        errors = ((abs(n - texts.labels[row]), -row) for row, n in test.outputs.items())
        rows = [
            [*map(shortened, texts.texts[-row]), texts.labels[-row], test.outputs[-row], error]
            for error, row in heapq.nlargest(ERRORS, errors)
        ]
        names = [*data.columns.text, "label", "prediction", "error"]
        note = f"The largest of {len(points):,} texts first."
        return [
            image("scatter", {"predictions against labels": scatter(points)}, (4.6, 4)),
            Table("errors", names, rows, note, examples=True),
        ]


def last_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Returns the layer that makes a model's one output, and its name; raises ThawError if there is
    none, or several could be."""
    found: Sequence[tuple[str, nn.Linear]] = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and module.bias is not None
    ]
    if len(found) != 1:
        raise ThawError(
            f"task=regression: the head of {model.config.model_type} has {len(found)} layers of "
            "one output with a bias, and needs one: name another model."
        )
    return found[0]


def rescale(layer: nn.Linear, scale: float, shift: float) -> None:
    """Makes a layer return `scale` times its output plus `shift`."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale).add_(shift)


class Spearman(SpearmanCorrCoef):
    """Spearman's rank correlation; NaN where all predictions or all labels are equal.

    torchmetrics 1.9 sums ranks in int32, which 100,000 equal numbers exceed, and returns 0 for NaN.
    """

    def compute(self) -> Tensor:
        """Returns the correlation, computed in float64."""
        ranks = [average_ranks(dim_zero_cat(part).cpu()) for part in (self.preds, self.target)]
        return pearson_corrcoef(*ranks).float().to(self.device)


def average_ranks(numbers: Tensor) -> Tensor:
    """Returns the rank of each number (N,) in float64, of equal ones their mean rank."""
    _, place, counts = numbers.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[place]
