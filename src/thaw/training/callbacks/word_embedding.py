"""Trains only those rows of the word embedding that training texts have."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from thaw.encoder.trained_rows import TrainedRows, train_rows


class WordEmbedding(pl.Callback):
    """Keeps the rows of other tokens out of the steps of AdamW on a CPU, which would change them by
    weight decay alone.

    Checkpoints are the same with and without.
    """

    def __init__(self) -> None:
        self.rows: TrainedRows | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Puts `TrainedRows` in the model, unless other callbacks or processes need it whole."""
        data: Any = getattr(trainer, "datamodule", None)
        texts = getattr(data, "encoded", {}).get("train")
        made = getattr(pl_module.make_optimizer, "func", pl_module.make_optimizer)
        fits = stage == "fit" and made is torch.optim.AdamW and texts is not None
        fits &= trainer.strategy.root_device.type == "cpu"
        fits &= not isinstance(trainer.strategy, ModelParallelStrategy)
        fits &= not pl_module.unfreeze_stages  # which hold modules that are frozen by and by
        fits &= not any(isinstance(c, WeightAveraging) for c in trainer.callbacks)  # type: ignore[attr-defined]
        if fits:
            self.rows = train_rows(pl_module.model, texts, data.tokenizer.all_special_ids)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Puts the embedding back."""
        if self.rows is not None:
            pl_module.model.set_input_embeddings(self.rows.whole())
        self.rows = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Spreads the optimizer's moments of the rows over the whole weight."""
        if self.rows is None:
            return
        for optimizer, saved in zip(
            trainer.optimizers, checkpoint["optimizer_states"], strict=True
        ):
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            for number, parameter in enumerate(trained):
                if parameter is self.rows.weight and number in saved["state"]:
                    own = {k: self.rows.spread(v) for k, v in saved["state"][number].items()}
                    saved["state"] = saved["state"] | {number: own}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Takes the rows' moments out of those of a checkpoint."""
        if self.rows is not None:
            state = trainer.optimizers[0].state[self.rows.weight]
            state.update({k: self.rows.gather(v) for k, v in state.items()})
