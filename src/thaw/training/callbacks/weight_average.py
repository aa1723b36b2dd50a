"""An exponential moving average of the weights, which is validated, tested and exported."""

import warnings
from typing import Annotated, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from pydantic import Field
from torch.optim.swa_utils import get_ema_multi_avg_fn

from thaw.errors import ThawError


class WeightAverage(WeightAveraging):
    """Averages the weights after each step, and puts the average in place for evaluations.

    The average stays in place until the next step, so that the best checkpoint holds it.
    Lightning's `EMAWeightAveraging` takes it back before, and a checkpoint without the optimizer's
    state would hold the weights of the last step; it also averages integers such as positions.

    Args:
        decay: weight of the average of before; the rest is that of the new weights.

    Raises:
        ThawError: the task or the strategy has no weights to average.
    """

    def __init__(self, decay: Annotated[float, Field(gt=0, lt=1)] = 0.99) -> None:
        # By lerp: a frozen weight, which does not change, keeps its bits.
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.in_place = False

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if why := getattr(pl_module, "not_averaged", ""):
            raise ThawError(f"callbacks=ema: {why}. Take callbacks=default.")
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ThawError(
                "callbacks=ema: no process of trainer=fsdp has whole weights: trainer=ddp."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You're using the WeightAveraging")  # of fsdp
            super().setup(trainer, pl_module, stage)

    def _swap_models(self, pl_module: Any) -> None:
        super()._swap_models(pl_module)
        self.in_place = not self.in_place

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self.in_place:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leaves the average in place."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if self.in_place:
            self._swap_models(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self.in_place:
            self._swap_models(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the state; within a validation, average and weights are in each other's place."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.in_place:
            weights, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": average, "current_model_state": weights}
