"""What every data module shares: from the splits to tokens, and what is said of them."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import PositiveInt
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from thaw.data.contents import require_same_contents
from thaw.data.encode.positions import require_room
from thaw.data.encode.token_cache import Rows, cache_key, cached_rows, vocabulary
from thaw.data.read.labels.names import label_counts
from thaw.data.split_data import SplitData
from thaw.data.summary import DataSummary, SplitSummary
from thaw.errors import ThawError

log = logging.getLogger(__name__)


class EncoderData(SplitData):
    """Reads, checks, encodes and batches the splits of a data set.

    Args:
        tokenizer: the model's directory.
        max_tokens: length of the longest text in tokens.
        trained: config of a finished run's model, which the data must fit; None: train's labels.
        options: `SplitData`'s.
    """

    cut_hint = ""  # what to do about texts that are cut

    def __init__(
        self,
        tokenizer: str | Path,
        max_tokens: PositiveInt = 128,
        trained: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.trained = trained
        self.max_tokens = max_tokens
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer, trust_remote_code=False
        )
        self.labels: list[str] = []  # names of the classes, in the order of the model's outputs
        self.token_statistics: dict[str, Mapping[str, int]] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        require_room(max_tokens, self.tokenizer.model_max_length, Path(tokenizer))

    def window_stride(self, stride: int | None) -> int:
        """Returns how many tokens two windows of a text share, by default a quarter of them."""
        stride = self.max_tokens // 4 if stride is None else stride
        room = self.max_tokens - self.tokenizer.num_special_tokens_to_add()
        if not 0 <= stride < room:
            raise ThawError(
                f"data.stride={stride}: neighbouring windows of data.max_tokens={self.max_tokens} "
                f"can share 0 to {room - 1} tokens."
            )
        return stride

    def setup(self, stage: str) -> None:
        """Reads the splits, unless they have been read: Lightning calls it for each stage."""
        if not self.rows:
            self.read()

    def read(self) -> None:
        """Reads, checks and encodes the splits, and finds the labels."""
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

    def report(self, split: str, count: int, statistics: Mapping[str, int]) -> None:
        """Warns of texts that are cut, as `tokenize` counted them."""
        if statistics.get("cut"):
            log.warning(
                f"{split}: {statistics['cut']} of {count} texts are longer than data.max_tokens="
                f"{self.max_tokens} and cut (the longest: {statistics['longest']}){self.cut_hint}"
            )

    def summary(self) -> DataSummary:
        """Returns what was read, left out and cut, and the labels of each split, after `read`."""
        sources = {rows.source.origin: rows.source for rows in self.rows.values() if rows.source}
        splits = {split: self.split_summary(split) for split in self.rows}
        return DataSummary(str(self.name), self.max_tokens, list(sources.values()), splits)

    def split_summary(self, split: str) -> SplitSummary:
        """Returns what a split holds."""
        rows, about = self.rows[split], self.token_statistics.get(split, {})
        mean = None
        if split in self.encoded and len(rows):
            mean = float(self.encoded[split].data.column("length").to_numpy().sum()) / len(rows)
        labels, longest, cut = dict(self.counts(rows)), about.get("longest"), about.get("cut", 0)
        content = str(self.contents.get(split, {}).get("hash", ""))
        return SplitSummary(len(rows), rows.repeats, labels, mean, longest, cut, content)

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """Options that other libraries need to read a text as this data is read."""
        return {}

    def counts(self, rows: Any) -> Mapping[str, int]:
        """Returns how many texts have each label."""
        return label_counts(rows.labels)

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
