"""Splits of a data set: named, cut off train as fractions, or folds of it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from thaw.data.loaders import Loaders
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import FormatName, Quoting, Reading
from thaw.data.read.rows import Row, Rows
from thaw.data.read.sampling.folds import fold_split, held_out, require_fold
from thaw.data.read.sampling.splits import cut
from thaw.data.read.surrogates import replace_surrogates
from thaw.data.read.text_store import differently_labelled, hashes
from thaw.data.read.texts import SPLITS, hub_rows, origin_of
from thaw.errors import ThawError
from thaw.storage.files import at_home
from thaw.storage.wheels import fetch_wheels

log = logging.getLogger(__name__)


class SplitData(Loaders):
    """Reads the splits of a data set.

    A split is named (a file, or one on the Hub), or a fraction of `train`. With `folds`, all of
    `train` is dealt out into that many folds; the one that `fold` numbers from 0 is the test split,
    in place of a fraction, or validation where a test split is named; fractions are then of the
    other folds. See `thaw.data.read.sampling.folds.held_out`.

    The arguments are options, described in `conf/data/files.yaml`; those not named here are
    `Loaders`'s.
    """

    example = "."  # in messages: how a command with this task's own files looks

    def __init__(
        self,
        name: str,
        train: str | None,
        validation: str | float | None = 0.1,
        test: str | float | None = None,
        cut_from: str | None = None,
        train_size: PositiveInt | None = None,
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
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.name = name
        named = {"train": train, "validation": validation, "test": test}
        self.sources = {split: at_home(source) for split, source in named.items()}
        self.cut_from = at_home(cut_from) if train is None else self.sources["train"]
        self.train_size = train_size
        require_fold(folds, fold, self.sources)
        self.folds, self.fold = folds, fold
        if folds is not None:
            self.sources[fold_split(self.sources)] = 1 / folds
        self.path = at_home(path)
        self.hub: dict[str, Any] = {"config": config, "revision": revision}
        self.split_seed = split_seed
        self.reading = Reading(format, encoding, header, columns, quoting, reader)
        self.rows: dict[str, Any] = {}  # what was read, by split

    def pick(self, rows: Iterable[Row], origin: str) -> Any:
        """Checks the rows of a source, called `origin`, and picks out what the task needs."""
        raise NotImplementedError

    def read_splits(self, only: str | None = None) -> dict[str, Any]:
        """Returns the rows of each split, or of one, with fractions cut from train."""
        train = self.sources["train"]
        fractions = self.fractions()
        if only is not None and self.sources[only] is None:
            there = [s for s, v in self.sources.items() if v is not None]
            raise ThawError(
                f"the data {self.name} has no {only} split; it has {', '.join(there)}: "
                f"{' or '.join(f'split={s}' for s in there)} evaluates it. Other data is named "
                f"with data.{only}=<file>."
            )
        source = train if only is None else self.cut_from
        if source is None and (only is None or only in fractions):
            raise ThawError(f"the data {self.name} needs data.train=<file>{self.example}")
        root = self.root()
        wanted = SPLITS if only is None else (only,)
        named = [s for s in wanted if self.sources[s] is not None and s not in fractions]
        out = {split: self.read_one(root, str(self.sources[split])) for split in named}
        if fractions and (only in (None, "train") or only in fractions):
            whole = out["train"] if "train" in out else self.read_one(root, str(self.cut_from))
            out |= self.cut(whole, fractions)
        if only is None and self.train_size is not None:
            out["train"] = self.drawn(out["train"], self.train_size)
        return {split: out[split] for split in wanted if split in out}

    def drawn(self, train: Any, size: int) -> Any:
        """Returns `size` texts of train, drawn with the run's seed; raises ThawError if it has
        fewer."""
        if size > len(train):
            raise ThawError(
                f"data.train_size={size}: train has {len(train)} texts. null trains on all of them."
            )
        log.info("train: %d of %d texts, drawn with the seed", size, len(train))
        return train.take(np.random.default_rng(self.seed).permutation(len(train))[:size].tolist())

    def fractions(self) -> dict[str, float]:
        """Returns the splits that are cut from train, with their shares."""
        return {s: float(v) for s, v in self.sources.items() if isinstance(v, (int, float))}

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

    def read_one(self, root: Path | str | None, split: str) -> Any:
        """Returns what `pick` makes of one file, or of one split on the Hub."""
        origin = origin_of(root, split)
        rows = self.source_rows(root, split)
        picked = self.pick(replace_surrogates(rows, origin), origin)
        return replace(picked, source=picked.source.read_with(rows.remarks))

    def source_rows(self, root: Path | str | None, split: str) -> Rows:
        """Returns the rows of one file, or of one split on the Hub (`root` a string)."""
        if isinstance(root, str):
            return Rows(hub_rows(root, split, **self.hub), "Hugging Face Hub")
        return rows_of((root or Path()) / split, self.reading)

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
        """Warns of texts that train shares with a split that is evaluated, and of those that have
        different labels in one split."""
        numbers = {split: hashes(rows.texts) for split, rows in self.rows.items()}
        for split, own in numbers.items():
            if torn := differently_labelled(self.rows[split].labels, own):
                one, two = torn[0]
                labels = self.rows[split].labels
                log.warning(
                    f"{split}: {len({own[i] for i, _ in torn})} texts occur with different labels, "
                    f"and are kept, such as {' '.join(self.rows[split].texts[one])!r:.60}: "
                    f"{labels[one]!s:.60} and {labels[two]!s:.60}"
                )
            if split != "train" and (n := int(np.isin(own, numbers["train"]).sum())):
                log.warning("%s: %d of %d texts are in train too", split, n, len(self.rows[split]))
