"""Fills texts with a mask before, during and after training, to show what the model has learned."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thaw.encoder.masked_logits import fill, with_mask
from thaw.report.sections import Table as FoundTable
from thaw.storage.files import write_atomic


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
        table = Table(title=f"probes, {stage}", title_justify="left")
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

    def table(self) -> FoundTable:
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
        return FoundTable("probes before and after", columns, rows, examples=True)

    def metrics(self) -> dict[str, float]:
        """Returns the probabilities of every stage under flat names, for metrics.json."""
        return {
            f"probe/{r['stage']}/{r['probe']}/{r['mask']}/{word['token']}": word["probability"]
            for r in self.rows
            for word in r["top"]
        }
