"""Predicts with an exported model over a stream of rows.

An export of ONNX predicts without torch and transformers, whose imports take longer than a text: no
predictor imports them but in what only `engine=torch` calls.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from thaw.data.encode.positions import most_tokens
from thaw.data.read.formats.json_lines import Unread
from thaw.data.read.row_values import as_text
from thaw.data.read.rows import Row, numbered
from thaw.encoder.onnx.session import FILES, OnnxModel
from thaw.encoder.onnx.tokenizer import ExportedTokenizer
from thaw.errors import ThawError, require_choice
from thaw.training.libraries import silence_libraries

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
PRECISIONS = ("auto", "32-true", "bf16-true")
CHUNK = 32  # batches of a prediction that are sorted by length together


def read_tokenizer(model: Path, engine: str) -> Any:
    """Returns the tokenizer of a model, or of its export, where that is not in Python."""
    if engine != "torch" and (model / "onnx" / "tokenizer.json").is_file():
        return ExportedTokenizer(model / "onnx")
    silence_libraries()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, trust_remote_code=False)


def require_fit(precision: str, engine: str) -> None:
    """Raises ThawError for a precision or an engine that there is not, or not together."""
    require_choice("precision", precision, PRECISIONS)
    require_choice("engine", engine, ("torch", *FILES))
    if engine != "torch" and precision == "bf16-true":
        raise ThawError("precision=bf16-true is for engine=torch.")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def is_empty(row: Row, columns: Sequence[str]) -> bool:
    """Returns whether columns of texts, or of lists of words, hold nothing."""
    texts = (v if isinstance(v := row[c], list) else [as_text(v, c, "")] for c in columns)
    return not any(str(part).strip() for parts in texts for part in parts)


def empty_told(empty: int, texts: int) -> str:
    """Returns a warning of texts with nothing in them, among so many."""
    return f"{empty} of {texts} texts are empty; what is predicted for them says nothing"


class Predictor:
    """Predicts with an exported model over a stream of rows.

    Args:
        model: exported directory.
        batch_size: largest number of texts in a forward pass.
        accelerator: hardware that computes: auto, cpu, gpu, cuda or mps.
        data: options of the run's data, such as max_tokens; without it, the model's limit counts.
        stream: whether each row is answered before the next one is read, without waiting for others
            of its length.
        others: predictors of the same labels, whose probabilities are averaged with this one's.
        precision: 32-true, bf16-true, or auto, which is bf16-true where the hardware has bfloat16
            in silicon.
        engine: torch; onnx or int8: onnxruntime with what `thaw.export` wrote, on the CPU.

    Raises:
        ThawError: there is no such accelerator or precision, or the model cannot be loaded.
    """

    auto_class: ClassVar[str]  # name of the class of transformers that loads the model
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
        require_fit(precision, engine)
        self.engine = engine
        self.model: Any  # function from padded tokens to logits, with `config` and `precision`
        if engine == "torch":
            from thaw.tasks.predictors.torch_model import TorchModel

            silence_libraries()
            self.model = TorchModel(partial(self.graph, model, None), accelerator, precision)
        else:
            self.model = OnnxModel(model, engine, accelerator)
        self.precision: str = self.model.precision
        self.tokenizer = read_tokenizer(model, engine)
        self.batch_size = batch_size
        self.data = data
        self.max_tokens = int(
            data.get("max_tokens") or most_tokens(self.tokenizer.model_max_length, model)
        )
        self.stream = stream
        self.others = list(others)

    def pieces(self, rows: Iterable[T]) -> Iterator[list[T]]:
        """Yields rows in lists: as many as are sorted by length together, or one each."""
        rows = iter(rows)
        size = 1 if self.stream else self.batch_size * CHUNK
        while piece := list(islice(rows, size)):
            yield piece

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Yields the indices of texts, with these lengths in tokens, in batches of similar length,
        the shortest first: at most `batch_size` texts, and no more padded tokens than the model
        computes well together."""
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lengths.__getitem__):
            many = (len(batch) + 1) * lengths[i] > self.model.batch_tokens
            if batch and (many or len(batch) == self.batch_size):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def check(self, row: Row, columns: Sequence[str], where: str) -> None:
        """Raises ThawError, which names `where`, unless a row has texts in its columns, or
        nothing."""
        for column in columns:
            if column not in row:
                there = ", ".join(map(repr, row)) or "nothing"
                raise ThawError(f"{where} has no {column!r}; it has {there}.")
            as_text(row[column], column, where)

    def answers(
        self,
        rows: Iterable[Row],
        columns: Sequence[str],
        origin: str,
        skip: bool = False,
    ) -> Iterator[tuple[Row, dict[str, Any]]]:
        """Yields each row with the columns that are added to it, some rows at a time; raises
        ThawError if a row has no text, and none is skipped.

        Args:
            rows: mappings of column to value, in memory of some of them.
            columns: that hold the text.
            origin: a file, for messages.
            skip: whether a row that nothing can be predicted for gets the reason as `error`, which
                is None in the others; else it is an error.
        """
        for piece in self.pieces(numbered(rows)):
            faults = {n: self.fault(row, columns, f"{origin}: row {n}", skip) for n, row in piece}
            good = [row for n, row in piece if not faults[n]]
            found = iter(self.answers_of(good, columns, skip))
            for number, row in piece:
                answer = {} if faults[number] else next(found)
                yield row, ({"error": faults[number]} if skip else {}) | answer

    def fault(self, row: Row, columns: Sequence[str], where: str, skip: bool) -> str | None:
        """Returns why nothing can be predicted for a row, None if something can."""
        if isinstance(row, Unread):
            return row.reason
        try:
            self.check(row, columns, where)
        except ThawError as error:
            if not skip:
                raise
            return str(error)
        return f"{where}: the text is empty." if skip and is_empty(row, columns) else None

    def answers_of(
        self, rows: Sequence[Row], columns: Sequence[str], skip: bool
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
    def graph(cls, model: Path, attention: str | None) -> "nn.Module":
        """Returns the exported model as a module from padded tokens (B, T) to logits alone, with an
        implementation of attention, such as eager; None: the architecture's default."""
        import transformers

        from thaw.encoder.load import load
        from thaw.tasks.predictors.torch_model import Logits

        auto_class = getattr(transformers, cls.auto_class)
        return Logits(load(auto_class, model, attn_implementation=attention))

    def columns(self, row: Row, asked: Sequence[str]) -> list[str]:
        """Returns the columns of the input that hold the text: those that were `asked` for, else
        those of training."""
        raise NotImplementedError

    def predict(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields the columns that are added to each row, in the order of the rows; reads a piece of
        the input at a time."""
        raise NotImplementedError
