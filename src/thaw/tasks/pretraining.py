"""What task=mlm shows of a model while it is pretrained: the score of a classifier on its frozen
embeddings, and the words that it fills masks with.

Shapes: N texts, D width, C labels.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger
from rich import table as rich_table
from rich.console import Console
from rich.text import Text
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thaw.cli.check import GIVEN, check_arguments
from thaw.data.sequence import SequenceData
from thaw.encoder.linear_heads import logistic_head
from thaw.encoder.masked_logits import fill, with_mask
from thaw.encoder.sentence_modules import read_sentence_modules
from thaw.errors import ThawError
from thaw.report.sections import Table
from thaw.storage.files import write_atomic
from thaw.tasks.losses import labels_and_inputs
from thaw.tasks.metrics.classification import classification_metrics, predicted_classes

# Makes the context in which the encoder computes, which sets the precision.
Context = Callable[[], AbstractContextManager]


class FrozenScore:
    """Fits a logistic regression to embeddings of labelled texts and scores it on validation.

    A cheap sign of what pretraining does for a classifier, long before one is fine-tuned. Only the
    embeddings change between two scores: texts, pooling and regression are the same.

    Args:
        options: options of `thaw.data.sequence.SequenceData` that name the labelled texts, such as
            `train` and `label`.
        texts: largest number of texts of train that the regression is fitted to, and of validation
            that it is scored on, drawn with the seed.

    Raises:
        ThawError: there is no such option.
    """

    def __init__(self, options: Mapping[str, Any], texts: int = 1000) -> None:
        self.options = {"name": "labelled texts", **options}
        target = f"{SequenceData.__module__}.{SequenceData.__qualname__}"
        check_arguments("task.frozen_score", self.options | {"_target_": target}, GIVEN["data"])
        self.texts = texts
        self.data: Any = None
        self.pooling: Any = None

    def read(self, checkpoint: str | Path, seed: int) -> None:
        """Reads and tokenizes the labelled texts, unless they have been; raises ThawError if they
        cannot be read, or there is no validation."""
        if self.data is not None:
            return
        self.data = SequenceData(tokenizer=checkpoint, seed=seed, **self.options)
        self.data.read()
        if "validation" not in self.data.rows:
            raise ThawError(
                "task.frozen_score needs labelled texts of validation: validation: 0.1 in it, or "
                "task.frozen_score=null."
            )
        rng = np.random.default_rng(seed)
        sizes = {split: len(self.data.rows[split]) for split in ("train", "validation")}
        self.rows = {split: rng.permutation(size)[: self.texts] for split, size in sizes.items()}
        self.checkpoint = checkpoint

    def __call__(self, model: PreTrainedModel, context: Context) -> dict[str, Tensor]:
        """Returns `frozen_f1` and `frozen_accuracy`, each a scalar, of the encoder as it is: of a
        model with any head, in eval mode."""
        (x, y), (held_out, gold) = (self.embedded(model, split, context) for split in self.rows)
        several, names = self.data.multi_label, self.data.labels
        if several:
            learned = (y.amin(0) != y.amax(0)).nonzero()[:, 0]  # the others are always predicted
            head = logistic_head(x, y[:, learned], [names[i] for i in learned])
            found = y[:1].expand_as(gold).long()
            found = found.index_copy(1, learned, predicted_classes(head(held_out), True))
        else:
            learned = y.unique()  # a label without a drawn text cannot be learned
            head = logistic_head(x, torch.searchsorted(learned, y), [names[i] for i in learned])
            found = learned[predicted_classes(head(held_out), False)]
        scores = classification_metrics(names, several)
        scores.update(preds=found, target=gold.long())
        values = scores.compute()
        return {f"frozen_{name}": values[name] for name in ("f1", "accuracy")}

    @torch.no_grad()
    def embedded(
        self, model: PreTrainedModel, split: str, context: Context
    ) -> tuple[Tensor, Tensor]:
        """Returns the embeddings (N, D) of the drawn texts of a split, and their labels, (N,) or
        (N, C); see `__call__`."""
        if self.pooling is None:  # sentence-transformers is loaded for it, and only for it
            self.pooling = read_sentence_modules(self.checkpoint, model.config.hidden_size)
            self.pooling.eval().to(model.device)
        encoded = self.data.encoded[split]
        rows = self.rows[split][np.argsort(np.array(encoded["length"])[self.rows[split]])]
        found, labels = [], []
        for begin in range(0, len(rows), self.data.eval_batch_size):
            batch = self.data.collate(encoded[rows[begin : begin + self.data.eval_batch_size]])
            wanted, inputs = labels_and_inputs(batch)
            inputs = {k: v.to(model.device) for k, v in inputs.items()}
            with context():
                states = model.base_model(**inputs).last_hidden_state
            found.append(self.pooling(states, inputs["attention_mask"]).cpu())
            labels.append(wanted)
        return torch.cat(found), torch.cat(labels)


def frozen_tables(metrics: Mapping[str, float]) -> list[Table]:
    """Returns the scores before training and after it as a table, none if there are none."""
    rows = [
        [name.replace("_", " "), metrics[f"start/{name}"], metrics[f"val/{name}"]]
        for name in ("frozen_f1", "frozen_accuracy")
        if f"start/{name}" in metrics and f"val/{name}" in metrics
    ]
    note = "Logistic regression on the frozen encoder's embeddings of the labelled texts."
    columns = ("on validation", "before training", "after")
    return [Table("frozen encoder", columns, rows, note)] if rows else []


class Probes:
    """The five likeliest tokens for each mask of the probes, by stage.

    Args:
        texts: texts with [MASK], or the tokenizer's own mask token.
        tokenizer: tokenizer of the model.
        max_tokens: largest number of tokens of a text.

    Raises:
        ThawError: a text has no mask.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
    ) -> None:
        self.texts = list(texts)
        self.masked = [with_mask(text, tokenizer) for text in texts]
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.rows: list[dict[str, Any]] = []

    def ask(
        self, model: PreTrainedModel, stage: str, loggers: Sequence[Any] = (), step: int = 0
    ) -> None:
        """Fills the probes, prints a table, and logs all stages so far to W&B."""
        if not self.texts:
            return
        modes = {module: module.training for module in model.modules()}
        model.eval()
        filled = fill(model, self.tokenizer, self.masked, self.max_tokens)
        for module, mode in modes.items():
            module.training = mode
        table = rich_table.Table(title=f"probes, {stage}", title_justify="left")
        table.add_column("text")
        table.add_column("five likeliest words")
        for text, masks in zip(self.texts, filled, strict=True):
            for number, top in enumerate(masks, start=1):
                tokens = [{"token": t, "probability": round(p, 6)} for t, p in top]
                self.rows.append({"stage": stage, "probe": text, "mask": number, "top": tokens})
                # Text, not markup: a word may hold brackets.
                table.add_row(Text(text), Text("   ".join(f"{t} {p:.3f}" for t, p in top)))
        Console().print(table)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                columns = ["stage", "probe", "mask", "token", "probability"]
                cells = [
                    [r["stage"], r["probe"], r["mask"], w["token"], w["probability"]]
                    for r in self.rows
                    for w in r["top"]
                ]
                logger.log_table("probes", columns, cells, step=step)

    def restore(self, rows: Sequence[dict[str, Any]]) -> None:
        """Goes on after the stages that a checkpoint keeps."""
        self.rows = list(rows)

    def write(self, path: Path) -> None:
        """Writes stage, probe, number of the mask and five tokens of every stage as JSON."""
        write_atomic(path, json.dumps(self.rows, indent=2, ensure_ascii=False) + "\n")

    def table(self) -> Table:
        """Returns the likeliest words of each mask before training and at the end."""
        stages = [s for s in ("start", "end") if any(r["stage"] == s for r in self.rows)]
        cells = {
            (r["probe"], r["mask"], r["stage"]): " · ".join(
                f"{word['token']} {word['probability']:.3f}" for word in r["top"]
            )
            for r in self.rows
        }
        masks = dict.fromkeys((probe, mask) for probe, mask, _ in cells)
        rows = [
            [probe + (f" (mask {n})" if n > 1 else ""), *(cells[probe, n, s] for s in stages)]
            for probe, n in masks
        ]
        names = {"start": "before training", "end": "after"}
        columns = ("probe", *(names[stage] for stage in stages))
        return Table("probes before and after", columns, rows, examples=True)

    def metrics(self) -> dict[str, float]:
        """Returns the probabilities of every stage under flat names, for metrics.json."""
        return {
            f"probe/{r['stage']}/{r['probe']}/{r['mask']}/{word['token']}": word["probability"]
            for r in self.rows
            for word in r["top"]
        }
