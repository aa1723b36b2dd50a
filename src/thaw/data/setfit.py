"""A few labelled texts, or none but the labels' names, for `task=setfit`.

Shapes: B batch, T tokens, P pairs, C labels.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch.utils.data import DataLoader, Sampler

from thaw.data.batch.pairs import PairBatches, Sampling, sample_pairs
from thaw.data.encode.positions import default_prompt, lowercases
from thaw.data.loaders import rowwise
from thaw.data.read.labels.names import counted, label_counts, label_names
from thaw.data.read.sampling.few_shots import distinct, leave_out
from thaw.data.read.texts import Texts
from thaw.data.sequence import SequenceData
from thaw.errors import ThawError

log = logging.getLogger(__name__)


class SetFitData(SequenceData):
    """Trains on `shots` texts of each label, in batches of texts or of pairs of them.

    Args:
        pairs: all: a batch is `batch_size` texts; sampled: so many pairs, as setfit draws them.
        num_iterations: of sampled pairs: positive and negative pairs for each text.
        sampling: of sampled pairs, where `num_iterations` is None.
        zero_shot: whether train is made of templates filled with the labels' names.
        templates: with {} for the name, used in turn.
        label_texts: what to fill in, in the order of the labels; None: their names.
        options: `SequenceData`'s.
    """

    has_windows = False

    def __init__(
        self,
        pairs: Literal["all", "sampled"] = "all",
        num_iterations: PositiveInt | None = None,
        sampling: Sampling = "oversampling",
        zero_shot: bool = False,
        templates: Sequence[str] = ("This sentence is {}",),
        label_texts: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pairs = pairs
        self.num_iterations = num_iterations
        self.sampling: Sampling = sampling
        self.zero_shot = zero_shot
        self.templates = list(templates)
        self.label_texts = None if label_texts is None else list(label_texts)
        if bad := [t for t in self.templates if t.count("{}") != 1]:
            raise ThawError(f"task.templates: {bad[0]!r} needs one {{}} for the label's name.")
        if not self.templates:
            raise ThawError("task.templates is empty: give texts with {} for the label's name.")
        if zero_shot and len(self.columns.text) > 1:
            raise ThawError("task.zero_shot=true takes one text column, data.text has two.")
        model = Path(options["tokenizer"])
        self.prompt = default_prompt(model)
        if self.prompt:
            log.info("%r is put before each text: the default prompt of the model", self.prompt)
        if lowercases(model) and self.tokenizer.tokenize("A") != self.tokenizer.tokenize("a"):
            log.warning("do_lower_case of %s is left out: capital letters stay", model)

    def read_splits(self, only: str | None = None) -> dict[str, Texts]:
        if only is not None:
            return super().read_splits(only)
        if self.zero_shot:
            return self.from_names()
        out = super().read_splits()
        out["train"] = distinct(out["train"]) if self.shots is None else out["train"]
        counts = label_counts(out["train"].labels)
        if alone := {name: count for name, count in counts.items() if count < 2}:
            raise ThawError(
                f"{out['train'].origin}: labels with one text, and pairs need two of a label: "
                f"{counted(alone)}. Try task.shots=2 or more{leave_out(alone, counts)}."
            )
        return out

    def from_names(self) -> dict[str, Texts]:
        """Returns train from the labels' names, and the evaluated splits as they are."""
        splits = [s for s in ("validation", "test") if self.sources[s] is not None]
        if self.cut_from is None and not isinstance(self.sources["validation"], str):
            splits = [s for s in splits if s != "validation"]  # a share of what is not there
        out = {s: part for split in splits for s, part in self.read_splits(split).items()}
        known = [label for part in out.values() for label in part.labels]
        if not known and self.given_labels is None:
            raise ThawError("task.zero_shot=true needs names: data.labels=[negative,positive].")
        names = label_names(known, self.given_labels)
        said = names if self.label_texts is None else self.label_texts
        if len(said) != len(names):
            raise ThawError(
                f"task.label_texts={said}: expected {len(names)}, for {', '.join(names)}."
            )
        if dumb := [name for name in said if not any(c.isalpha() for c in name)]:
            raise ThawError(
                f"task.zero_shot=true: a label called {dumb[0]!r} says nothing to the model. Say "
                f"what the labels {', '.join(names)} mean: task.label_texts=[negative,positive]."
            )
        several = any(isinstance(label, list) for label in known)
        texts, labels = [], []
        for name, text in zip(names, said, strict=True):
            for number in range(max(2, self.shots or len(self.templates))):
                template = self.templates[number % len(self.templates)]
                texts.append((template.replace("{}", text),))
                labels.append([name] if several else name)
        log.info("zero-shot: %d texts such as %r", len(texts), texts[0][0])
        return {"train": Texts(texts, labels, origin="task.templates")} | out

    @property
    def pipeline_options(self) -> dict[str, Any]:
        return {}  # setfit's model cuts texts by itself

    def task_kwargs(self) -> dict[str, Any]:
        """Returns labels, whether a text has several, and how long texts may be."""
        given = super().task_kwargs()
        given.pop("label_counts", None)
        return given | {"max_tokens": self.max_tokens}

    def cache_key_parts(self, split: str) -> dict[str, Any]:
        parts = super().cache_key_parts(split)
        return parts | {"prompt": self.prompt} if self.prompt else parts

    def loader(self, split: str, batch_size: int, shuffle: bool = False) -> DataLoader:
        loader = super().loader(split, batch_size, shuffle)
        if isinstance(loader.sampler, PairBatches):
            loader.collate_fn = self.collate_pairs
        return loader

    def batches(self, split: str, batch_size: int, shuffle: bool) -> Sampler[list[int]]:
        if not shuffle or self.pairs == "all":
            return super().batches(split, batch_size, shuffle)
        labels = np.asarray(self.encoded[split]["labels"][:])
        pairs = sample_pairs(labels, self.num_iterations, self.sampling)
        return PairBatches(pairs, batch_size, self.seed, **self.ranks())

    def collate_pairs(
        self, batch: dict[str, list] | list[dict[str, Any]]
    ) -> dict[str, torch.Tensor]:
        """Returns `collate` of the different texts of a batch, with `pairs` (P, 2) of them."""
        rows = rowwise(batch)
        numbers = [row["row"] for row in rows]
        _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
        texts = self.collate([rows[i] for i in first])
        return texts | {"pairs": torch.from_numpy(inverse.reshape(-1, 2))}
