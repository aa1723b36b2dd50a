"""Predicts with an exported model over a stream of rows."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from hydra.utils import get_class
from torch import Tensor, nn
from transformers import AutoTokenizer

from thaw.data.encode.positions import most_tokens
from thaw.data.read.formats.json_lines import Unread
from thaw.data.read.row_values import as_text
from thaw.encoder.hardware import bf16_units, torch_device
from thaw.encoder.load import load
from thaw.encoder.onnx.session import FILES, OnnxModel
from thaw.errors import ThawError

log = logging.getLogger(__name__)

Row = TypeVar("Row")
PRECISIONS = ("auto", "32-true", "bf16-true")
CHUNK = 32  # batches of a prediction that are sorted by length together

# By task, so that a prediction does not load what only training needs, such as Lightning.
CLASSES = {
    "thaw.tasks.sequence.SequenceClassification": "sequence.SequencePredictor",
    "thaw.tasks.regression.Regression": "regression.RegressionPredictor",
    "thaw.tasks.ner.TokenClassification": "ner.TokenPredictor",
    "thaw.tasks.mlm.MaskedLanguageModel": "mlm.MaskedPredictor",
    "thaw.tasks.setfit.SetFit": "setfit.SetFitPredictor",
}


def predictor_class(task: str) -> type["Predictor"]:
    """Returns the class that predicts with the export of a task.

    Args:
        task: path of the task's class; one that is not thaw's is imported.
    """
    if task in CLASSES:
        return get_class(f"thaw.tasks.predictors.{CLASSES[task]}")
    return get_class(task).predictor  # type: ignore[attr-defined]


class Logits(nn.Module):
    """A model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits of padded tokens."""
        return self.model(**inputs).logits


class Predictor:
    """Predicts with an exported model over a stream of rows.

    Args:
        model: exported directory.
        batch_size: number of texts in a forward pass.
        accelerator: hardware that computes: auto, cpu, gpu, cuda or mps.
        data: options of the run's data, such as max_tokens; without it, the model's
            limit counts.
        stream: whether each row is answered before the next one is read, without waiting for others
            of its length.
        others: predictors of the same labels, whose probabilities are averaged with this one's.
        precision: 32-true, bf16-true, or auto, which is bf16-true where the hardware has bfloat16
            in silicon.
        engine: torch; onnx or int8: onnxruntime with what `thaw.export` wrote, on the CPU.

    Raises:
        ThawError: there is no such accelerator or precision, or the model cannot be loaded.
    """

    auto_class: ClassVar[type]
    labels: Sequence[str] = ()

    def __init__(
        self,
        model: Path,
        batch_size: int,
        accelerator: str,
        data: Mapping[str, Any],
        stream: bool = False,
        others: Sequence["Predictor"] = (),
        precision: str = "32-true",
        engine: str = "torch",
    ) -> None:
        self.device = torch_device(accelerator)
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self.engine = engine
        self.precision = self.chosen(precision)
        self.model: Any
        if engine == "torch":
            dtype = torch.bfloat16 if self.precision == "bf16-true" else torch.float32
            self.model = load(self.auto_class, model).eval().to(self.device, dtype)
        else:
            self.device = torch.device("cpu")
            self.model = OnnxModel(model, engine)
        self.batch_size = batch_size
        self.data = data
        self.max_tokens = int(
            data.get("max_tokens") or most_tokens(self.tokenizer.model_max_length, model)
        )
        self.stream = stream
        self.others = list(others)

    def chosen(self, precision: str) -> str:
        """Returns the precision that is computed in, and says what "auto" is.

        Raises:
            ThawError: there is no such precision or engine, or they do not fit each other.
        """
        for name, value, known in (
            ("precision", precision, PRECISIONS),
            ("engine", self.engine, ("torch", *FILES)),
        ):
            if value not in known:
                raise ThawError(f"{name}={value}: expected one of {', '.join(known)}.")
        if self.engine != "torch":
            if precision == "bf16-true":
                raise ThawError("precision=bf16-true is for engine=torch.")
            return "32-true" if self.engine == "onnx" else "int8"
        if precision != "auto":
            return precision
        units = bf16_units(self.device.type)
        found = "bf16-true" if units else "32-true"
        log.info("precision %s: %s", found, units or f"no bfloat16 units in this {self.device}")
        return found

    def pieces(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """Yields rows in lists: as many as are sorted by length together, or one each."""
        rows = iter(rows)
        size = 1 if self.stream else self.batch_size * CHUNK
        while piece := list(islice(rows, size)):
            yield piece

    def check(self, row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
        """Raises ThawError unless a row has texts in its columns, or nothing.

        Args:
            row: of the input.
            columns: that hold the text.
            where: its place, for the message.
        """
        for column in columns:
            if column not in row:
                there = ", ".join(map(repr, row)) or "nothing"
                raise ThawError(f"{where} has no {column!r}; it has {there}.")
            as_text(row[column], column, where)

    def answers(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[str],
        origin: str,
        skip: bool = False,
    ) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Yields each row with the columns that are added to it, some rows at a time.

        Args:
            rows: mappings of column to value, in memory of some of them.
            columns: that hold the text.
            origin: a file, for messages.
            skip: whether a row that nothing can be predicted for gets the reason as `error`, which
                is None in the others; else it is an error.

        Raises:
            ThawError: a row has no text, and none is skipped.
        """
        for piece in self.pieces(enumerate(rows, start=1)):
            faults = {n: self.fault(row, columns, f"{origin}: row {n}", skip) for n, row in piece}
            good = [row for n, row in piece if not faults[n]]
            found = iter(self.answers_of(good, columns, skip))
            for number, row in piece:
                answer = {} if faults[number] else next(found)
                yield row, ({"error": faults[number]} if skip else {}) | answer

    def fault(
        self, row: Mapping[str, Any], columns: Sequence[str], where: str, skip: bool
    ) -> str | None:
        """Returns why nothing can be predicted for a row, None if something can."""
        if isinstance(row, Unread):
            return row.reason
        try:
            self.check(row, columns, where)
        except ThawError as error:
            if not skip:
                raise
            return str(error)
        return None

    def answers_of(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], skip: bool
    ) -> list[dict[str, Any]]:
        """Returns the answers of rows together, or each on its own where one stops the others."""
        try:
            return list(self.predict(rows, columns))
        except ThawError as error:
            if not skip:
                raise
            if len(rows) == 1:
                return [{"error": str(error)}]
        return [answer for row in rows for answer in self.answers_of([row], columns, skip)]

    def probabilities(self, inputs: Any) -> list[Any]:
        """Returns the probability of each label, for each input of this task."""
        raise NotImplementedError

    def mean_probabilities(self, inputs: Any) -> list[Any]:
        """Returns `probabilities`, averaged with those of the other predictors."""
        own = self.probabilities(inputs)
        if not self.others:
            return own
        every = [own, *(other.probabilities(inputs) for other in self.others)]
        return [np.mean(same, axis=0) for same in zip(*every, strict=True)]

    @classmethod
    def graph(cls, model: Path, attention: str | None) -> nn.Module:
        """Returns the exported model as a module from padded tokens (B, T) to logits alone.

        Args:
            model: exported directory.
            attention: implementation of attention, such as eager; None: the architecture's default.
        """
        return Logits(load(cls.auto_class, model, attn_implementation=attention))

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        """Returns the columns of the input that hold the text.

        Args:
            row: first row of the input.
            asked: columns that the user named; empty: those of training.
        """
        raise NotImplementedError

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yields the columns that are added to each row, in the order of the rows; reads a piece of
        the input at a time."""
        raise NotImplementedError
