"""Texts with a number each, for `task=regression`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thaw.data.texts import TextData
from thaw.errors import ThawError

log = logging.getLogger(__name__)


class RegressionData(TextData):
    """Reads texts, or pairs of them, and numbers; what is trained on is (number - mean) / std.

    Args:
        label: column of the numbers.
        options: `TextData`'s.
    """

    has_windows = True

    def __init__(self, label: str | int = "label", **options: Any) -> None:
        super().__init__(label=label, **options)
        self.columns = replace(self.columns, numbers=True)
        self.mean, self.std = 0.0, 1.0  # of the numbers of train, or of a trained model's

    def find_labels(self) -> None:
        if self.trained is not None:
            self.mean, self.std = trained_scale(self.trained)
            return
        train = self.rows["train"]
        numbers = np.array(train.labels)
        self.mean, self.std = float(numbers.mean()), float(numbers.std())
        if not numbers.min() < numbers.max():
            raise ThawError(
                f"{train.origin}: train has one number only, {numbers[0]:g}; a regression needs "
                "different ones. Is data.label the right column?"
            )
        log.info(
            "numbers of train: %g to %g, mean %g, standard deviation %g",
            *(numbers.min(), numbers.max(), self.mean, self.std),
        )

    def strata(self, rows: Any) -> list[Any]:
        return [None] * len(rows)  # numbers are no classes

    def counts(self, rows: Any) -> Mapping[str, int]:
        return {}

    def task_kwargs(self) -> dict[str, Any]:
        return super().task_kwargs() | {"mean": self.mean, "std": self.std}

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        scale = {"task": "regression", "mean": self.mean, "std": self.std}
        return super().cache_key_parts(split) | scale

    def encoded_labels(self, labels: Sequence[float]) -> list[float]:
        return [(number - self.mean) / self.std for number in labels]

    @property
    def pipeline_options(self) -> dict[str, Any]:
        return super().pipeline_options | {"function_to_apply": "none"}


def trained_scale(config: Mapping[str, Any]) -> tuple[float, float]:
    """Returns mean and standard deviation of what a model was trained on, by default 0 and 1;
    raises ThawError if the model predicts classes."""
    if config.get("problem_type") != "regression":
        raise ThawError(
            f"the data has numbers, and the model is of {config.get('problem_type')}: it predicts "
            "labels, as task=sequence does."
        )
    return float(config.get("label_mean", 0.0)), float(config.get("label_std", 1.0))
