"""What every data set shares: where its splits come from, and batches on any number of ranks."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tokenizers
import torch
import transformers
from datasets import Dataset
from lightning.pytorch import LightningDataModule
from pydantic import Field, NonNegativeInt, PositiveInt
from torch.utils.data import DataLoader, Sampler
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from thaw.data.batch.by_length import LengthGroupedBatches
from thaw.data.contents import require_same_contents
from thaw.data.encode.positions import require_room
from thaw.data.encode.token_cache import Rows, cache_key, cached_rows
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


class EncoderData(LightningDataModule):
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
        encoded: what batches are made of, by split, with a column `length` in tokens.

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
        super().__init__()
        self.name = name
        self.only = only
        self.trained = trained
        self.sources = {
            "train": at_home(train),
            "validation": at_home(validation),
            "test": at_home(test),
        }
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
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False
        )
        self.labels: list[str] = []
        self.rows: dict[str, Any] = {}
        self.encoded: dict[str, Dataset] = {}
        self.token_facts: dict[str, Mapping[str, Any]] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        self.epoch = self.start = 0
        require_room(max_tokens, self.tokenizer.model_max_length, Path(tokenizer))

    def setup(self, stage: str) -> None:
        """Reads the splits, unless they have been read: Lightning calls it for each stage."""
        if not self.rows:
            self.read(self.only, self.trained)

    def read(self, only: str | None = None, trained: Mapping[str, Any] | None = None) -> None:
        """Reads, checks and encodes the splits, and finds the labels.

        Args:
            only: one split, for evaluation: a fraction is cut as in training.
            trained: the config of a trained model, which the data must fit; None: train's labels.

        Raises:
            ThawError: the data cannot be read, or lacks what the task needs.
        """
        raise NotImplementedError

    def for_task(self) -> dict[str, Any]:
        """Arguments of the task that follow from the data, such as its labels."""
        raise NotImplementedError

    def pick(self, rows: Iterable[Mapping[str, Any]], origin: str) -> Any:
        """Checks the rows of a source and picks out what the task needs.

        Args:
            rows: mappings of column to value.
            origin: a file or data set, for messages.
        """
        raise NotImplementedError

    def encode(self, rows: Any, split: str) -> Dataset:
        """Tokenizes a split, or finds it as it was tokenized before; says what there is to say."""
        content = cache_key(rows.texts, rows.labels)
        self.contents[split] = {"rows": len(rows), "hash": content}
        key = cache_key(self.recipe(split), vocabulary(self.tokenizer), content)
        encoded, about = cached_rows(key, lambda about: self.pieces(rows, split, about))
        self.report(split, len(rows), about)
        self.token_facts[split] = about
        return encoded

    def summary(self) -> DataSummary:
        """Returns what was read, left out and cut, and the labels of each split, after `read`."""
        sources = {rows.source.origin: rows.source for rows in self.rows.values() if rows.source}
        return DataSummary(
            str(self.name),
            self.max_tokens,
            [source_summary(source, self.format_of(source)) for source in sources.values()],
            {
                split: split_summary(
                    rows,
                    self.counts(rows),
                    self.encoded.get(split),
                    self.token_facts.get(split, {}),
                    str(self.contents.get(split, {}).get("hash", "")),
                )
                for split, rows in self.rows.items()
            },
        )

    def format_of(self, source: Source) -> str:
        """Returns how a source is read, for people."""
        if isinstance(self.root(), str):
            return "Hugging Face Hub"
        path, _ = split_part(Path(source.origin))
        found = self.reading.reader or self.reading.format
        return found or suffix_of(path).lstrip(".") or "directory"

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """Options that other libraries need to read a text as this data is read."""
        return {}

    def counts(self, rows: Any) -> Mapping[str, int]:
        """Returns how many texts have each label."""
        return label_counts(rows.labels)

    def recipe(self, split: str) -> dict[str, Any]:
        """What the tokens of a split follow from, besides its rows and the vocabulary."""
        raise NotImplementedError

    def pieces(self, rows: Any, split: str, about: dict[str, Any]) -> Iterator[Rows]:
        """Encoded rows of a split as columns, some at a time.

        Args:
            rows: of the split.
            split: its name.
            about: gets what `report` says of them.
        """
        raise NotImplementedError

    def report(self, split: str, count: int, about: Mapping[str, Any]) -> None:
        """Says in the log what a user should know about the tokens of a split."""
        raise NotImplementedError

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of encoded rows (see `rowwise`) as tensors."""
        raise NotImplementedError

    def read_splits(self, only: str | None = None) -> dict[str, Any]:
        """The rows of each split, fractions cut from train."""
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
        """The splits that are cut from one source: a fold of it, and fractions of the rest.

        Args:
            whole: its rows.
            fractions: by split; a fold's is the share of one fold.
        """
        if self.folds is None or self.fold is None:
            return cut(whole, fractions, self.split_seed, labels=self.strata(whole))
        split = fold_split(self.sources)
        labels = self.strata(whole)
        rows = held_out(whole, labels, self.folds, self.fold, self.split_seed)
        log.info(
            "%s is fold %d of 0 to %d: %d of %d texts",
            split,
            self.fold,
            self.folds - 1,
            len(rows),
            len(whole),
        )
        rest = {s: v for s, v in fractions.items() if s != split}
        return cut(whole, rest, self.split_seed, {split: rows}, labels)

    def strata(self, rows: Any) -> list[Any]:
        """What splits have equal shares of, and train all of: the labels of each row; see
        `thaw.data.read.splits.cut`."""
        return rows.labels

    def example(self) -> str:
        """How a command with this task's own files looks, for messages."""
        return "."

    def read_one(self, root: Path | str | None, split: str) -> Any:
        """What `pick` makes of one file, or of one split on the Hub."""
        origin = (
            f"{root}, split {split}" if isinstance(root, str) else str((root or Path()) / split)
        )
        return self.pick(replace_surrogates(self.source_rows(root, split), origin), origin)

    def source_rows(self, root: Path | str | None, split: str) -> Iterable[Mapping[str, Any]]:
        """The rows of one file, or of one split on the Hub."""
        return read_split(root, split, self.reading, **self.hub)

    def root(self) -> Path | str | None:
        """Where the splits are: a directory, or the Hub's owner/name as a string."""
        if isinstance(self.path, Mapping):
            found = fetch_wheels(self.path["wheels"], self.path["member"])
            return found if found.is_dir() else found.parent
        if self.path is None or Path(self.path).is_dir():
            return None if self.path is None else Path(self.path)
        return self.path

    def sizes(self) -> dict[str, str]:
        """How many texts each split has, for people."""
        return {split: f"{len(rows):,}" for split, rows in self.rows.items()}

    def warn_of_leaks(self) -> None:
        """Warns of texts that train shares with a split that is evaluated."""
        train = hashes(self.rows["train"].texts)
        for split in ("validation", "test"):
            if split not in self.rows:
                continue
            if n := int(np.isin(hashes(self.rows[split].texts), train).sum()):
                log.warning("%s: %d of %d texts are in train too", split, n, len(self.rows[split]))

    def train_dataloader(self) -> DataLoader:
        """Batches of similar length in an order of (seed, epoch)."""
        loader = self.loader("train", self.batch_size, shuffle=True)
        sampler: Any = loader.sampler
        if hasattr(sampler, "start"):
            sampler.start = self.start
            sampler.set_epoch(self.first_epoch())  # workers do not wait for Lightning to set it
        self.start = 0
        return loader

    def first_epoch(self) -> int:
        """The epoch of a new loader: a run that goes on makes it before the trainer knows."""
        return max(self.epoch, self.trainer.current_epoch) if self.trainer else self.epoch

    def val_dataloader(self) -> DataLoader | list:
        return self.loader("validation", self.eval_batch_size) if "validation" in self.rows else []

    def test_dataloader(self) -> DataLoader | list:
        split = self.only or "test"
        return self.loader(split, self.eval_batch_size) if split in self.rows else []

    def loader(self, split: str, batch_size: int, shuffle: bool = False) -> DataLoader:
        """Batches of `collate`, with `row` (B,) among them."""
        data: Any = self.encoded[split]
        world_size = self.trainer.world_size if self.trainer else 1
        rank = self.trainer.global_rank if self.trainer else 0
        if len(data) < world_size:
            raise ThawError(f"{split} has {len(data)} texts, fewer than {world_size} processes.")
        batches = self.batches(split, batch_size, shuffle, rank, world_size)
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # The same batches in every epoch; Lightning wants a SequentialSampler for it.
            return DataLoader(data, batch_size, collate_fn=self.collate)
        # The sampler gives whole batches, so batch_size is None: one fetch a batch.
        return DataLoader(
            data,
            batch_size=None,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self.collate,
        )

    def batches(
        self, split: str, batch_size: int, shuffle: bool, rank: int, world_size: int
    ) -> Sampler[list[int]]:
        """The rows of each batch of a rank."""
        return LengthGroupedBatches(
            self.encoded[split].data.column("length").to_numpy(),
            batch_size,
            seed=self.seed,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
        )

    def state_dict(self) -> dict[str, Any]:
        """The epoch, how many batches of it are done, and what the data is, for a checkpoint."""
        contents = {"contents": {"labels": self.labels, "splits": self.contents}}
        if self.trainer is None:
            return {"epoch": 0, "start": 0} | contents
        loop = self.trainer.fit_loop.epoch_loop
        progress: Any = loop.batch_progress.current
        # After the last batch there is a validation at most, and then another epoch.
        over = progress.ready == progress.completed and loop._num_ready_batches_reached()
        start = 0 if over else progress.completed
        return {"epoch": self.trainer.current_epoch, "start": start} | contents

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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.start = state_dict["epoch"], state_dict["start"]


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides how a tokenizer cuts a text."""
    if not tokenizer.is_fast:
        words = sorted(tokenizer.get_vocab().items())
        return f"{type(tokenizer).__name__} {transformers.__version__} {words}"
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call set: each call sets its own.
    state |= {"truncation": None, "padding": None}
    return f"{tokenizers.__version__} {tokenizer.model_input_names} {json.dumps(state)}"


def rowwise(batch: dict[str, list] | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A batch as rows: `datasets` gives columns where several rows are asked for at once."""
    if isinstance(batch, list):
        return batch
    return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]


def names_of(config: Mapping[str, Any]) -> list[str]:
    """The label names of a model's config in their order."""
    names = config["id2label"]
    return [names[key] for key in sorted(names, key=int)]
