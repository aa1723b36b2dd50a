"""A finished run, or any model directory, as an object that predicts: `thaw.load`."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from itertools import chain, islice
from typing import Any

import numpy as np

from thaw.cli.finished_run import Finished, finished, require_same
from thaw.data.python_tables import is_table, table_rows, text_rows
from thaw.data.read.rows import Row, number_of
from thaw.data.read.surrogates import replace_surrogates
from thaw.errors import ThawError
from thaw.tasks.predictors.base import Predictor, empty_told, is_empty
from thaw.tasks.predictors.by_task import predictor_class
from thaw.training.libraries import in_notebook

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds before a progress bar appears
Place = str | os.PathLike


class Model:
    """A model that predicts, or several whose probabilities are averaged.

    Args:
        found: where the models are, of one task and with the same labels.
        stream: whether each row is answered before the next one is read; for the other arguments
            see `load`.

    Attributes:
        task: sequence, setfit, ner, mlm, or the name of a task of the user's own.
        labels: names of the labels, in the order of `predict_proba`'s columns.

    Raises:
        ThawError: an option does not fit, a model cannot be loaded, or the models differ in task
            or labels.
    """

    def __init__(
        self,
        found: Sequence[Finished],
        batch_size: int = 64,
        accelerator: str = "auto",
        stream: bool = False,
        precision: str = "32-true",
        engine: str = "torch",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ThawError(f"batch_size={batch_size}: expected a whole number from 1.")
        require_same(found)
        first, *rest = found
        made = predictor_class(first.task)
        how: dict[str, Any] = {"precision": precision, "engine": engine}
        others = [made(f.model, batch_size, accelerator, f.data, **how) for f in rest]
        how |= {"stream": stream, "others": others}
        self.predictor: Predictor = made(first.model, batch_size, accelerator, first.data, **how)
        self.task = first.task.split(".")[-2]
        self.labels = list(self.predictor.labels)

    def predict(
        self, texts: Any, *, text: str | Sequence[str] = (), progress: bool | None = None
    ) -> list[Any]:
        """Returns what the model predicts, in the order of the texts.

        Args:
            texts: a list or any other iterable of texts, of pairs for a model of pairs, or of lists
                of words for entities; a pandas column, a DataFrame, a `datasets.Dataset`, or
                dictionaries, of which the columns are read that the run was trained on.
            text: other columns to read.
            progress: whether a bar is shown; None: in a terminal or notebook, after two seconds.

        Returns:
            A label for each text, or a list of labels; of task=ner the entities, see `entities`; of
            task=mlm the text with its masks filled in.

        Raises:
            ThawError: there is no text, or something else where a text should be.
        """
        if self.task == "ner":
            return self.entities(texts, text=text, progress=progress)
        return [row["prediction"] for row in self.answers("predict", texts, text, progress)]

    def predict_proba(
        self, texts: Any, *, text: str | Sequence[str] = (), progress: bool | None = None
    ) -> np.ndarray:
        """Returns the probability of each label, an array (texts, labels); see `predict`."""
        return np.array(list(self.answers("scores", texts, text, progress)), dtype=np.float32)

    def embed(
        self, texts: Any, *, text: str | Sequence[str] = (), progress: bool | None = None
    ) -> np.ndarray:
        """Returns the embeddings of a model of task=setfit, an array (texts, width); see
        `predict`."""
        found = list(self.answers("embeddings", texts, text, progress))
        return np.array(found, dtype=np.float32)

    def entities(
        self, texts: Any, *, text: str | Sequence[str] = (), progress: bool | None = None
    ) -> list[list[dict[str, Any]]]:
        """Returns the entities of each text, each with `label`, `text`, `start`, `end` and `score`;
        `start` and `end` are places in the text, of words in the words joined by spaces."""
        if self.task != "ner":
            raise ThawError(f"entities are of task=ner, and this model is of task={self.task}.")
        return [row["entities"] for row in self.answers("predict", texts, text, progress)]

    def answers(
        self, method: str, texts: Any, text: str | Sequence[str], progress: bool | None
    ) -> Iterable[Any]:
        """Returns what a method of the predictor gives for each text, with a bar on long work;
        raises ThawError if the predictor of this task has no such method, or see `predict`."""
        of_one = method == "embeddings"
        if not hasattr(self.predictor, method) or (of_one and self.predictor.others):
            kinds = "a run of task=setfit" if of_one else "task=sequence and task=setfit"
            raise ThawError(f"{method} are of {kinds}, and this is {self}.")
        rows, columns, count = self.read(texts, text)
        found = getattr(self.predictor, method)(rows, columns)
        wanted = (in_notebook() or sys.stderr.isatty()) if progress is None else progress
        if not wanted:
            return found
        with warnings.catch_warnings():  # that ipywidgets would draw a nicer one
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

            return tqdm(found, total=count, unit=" texts", delay=PATIENCE)

    def __repr__(self) -> str:
        count = len(self.predictor.others) + 1
        several = f"{count} models" if count > 1 else "a model"
        return (
            f"<{several} of task={self.task} with {number_of(len(self.labels), 'labels')}, "
            f"{self.predictor.engine} in {self.predictor.precision}>"
        )

    def read(
        self, texts: Any, text: str | Sequence[str]
    ) -> tuple[Iterator[Row], list[str], int | None]:
        """Returns texts as rows, the columns of the texts, and how many rows there are, if known;
        raises ThawError if there are none, or they are not texts."""
        unordered = isinstance(texts, str | bytes | Set) and not isinstance(texts, Mapping)
        if unordered or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) == 0:
            raise ThawError(f"got {texts!r:.60}; expected a list of texts, such as ['a text'].")
        count = len(texts) if isinstance(texts, Sized) and not isinstance(texts, Mapping) else None
        items = table_rows(texts, "texts") if is_table(texts) else iter(texts)
        first = list(islice(items, 1))
        if not first:
            raise ThawError("got no texts; expected at least one.")
        items = chain(first, items)
        asked = [text] if isinstance(text, str) else list(text)
        plain = not isinstance(first[0], Mapping)
        if asked and plain:
            raise ThawError(f"text={text} names columns, and these texts have none.")
        columns = self.names() if plain else self.predictor.columns(first[0], asked)
        rows = self.checked(text_rows(items, columns, words=self.task == "ner"), columns)
        return replace_surrogates(rows, "the texts"), columns, count

    def checked(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[Row]:
        """Yields rows, and warns of empty texts; raises ThawError where the task can predict
        nothing for one."""
        number, empty = -1, 0
        for number, row in enumerate(rows):
            self.predictor.check(row, columns, f"text {number}, counted from 0")
            empty += is_empty(row, columns)
            yield row
        if empty:
            log.warning(empty_told(empty, number + 1))

    def names(self) -> list[str]:
        """Returns the columns that plain texts become: two for a model of pairs."""
        column = self.predictor.data.get("text", "text")
        return [str(c) for c in ([column] if isinstance(column, str | int) else column)]


def load(
    place: Place | Sequence[Place],
    *,
    batch_size: int = 64,
    accelerator: str = "auto",
    precision: str = "32-true",
    engine: str = "torch",
    trust: str = "",
) -> Model:
    """Loads a model to predict with.

    Args:
        place: a run directory, the directory of a sweep, a model directory, owner/name on the Hub,
            or several of these, whose probabilities are averaged.
        batch_size: number of texts in a forward pass.
        accelerator: hardware that computes: auto, cpu, gpu, cuda or mps.
        precision: 32-true, bf16-true, or auto: bf16-true where the hardware has it in silicon.
        engine: torch, or onnx or int8, which use what `thaw.export` wrote.
        trust: module of your own whose task a run directory may name; no other code is run.

    Raises:
        ThawError: nothing is there, no run finished there, or labels do not agree.
    """
    places = [place] if isinstance(place, str | os.PathLike) else list(place)
    if not places:
        raise ThawError("got no directory to load a model from.")
    found = [one for p in places for one in finished(os.fspath(p), trust)]
    return Model(found, batch_size, accelerator, precision=precision, engine=engine)
