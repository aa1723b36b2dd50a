"""What every data module shares: where its splits come from, and what is said of them."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tokenizers
import transformers
from datasets import Dataset
from pydantic import Field, NonNegativeInt, PositiveInt
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from thaw.data.contents import require_same_contents
from thaw.data.encode.positions import require_room
from thaw.data.encode.token_cache import Rows, cache_key, cached_rows
from thaw.data.loaders import Loaders
from thaw.data.read.folds import fold_split, held_out, require_fold
from thaw.data.read.formats.content import suffix_of
from thaw.data.read.formats.options import FormatName, Quoting, Reading
from thaw.data.read.label_names import label_counts
from thaw.data.read.splits import cut
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.text_files import split_part
from thaw.data.read.text_store import hashes
from thaw.data.read.texts import SPLITS, Source, read_split
from thaw.data.summary import DataSummary, source_summary, split_summary
from thaw.errors import ThawError
from thaw.storage.files import at_home
from thaw.storage.wheels import fetch_wheels

log = logging.getLogger(__name__)


class EncoderData(Loaders):
    """Reads, checks, encodes and batches the splits of a data set.

    Every argument but `tokenizer`, `seed`, `only` and `trained` is an option, described in
    `conf/data/files.yaml`.

    A split is named (a file, or one on the Hub), or a fraction of `train`. With `folds`, all of
    `train` is dealt out into that many folds; the one that `fold` numbers from 0 is the test split,
    in place of a fraction, or validation where a test split is named; fractions are then of the
    other folds. See `thaw.data.read.folds.held_out`.

    Args:
        tokenizer: the model's directory.
        seed: of the order of batches.
        only: the one split that is read, and tested, where a finished run is evaluated; None: all.
        trained: the config of the finished run's model, which the data must fit.

    Attributes:
        rows: what was read, by split.

    Raises:
        ThawError: options do not fit each other, or the model.
    """

    def __init__(
        self,
        name: str,
        tokenizer: str | Path,
        train: str | None,
        validation: str | float | None = 0.1,
        test: str | float | None = None,
        cut_from: str | None = None,
        path: str | Mapping[str, Any] | None = None,
        config: str | None = None,
        revision: str | None = None,
        folds: Annotated[int, Field(ge=2)] | None = None,
        fold: NonNegativeInt | None = None,
        split_seed: int = 0,
        format: FormatName | None = None,
        header: bool | None = None,
        columns: Sequence[str] | None = None,
        quoting: Quoting | None = None,
        reader: str | None = None,
        encoding: str = "utf-8",
        max_tokens: PositiveInt = 128,
        batch_size: PositiveInt = 16,
        eval_batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: int = 0,
        only: str | None = None,
        trained: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed, only)
        self.name = name
        self.trained = trained
        named = {"train": train, "validation": validation, "test": test}
        self.sources = {split: at_home(source) for split, source in named.items()}
        self.cut_from = at_home(cut_from) if train is None else self.sources["train"]
        require_fold(folds, fold, self.sources)
        self.folds, self.fold = folds, fold
        if folds is not None:
            self.sources[fold_split(self.sources)] = 1 / folds
        self.path = at_home(path)
        self.hub = {"config": config, "revision": revision}
        self.split_seed = split_seed
        self.reading = Reading(
            format=format,
            encoding=encoding,
            header=header,
            columns=columns,
            quoting=quoting,
            reader=reader,
        )
        self.max_tokens = max_tokens
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False
        )
        self.labels: list[str] = []
        self.rows: dict[str, Any] = {}
        self.token_statistics: dict[str, Mapping[str, int]] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        require_room(max_tokens, self.tokenizer.model_max_length, Path(tokenizer))

    def setup(self, stage: str) -> None:
        """Reads the splits, unless they have been read: Lightning calls it for each stage."""
        if not self.rows:
            self.read()

    def read(self) -> None:
        """Reads, checks and encodes the splits, and finds the labels.

        Raises:
            ThawError: the data cannot be read, or lacks what the task needs.
        """
        self.rows = self.read_splits(self.only)
        self.find_labels()
        if self.only is None and "train" in self.rows:
            self.warn_of_leaks()
        for split, rows in self.rows.items():
            self.encoded[split] = self.encode(rows, split)
        if self.only is None:
            log.info("%s", self.summary().text())

    def find_labels(self) -> None:
        """Sets `labels` to those of train, or of the trained model, and checks each split."""

    def task_kwargs(self) -> dict[str, Any]:
        """Returns the arguments of the task that follow from the data, such as its labels."""
        raise NotImplementedError

    def pick(self, rows: Iterable[Mapping[str, Any]], origin: str) -> Any:
        """Checks the rows of a source and picks out what the task needs.

        Args:
            rows: mappings of column to value.
            origin: a file or data set, for messages.
        """
        raise NotImplementedError

    def encode(self, rows: Any, split: str) -> Dataset:
        """Tokenizes a split, or finds it as it was tokenized before, and reports on its tokens."""
        content = cache_key(rows.texts, rows.labels)
        self.contents[split] = {"rows": len(rows), "hash": content}
        key = cache_key(self.cache_key_parts(split), vocabulary(self.tokenizer), content)
        encoded, statistics = cached_rows(key, lambda: self.tokenize(rows, split))
        self.report(split, len(rows), statistics)
        self.token_statistics[split] = statistics
        return encoded

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        """Returns what the tokens of a split follow from, besides its rows and the vocabulary."""
        raise NotImplementedError

    def tokenize(self, rows: Any, split: str) -> Iterator[tuple[Rows, dict[str, int]]]:
        """Yields encoded rows of a split in batches of columns, with statistics of all so far."""
        raise NotImplementedError

    def report(self, split: str, count: int, statistics: Mapping[str, int], hint: str = "") -> None:
        """Warns of texts that are cut.

        Args:
            split: name of the split.
            count: number of its texts.
            statistics: what `tokenize` counted.
            hint: what to do about it.
        """
        if statistics.get("cut"):
            log.warning(
                "%s: %d of %d texts are longer than data.max_tokens=%d and cut (the longest: %d)%s",
                split,
                statistics["cut"],
                count,
                self.max_tokens,
                statistics["longest"],
                hint,
            )

    def summary(self) -> DataSummary:
        """Returns what was read, left out and cut, and the labels of each split, after `read`."""
        sources = {rows.source.origin: rows.source for rows in self.rows.values() if rows.source}
        splits = {
            split: split_summary(
                rows,
                self.counts(rows),
                self.encoded.get(split),
                self.token_statistics.get(split, {}),
            )
            for split, rows in self.rows.items()
        }
        read = [source_summary(source, self.format_of(source)) for source in sources.values()]
        return DataSummary(str(self.name), self.max_tokens, read, splits)

    def format_of(self, source: Source) -> str:
        """Returns how a source is read, for people."""
        if isinstance(self.root(), str):
            return "Hugging Face Hub"
        suffix = suffix_of(split_part(Path(source.origin))[0]).lstrip(".")
        return self.reading.reader or self.reading.format or suffix or "directory"

    def counts(self, rows: Any) -> Mapping[str, int]:
        """Returns how many texts have each label."""
        return label_counts(rows.labels)

    def read_splits(self, only: str | None = None) -> dict[str, Any]:
        """Returns the rows of each split, or of one, with fractions cut from train."""
        train = self.sources["train"]
        fractions = {s: v for s, v in self.sources.items() if isinstance(v, (int, float))}
        if only is not None and self.sources[only] is None:
            there = [s for s, v in self.sources.items() if v is not None]
            raise ThawError(f"data={self.name} has no {only} split; it has {', '.join(there)}.")
        source = train if only is None else self.cut_from
        if source is None and (only is None or only in fractions):
            raise ThawError(f"data={self.name} needs data.train=<file>{self.example()}")
        root = self.root()
        out: dict[str, Any] = {}
        for split in SPLITS:
            named = self.sources[split]
            if named is None or split in fractions or (only is not None and only != split):
                continue
            out[split] = self.read_one(root, str(named))
        if fractions and (only is None or only in fractions or only == "train"):
            whole = out["train"] if "train" in out else self.read_one(root, str(self.cut_from))
            out |= self.cut(whole, {s: float(v) for s, v in fractions.items()})
        return {s: out[s] for s in SPLITS if s in out and (only is None or s == only)}

    def cut(self, whole: Any, fractions: dict[str, float]) -> dict[str, Any]:
        """Returns the splits that are cut from one source: a fold, and fractions of the rest."""
        if self.folds is None or self.fold is None:
            return cut(whole, fractions, self.split_seed, labels=self.strata(whole))
        split = fold_split(self.sources)
        labels = self.strata(whole)
        rows = held_out(whole, labels, self.folds, self.fold, self.split_seed)
        said = f"{split} is fold {self.fold} of 0 to {self.folds - 1}"
        log.info("%s: %d of %d texts", said, len(rows), len(whole))
        rest = {s: v for s, v in fractions.items() if s != split}
        return cut(whole, rest, self.split_seed, {split: rows}, labels)

    def strata(self, rows: Any) -> list[Any]:
        """Returns the labels of each row, of which splits have equal shares and train has all."""
        return rows.labels

    def example(self) -> str:
        """Returns how a command with this task's own files looks, for messages."""
        return "."

    def read_one(self, root: Path | str | None, split: str) -> Any:
        """Returns what `pick` makes of one file, or of one split on the Hub."""
        origin = (
            f"{root}, split {split}" if isinstance(root, str) else str((root or Path()) / split)
        )
        return self.pick(replace_surrogates(self.source_rows(root, split), origin), origin)

    def source_rows(self, root: Path | str | None, split: str) -> Iterable[Mapping[str, Any]]:
        """Returns the rows of one file, or of one split on the Hub."""
        return read_split(root, split, self.reading, **self.hub)

    def root(self) -> Path | str | None:
        """Returns where the splits are: a directory, or the Hub's owner/name as a string."""
        if isinstance(self.path, Mapping):
            found = fetch_wheels(self.path["wheels"], self.path["member"])
            return found if found.is_dir() else found.parent
        return Path(self.path) if self.path and Path(self.path).is_dir() else self.path

    def sizes(self) -> dict[str, str]:
        """Returns how many texts each split has, for people."""
        return {split: f"{len(rows):,}" for split, rows in self.rows.items()}

    def warn_of_leaks(self) -> None:
        """Warns of texts that train shares with a split that is evaluated."""
        train = hashes(self.rows["train"].texts)
        for split in ("validation", "test"):
            if split not in self.rows:
                continue
            if n := int(np.isin(hashes(self.rows[split].texts), train).sum()):
                log.warning("%s: %d of %d texts are in train too", split, n, len(self.rows[split]))

    def state_dict(self) -> dict[str, Any]:
        """Returns the place in the epoch, and what the data is, for a checkpoint."""
        contents = {"labels": self.labels, "splits": self.contents}
        return {**super().state_dict(), "contents": contents}

    def require_same(self, checkpoint: Mapping[str, Any]) -> None:
        """Raises ThawError unless the data is that which a checkpoint's run began with."""
        state = checkpoint.get(type(self).__qualname__, {})
        if "contents" not in state:
            log.warning(
                "the checkpoint is of an earlier thaw and does not say what its data was: whether "
                "the run goes on with the same data is not checked"
            )
            return
        now = {"labels": self.labels, "splits": self.contents}
        require_same_contents(state["contents"], now, self.sources)


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns all that decides how a tokenizer cuts a text."""
    if not tokenizer.is_fast:
        words = sorted(tokenizer.get_vocab().items())
        return f"{type(tokenizer).__name__} {transformers.__version__} {words}"
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call set: each call sets its own.
    state |= {"truncation": None, "padding": None}
    return f"{tokenizers.__version__} {tokenizer.model_input_names} {json.dumps(state)}"


def names_of(config: Mapping[str, Any]) -> list[str]:
    """Returns the label names of a model's config in their order."""
    names = config["id2label"]
    return [names[key] for key in sorted(names, key=int)]
