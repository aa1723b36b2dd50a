"""Continued pretraining with a masked language model (Gururangan et al. 2020).

Shapes: B batch, T tokens, N masked tokens of the batch, V vocabulary.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torchmetrics import MetricCollection
from transformers import AutoModelForMaskedLM, AutoTokenizer

from thaw.cli.watched_metric import MASKED
from thaw.data.batch.masking import Masking
from thaw.encoder.load import keep_pooler, load_fresh
from thaw.encoder.masked_logits import masked_logits, masked_loss, tie_head
from thaw.encoder.sentence_modules import keep_sentence_files
from thaw.errors import ThawError
from thaw.report.sections import Section, Table, TestResults
from thaw.tasks.base import EncoderTask
from thaw.tasks.losses import Distillation, WeightedMean, scale_for_ddp
from thaw.tasks.predictors.mlm import MaskedPredictor
from thaw.tasks.pretraining import FrozenScore, Probes, frozen_tables

log = logging.getLogger(__name__)

EVALUATED = (0, -1)  # seed and epoch of the masks of validation and test: the same in every run


class MaskedLanguageModel(EncoderTask):
    """Predicts masked tokens; the decoder is tied to the embeddings.

    Args:
        checkpoint: model directory; a head that it lacks is initialized.
        max_tokens: largest number of tokens of a text.
        masking: unit that is masked, "token" or "whole_word".
        mask_probability: probability that a token, or a word, is masked.
        mask_split: fractions of these that become the mask token, a random token, and stay.
        probes: texts with [MASK] that are filled before, during and after training.
        frozen_score: options of data that name labelled texts, such as `train` and `label`; a
            classifier of the frozen encoder's embeddings is scored on them at each validation.
        distill: weight in the loss of `thaw.tasks.losses.Distillation`, which keeps token states
            near those of the checkpoint; 0.0: none.
        options: options of `OptimizedModule`; the seed also decides the masks of training, while
            those of validation and test are always the same.

    Raises:
        ThawError: an option does not fit, or a probe has no [MASK].
    """

    pipeline = "fill-mask"
    predictor = MaskedPredictor
    metrics = MASKED
    examples = ("input=texts.txt output=out.jsonl", "data=files data.test=other.txt")
    validates_first = True
    inputs_change = "task=mlm masks other tokens in every epoch"

    def __init__(
        self,
        checkpoint: str | Path,
        max_tokens: int = 128,
        masking: Literal["token", "whole_word"] = "token",
        mask_probability: float = 0.15,
        mask_split: Sequence[float] = (0.8, 0.1, 0.1),
        probes: Sequence[str] = (),
        frozen_score: Mapping[str, Any] | None = None,
        distill: NonNegativeFloat = 0.0,
        **options: Any,
    ) -> None:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        special = set(tokenizer.all_special_ids)
        ordinary = [i for i in sorted(tokenizer.get_vocab().values()) if i not in special]
        self_masking = Masking(
            tokenizer.mask_token_id, np.array(ordinary), masking, mask_probability, mask_split
        )
        asked = Probes(probes, tokenizer, max_tokens)
        model, fresh = load_fresh(AutoModelForMaskedLM, checkpoint)
        if tie_head(model, fresh):
            log.info(
                "The checkpoint has no head for masks: a fresh one, tied to its embeddings. "
                "experiment=chapter/adapt trains it alone first, which spares the encoder"
            )
        super().__init__(model, **options)
        self.pipeline_options = {"tokenizer_kwargs": {"truncation": True, "max_length": max_tokens}}
        self.checkpoint = Path(checkpoint)
        self.max_tokens = max_tokens
        self.masking = self_masking
        self.probes = asked
        self.scores = MetricCollection({"accuracy": WeightedMean()})
        self.distill = distill
        self.distillation = Distillation(checkpoint) if distill else None
        self.frozen_score = FrozenScore(frozen_score) if frozen_score else None

    def configure_model(self) -> None:
        asks = self.probes.texts or self.frozen_score or self.distillation
        if self._device_mesh is not None and asks:
            options = "task.probes=[] task.frozen_score=null task.distill=0"
            raise ThawError(f"trainer=fsdp: no process has the whole model to ask: {options}.")
        super().configure_model()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.packs &= self.distillation is None  # whose teacher takes padded batches
        if self.frozen_score is not None and stage in ("fit", "validate"):
            self.frozen_score.read(self.checkpoint, self.seed)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the logits (N, V) at `positions` (N,) of the flattened batch."""
        positions = inputs.pop("positions")
        with self.arranged(inputs) as arranged:
            return masked_logits(self.model, arranged, positions)

    def on_before_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int
    ) -> dict[str, Any]:
        """Masks a batch: `words` becomes `positions` (N,) and `labels` (N,).

        Not in the loader, whose workers do not know the epoch.
        """
        training = self.trainer.training
        seed, epoch = (self.seed, self.current_epoch) if training else EVALUATED
        return super().on_before_batch_transfer(self.mask(batch, seed, epoch), dataloader_idx)

    def mask(self, batch: dict[str, Tensor], seed: int, epoch: int) -> dict[str, Tensor]:
        """Returns a batch with masks that follow from (seed, epoch, row)."""
        batch = dict(batch)
        words, ids = batch.pop("words").numpy(), batch["input_ids"]
        seen, positions = self.masking(ids.numpy(), words, batch["row"].numpy(), seed, epoch)
        batch["positions"] = torch.from_numpy(positions)
        batch["labels"] = ids.flatten()[batch["positions"]]
        batch["input_ids"] = torch.from_numpy(seen)
        return batch

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Computes the mean cross-entropy, 0 if nothing is masked, and the number of right
        tokens."""
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "positions", "row")}
        with self.arranged(inputs) as arranged:
            total, right = masked_loss(self.model, arranged, batch["positions"], batch["labels"])
        return total / max(1, len(batch["labels"])), right

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        states: list[Tensor] = []
        hook = self.model.base_model.register_forward_hook(
            lambda encoder, arguments, output: states.append(output.last_hidden_state)
        )
        try:
            loss, _ = self.loss(batch)
        finally:
            hook.remove()
        self.log("train/loss", loss, batch_size=len(batch["row"]))
        loss = scale_for_ddp(loss, len(batch["labels"]))
        if self.distillation is not None:
            distance, tokens = self.distillation(batch, states[0])
            self.log("train/distance", distance, batch_size=len(batch["row"]))
            loss = loss + self.distill * scale_for_ddp(distance, tokens)
        return loss

    def evaluate(self, batch: dict[str, Tensor]) -> None:
        """Adds a batch to the means over masked tokens."""
        loss, right = self.loss(batch)
        if count := len(batch["labels"]):
            self.eval_loss.update(loss, count)
            self.scores["accuracy"].update(right / count, count)

    def log_scores(self, stage: str, metrics: Any) -> dict[str, Any]:
        """Logs the perplexity too."""
        self.log(f"{stage}/perplexity", self.eval_loss.compute().exp())
        return super().log_scores(stage, metrics)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.frozen_score is not None:
            found = self.frozen_score(self.model, self.trainer.precision_plugin.forward_context)
            self.log_dict({f"val/{name}": value for name, value in found.items()})

    def logged_metrics(self) -> dict[str, str]:
        """Returns the metrics of a validation: which there are depends on `frozen_score`."""
        scored = self.frozen_score is not None
        return {n: mode for n, mode in self.metrics.items() if scored or not n.startswith("frozen")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the results of the probes so far."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["probes"] = self.probes.rows

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.probes.restore(checkpoint["probes"])

    def on_train_start(self) -> None:
        if self.global_step == 0:
            self.probe("start")

    def on_train_epoch_end(self) -> None:
        self.probe(f"epoch {self.current_epoch + 1}")

    def probe(self, stage: str) -> None:
        """Fills the probes, prints and keeps the result; in the first process only."""
        if self.trainer.is_global_zero:
            self.probes.ask(self.model, stage, self.trainer.loggers, self.trainer.global_step)

    def complete_export(self, directory: Path) -> None:
        """Adds what the checkpoint had and a model for masked tokens lacks, for the task that
        starts from the export: the pooler, and how sentence-transformers pools token states."""
        keep_pooler(self.checkpoint, self.model, directory)
        keep_sentence_files(self.checkpoint, directory)

    def test_results(self) -> TestResults:
        return TestResults({})

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes nothing: predictions of all masked tokens are of no use."""
        return []

    def findings(self, metrics: Mapping[str, float]) -> list[Section]:
        """Returns perplexity and probes before training and after it."""
        names = {"val/": "validation", "test/": "test"}
        rows = [
            [of, name, metrics.get(f"start/{of}") if part == "val/" else None, metrics[part + of]]
            for of in ("perplexity", "loss", "accuracy")
            for part, name in names.items()
            if part + of in metrics
        ]
        columns = ("of masked tokens", "split", "before training", "after")
        return [*frozen_tables(metrics), Table("pretraining", columns, rows), self.probes.table()]

    def finish(self, run_dir: Path) -> dict[str, float]:
        """Fills the probes with the final weights and writes `probes.json`."""
        self.probe("end")
        self.probes.write(run_dir / "probes.json")
        return self.probes.metrics()
