"""What a freeze strategy asks for in training: states after frozen blocks, and unfreezing."""

import logging
from typing import Any

import lightning.pytorch as pl

from thaw.encoder.frozen_prefix.cache import Cache, PrefixUnavailable
from thaw.encoder.frozen_prefix.prefix import Prefix
from thaw.encoder.sharding import sharded
from thaw.errors import ThawError
from thaw.storage.cache import gib

log = logging.getLogger(__name__)


class FrozenBlocks(pl.Callback):
    """Computes the states after the leading frozen blocks of every text, or finds them in a cache;
    without one, frozen blocks run in every step."""

    def __init__(self, cache: Cache | None) -> None:
        self.cache = cache
        # The frozen blocks and their states; None before training, and if they run in every step.
        self.prefix: Prefix | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Computes the states of train and validation; the log says why where it does not."""
        self.prefix = None
        if not pl_module.frozen:
            return
        try:
            splits = self.covered(trainer, pl_module)
            assert self.cache is not None
            prefix = Prefix(pl_module.model, self.cache, str(trainer.precision))
            if prefix.depth == 0:
                return
            prefix.fill(splits, trainer.precision_plugin.forward_context)
        except (PrefixUnavailable, ThawError) as error:
            log.info("frozen blocks run in every step: %s", error)
            return
        finally:
            pl_module.train(pl_module.training)
        self.prefix = prefix
        log.info(
            "frozen blocks: %d run once, their states take %s", prefix.depth, gib(prefix.bytes)
        )

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Computes the states of the test, too, where there are those of training."""
        rows = trainer.datamodule.encoded.get("test")  # type: ignore[attr-defined]
        if self.prefix is None or rows is None or trainer.limit_test_batches != 1.0:
            return
        try:
            self.prefix.fill({"test": rows}, trainer.precision_plugin.forward_context)
        except PrefixUnavailable as error:
            log.info("frozen blocks run in the test: %s", error)
        finally:
            pl_module.train(pl_module.training)

    def covered(self, trainer: Any, task: Any) -> dict[str, Any]:
        """Returns the encoded rows of train, and of validation if all of it is read; raises
        PrefixUnavailable if inputs differ between epochs, or training reads a part of the data."""
        data = trainer.datamodule
        if self.cache is None:
            raise PrefixUnavailable("freeze.cache=false")
        if task.inputs_change:
            raise PrefixUnavailable(task.inputs_change)
        if sharded(task):
            raise PrefixUnavailable("trainer=fsdp keeps no block whole")
        if trainer.overfit_batches or trainer.limit_train_batches != 1.0:
            raise PrefixUnavailable("the run trains on a part of the data")
        if data is None or not hasattr(data, "encoded"):
            raise PrefixUnavailable("the texts come from dataloaders of your own")
        steps = -(-len(data.encoded["train"]) // (data.batch_size * trainer.world_size))
        if 0 <= trainer.max_steps < steps:
            raise PrefixUnavailable(f"trainer.max_steps={trainer.max_steps} is less than an epoch")
        whole = ["train"] + (["validation"] if trainer.limit_val_batches == 1.0 else [])
        return {split: data.encoded[split] for split in whole if split in data.encoded}

    def metrics(self) -> dict[str, float]:
        """Returns the values for metrics.json, none if the frozen blocks ran in every step."""
        if self.prefix is None:
            return {}
        return {
            "prefix_blocks": self.prefix.depth,
            "prefix_seconds": round(self.prefix.seconds, 2),
            "prefix_mib": round(self.prefix.bytes / 2**20, 2),
        }


class Unfreezing(pl.Callback):
    """Unfreezes a task's stages one after the other, `every` steps apart.

    Which stages train follows from the step alone, so a resumed run has them right. Lightning's
    `BaseFinetuning` freezes again on resume (lightning#21901) and fails under DDP (#20340).

    Args:
        every: number of steps between two stages; below 1, a fraction of all steps.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self.done: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.done = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        stages = len(pl_module.unfreeze_stages)
        steps = int(trainer.estimated_stepping_batches)
        every = max(1, round(self.every * steps if self.every < 1 else self.every))
        due = min(trainer.global_step // every, stages)
        if due == self.done:
            return
        self.done = due
        # DDP counts on a gradient of all that it found when it wrapped the model.
        pl_module.unfreeze_until(due, without_gradient=trainer.world_size == 1)
        log.info("step %d: %d of %d stages train", trainer.global_step, due, stages)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Drops gradients of what is still frozen: AdamW then leaves weights and moments as they
        are."""
        for module in pl_module.still_frozen():
            for parameter in module.parameters():
                parameter.grad = None
