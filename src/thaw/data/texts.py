"""Whole texts, or pairs of them, of which a model says one thing: a label, labels or a number.

Shapes: B batch, T tokens, W windows, C labels.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeInt

from thaw.data.base import EncoderData
from thaw.data.encode.blocks import portions
from thaw.data.encode.token_cache import Rows
from thaw.data.encode.windows import cut_texts, text_windows
from thaw.data.loaders import rowwise
from thaw.data.read.row_values import Columns
from thaw.data.read.rows import Row
from thaw.data.read.texts import Texts, read_texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


class TextData(EncoderData):
    """Reads, encodes and batches texts, as `conf/data/files.yaml` says."""

    example = ", such as data.train=reviews.csv data.text=review data.label=stars"
    prompt = ""  # what the model reads before each text
    has_windows: ClassVar[bool] = False  # whether the task can read long texts in windows

    def __init__(
        self,
        text: str | int | Sequence[str | int] = "text",
        label: str | int | Sequence[str | int] = "label",
        drop_empty: bool = False,
        drop_unlabelled: bool = False,
        group: str | None = None,
        long: Literal["cut", "windows"] = "cut",
        stride: NonNegativeInt | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        names = [str(c) for c in ([text] if isinstance(text, str | int) else text)]
        self.reading = replace(self.reading, text=names[0] if len(names) == 1 else "text")
        self.columns = Columns(
            text=names,
            label=str(label) if isinstance(label, str | int) else [str(c) for c in label],
            drop_empty=drop_empty,
            group=group,
            drop_unlabelled=drop_unlabelled,
        )
        if not 1 <= len(self.columns.text) <= 2:
            raise ThawError(f"data.text={text}: one column, or two for pairs.")
        self.stride = self.checked_stride(long, stride)  # of windows; None: long texts are cut
        if self.has_windows and len(names) == 1 and self.tokenizer.is_fast:
            self.cut_hint = ". data.long=windows reads all of them"

    def checked_stride(self, long: str, stride: int | None) -> int | None:
        """Returns how many tokens windows share, None without windows; raises ThawError if none
        can."""
        if long == "cut":
            if stride is not None:
                raise ThawError(f"data.stride={stride} is for windows: add data.long=windows.")
            return None
        if not self.has_windows:
            raise ThawError("data.long=windows is for task=sequence and task=regression.")
        if len(self.columns.text) == 2:
            raise ThawError("data.long=windows takes one text column, data.text has two.")
        if not self.tokenizer.is_fast:
            raise ThawError(
                "data.long=windows needs a fast tokenizer (tokenizer.json), and this model has "
                f"{type(self.tokenizer).__name__}, in Python. data.long=cut goes without."
            )
        return self.window_stride(stride)

    @property
    def pipeline_options(self) -> dict[str, Any]:
        return {"truncation": True, "max_length": self.max_tokens}

    def pick(self, rows: Iterable[Row], origin: str) -> Texts:
        return read_texts(rows, self.columns, origin)

    def task_kwargs(self) -> dict[str, Any]:
        return {} if self.stride is None else {"window_stride": self.stride}

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        windows = {} if self.stride is None else {"stride": self.stride}
        return {"max_tokens": self.max_tokens, **windows}

    def encoded_labels(self, labels: Sequence[Any]) -> list[Any]:
        """Returns labels as the numbers that a model is trained on."""
        raise NotImplementedError

    def tokenize(self, rows: Texts, split: str) -> Iterator[tuple[Rows, dict[str, int]]]:
        begin = long = longest = windows = 0
        for texts in portions(rows.texts, lambda text: sum(map(len, text))):
            part = [list(column) for column in zip(*texts, strict=True)]
            part[0] = [self.prompt + text for text in part[0]] if self.prompt else part[0]
            labels = rows.labels[begin : begin + len(texts)]
            if self.stride is None:
                columns, lengths = cut_texts(self.tokenizer, part, self.max_tokens)
                columns["length"] = [min(length, self.max_tokens) for length in lengths]
            else:
                found = text_windows(self.tokenizer, part[0], self.max_tokens, self.stride)
                columns, lengths = found
                columns["length"] = [sum(map(len, pieces)) for pieces in columns["input_ids"]]
                columns["windows"] = list(map(len, columns["input_ids"]))
                windows += sum(columns["windows"])
            columns["row"] = list(range(begin, begin + len(labels)))
            columns["labels"] = self.encoded_labels(labels)
            long += sum(length > self.max_tokens for length in lengths)
            begin, longest = begin + len(texts), max(longest, *lengths)
            about = {"cut": long} if self.stride is None else {"long": long, "windows": windows}
            yield columns, about | {"longest": longest}

    def report(self, split: str, count: int, statistics: Mapping[str, int]) -> None:
        if self.stride is None:
            super().report(split, count, statistics)
        else:
            log.info(
                f"{split}: {statistics['long']} of {count} texts are longer than data.max_tokens="
                f"{self.max_tokens} (the longest: {statistics['longest']}); all are read, in "
                f"{statistics['windows']} windows"
            )

    def collate(self, batch: dict[str, list] | list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Returns `input_ids`, `attention_mask` (B, T), `labels` (B,) or (B, C), `row` (B,).

        Under `data.long=windows`, the inputs are those of all windows of the batch's texts (W, T),
        and `windows` (B,) is how many each text has.
        """
        rows = [{k: v for k, v in row.items() if k != "length"} for row in rowwise(batch)]
        if self.stride is None:
            return dict(self.tokenizer.pad(rows, return_tensors="pt"))
        whole = {
            key: torch.tensor([row.pop(key) for row in rows])
            for key in ("labels", "row", "windows")
        }
        flat = {key: [piece for row in rows for piece in row[key]] for key in rows[0]}
        return dict(self.tokenizer.pad(flat, return_tensors="pt")) | whole
