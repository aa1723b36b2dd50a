"""A classifier that finds on validation how it decides: its temperature and its thresholds.

Shapes: B batch, N texts, C labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from thaw.errors import ThawError
from thaw.report.sections import Section
from thaw.tasks import calibration
from thaw.tasks.predictors.decision import Decision, mean_decision, read_decision
from thaw.tasks.predictors.sequence import probabilities
from thaw.tasks.text_task import TextTask


class DecidingTask(TextTask):
    """A classifier that finds its temperature and its thresholds on validation.

    Args:
        model: Hugging Face model.
        labels: names of the C classes.
        multi_label: whether a text has several labels.
        thresholds: tuned: the threshold of each label is the one with the highest F1 on validation;
            None: 0.5.
        calibrate: whether the last layer is divided by the temperature that fits validation best.
        options: options of `OptimizedModule`.

    Raises:
        ThawError: thresholds are tuned for one label a text.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        labels: Sequence[str],
        multi_label: bool,
        thresholds: Literal["tuned"] | None = None,
        calibrate: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        require_several_labels(multi_label, thresholds)
        self.labels = list(labels)
        self.multi_label = multi_label
        self.tunes, self.calibrates = thresholds == "tuned", calibrate
        self.decision = Decision()
        self.register_buffer("thresholds", None, persistent=False)
        self.thresholds: Tensor | None
        self.keeps_logits = False
        self.curves: dict[str, calibration.Curve] = {}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = self.evaluate(batch)
        if self.keeps_logits:
            kept = (batch["row"], logits.float(), batch["labels"])
            self.test_outputs.append(tuple(tensor.cpu() for tensor in kept))

    def on_validation_epoch_end(self) -> None:
        if not self.keeps_logits:  # else this validation is no part of training
            super().on_validation_epoch_end()

    def require_data(self, data: Any, validates: bool) -> None:
        """Raises ThawError if there is no validation to find thresholds or a temperature on."""
        asked = ["task.thresholds=tuned"] * self.tunes + ["task.calibrate=true"] * self.calibrates
        if asked and getattr(data, "zero_shot", False):
            raise ThawError(
                f"{asked[0]} needs labels of validation, and task.zero_shot=true is without labels."
            )
        if asked and not validates:
            raise ThawError(
                f"{asked[0]} needs a validation split, data.validation=0.1 or a file, and "
                "trainer.limit_val_batches that is not 0."
            )
        if self.calibrates:
            self.last_layer()

    def last_layer(self) -> nn.Linear:
        """Returns the layer that computes the logits."""
        return calibration.last_layer(self.model, len(self.labels))

    def decide(self, data: Any) -> dict[str, float]:
        """Finds temperature and thresholds on validation, where they are asked for, and returns
        their metrics, for metrics.json."""
        if not (self.tunes or self.calibrates):
            return {}
        logits, gold = self.validation_logits(data)
        temperature, thresholds, metrics = None, None, dict[str, float]()
        if self.calibrates:
            temperature = calibration.best_temperature(logits, gold, self.multi_label)
            calibration.divide(self.last_layer(), temperature)
            metrics = calibration.temperature_metrics(logits, gold, self.multi_label, temperature)
            logits = logits / temperature
        found = probabilities(logits, self.multi_label)
        if self.tunes:
            best, tuned = calibration.tune(found, gold, self.labels)
            thresholds, metrics = dict(zip(self.labels, best, strict=True)), metrics | tuned
        self.use(Decision(thresholds, temperature))
        return metrics | self.calibration("val", found, gold)

    def validation_logits(self, data: Any) -> tuple[Tensor, Tensor]:
        """Returns logits (N, C) and labels of the texts of validation, in every process."""
        self.keeps_logits = True
        self.trainer.validate(self, datamodule=data, verbose=False, weights_only=True)
        self.keeps_logits = False
        self.scores.reset()
        self.eval_loss.reset()
        _, logits, gold = self.gathered()
        return logits, gold

    def use(self, decision: Decision) -> None:
        """Decides as an exported model does."""
        self.decision = decision
        if decision.thresholds is not None:
            numbers = [decision.thresholds[name] for name in self.labels]
            self.thresholds = torch.tensor(numbers, device=self.device)

    def read_export(self, directory: Path) -> None:
        self.use(read_decision(directory, self.labels))

    def complete_export(self, directory: Path) -> None:
        """Adds thresholds and temperature, where they were found."""
        self.decision.write(directory)

    def average_with(self, others: Sequence[Any]) -> None:
        super().average_with(others)
        self.use(mean_decision([self.decision, *(o.decision for o in others)], self.labels))

    def mean_logits(self, _: Any, args: Any, inputs: dict[str, Any], own: Tensor) -> Tensor:
        if not self.multi_label:
            return super().mean_logits(_, args, inputs, own)
        logits = torch.stack([own, *(other(**inputs) for other in self.others)]).float()
        # log p - log(1 - p) of the means
        return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)

    def calibration(self, split: str, found: Tensor, gold: Tensor) -> dict[str, float]:
        """Returns the calibration error before and after, of a model that was calibrated, from its
        probabilities (N, C) and the labels of the same texts, (N,) or (N, C); the split, val or
        test, begins the names."""
        if self.decision.temperature is None:
            return {}
        metrics = dict[str, float]()
        several = self.multi_label
        raw = calibration.before(found, self.decision.temperature, several)
        for name, chances in ((f"{split}/ece_before", raw), (f"{split}/ece", found)):
            self.curves[name] = calibration.reliability(chances, gold, several)
            metrics[name] = calibration.calibration_error(chances, gold, several)
        return metrics

    def findings(self, metrics: Mapping[str, float]) -> list[Section]:
        """Returns the thresholds, and what calibration changed."""
        tables = [calibration.threshold_table(metrics)] if self.decision.thresholds else []
        return [*tables, *calibration.calibration_sections(metrics, self.curves)]


def require_several_labels(multi_label: bool, thresholds: str | None = None) -> None:
    """Raises ThawError if thresholds are tuned for one label a text."""
    if thresholds and not multi_label:
        raise ThawError(
            "task.thresholds=tuned is for several labels a text; of one label a text the likeliest "
            "is predicted, without a threshold."
        )
