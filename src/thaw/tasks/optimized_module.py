"""The optimizer's part of a task: learning rates, steps, clipping, and the seed of each step."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from transformers import Adafactor, PreTrainedModel, get_linear_schedule_with_warmup

from thaw.encoder.blocks import learning_rate_factors, part_of_each_parameter
from thaw.encoder.freeze import FreezeStrategy
from thaw.encoder.sharding import sharded
from thaw.errors import ThawError
from thaw.tasks.encoder_module import EncoderModule
from thaw.training import optim
from thaw.training.callbacks.nonfinite_guard import guard_of
from thaw.training.callbacks.word_embedding import WordEmbedding

Decay = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class OptimizedModule(EncoderModule):
    """Trains an encoder: its optimizer, its schedule, its clipped gradients.

    Args:
        model: Hugging Face model with its head.
        freeze: strategy that freezes modules; None: all train.
        seed: seed of dropout.
        learning_rate: learning rate at the end of warm-up.
        weight_decay: weight decay of all parameters but biases and norms.
        warmup_ratio: fraction of all steps in which the learning rate rises.
        warmup_steps: number of steps in which it rises; None: `warmup_ratio` of all.
        layer_decay: ratio of a block's learning rate to that of the block above it; see
            `thaw.encoder.blocks.factor_of_each_part`.
        gradient_checkpointing: whether blocks are computed again in the backward pass, see
            `EncoderModule`.
        optimizer: class of the optimizer, see `thaw.training.optim.build_optimizer`.
        schedule: schedule of the learning rate, see `thaw.training.optim.build_schedule`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        freeze: FreezeStrategy | None = None,
        seed: int = 0,
        learning_rate: NonNegativeFloat = 2e-5,
        weight_decay: NonNegativeFloat = 0.01,
        warmup_ratio: Fraction = 0.1,
        warmup_steps: NonNegativeInt | None = None,
        layer_decay: Decay = 1.0,
        gradient_checkpointing: bool = False,
        optimizer: Callable[..., torch.optim.Optimizer] = optim.ADAMW,
        schedule: Callable[..., Any] = get_linear_schedule_with_warmup,
    ) -> None:
        super().__init__(model, freeze or FreezeStrategy(), gradient_checkpointing)
        self.seed = seed
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.warmup_steps = warmup_steps
        self.layer_decay = layer_decay
        self.make_optimizer = optimizer
        self.make_schedule = schedule

    def configure_callbacks(self) -> Sequence[Callback]:
        return [*super().configure_callbacks(), WordEmbedding()]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds dropout from seed, epoch and batch alone, so that a resumed run draws the same."""
        numbers = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))
        self.switch_optimizers("train")

    def train(self, mode: bool = True) -> "OptimizedModule":
        """Sets training mode, see `EncoderModule`; a schedule-free optimizer (Defazio et al. 2024)
        puts the averaged weights in place for an evaluation."""
        super().train(mode)
        if not mode and self._trainer is not None and self._trainer.state.fn == "fit":
            self.switch_optimizers("eval")
        return self

    def on_train_end(self) -> None:
        self.switch_optimizers("eval")

    def switch_optimizers(self, mode: Literal["train", "eval"]) -> None:
        """Sets the mode of optimizers that have one, as schedule-free ones; no-op if it is set."""
        for optimizer in self.trainer.optimizers:
            if hasattr(optimizer, mode):
                getattr(optimizer, mode)()

    def configure_optimizers(self) -> Any:
        if sharded(self) and getattr(self.make_optimizer, "func", None) is Adafactor:
            raise ThawError(
                "optimizer=adafactor computes with parts of a weight that trainer=fsdp shares out: "
                "trainer=ddp, or optimizer=adamw."
            )
        factors = learning_rate_factors(self.model, self.layer_decay)
        parts = part_of_each_parameter(self.model) if factors else None
        rates = (self.learning_rate, self.weight_decay, factors, self.head_groups(), parts)
        optimizer = optim.build_optimizer(self.model, *rates, self.make_optimizer)
        steps = self.trainer.estimated_stepping_batches
        warmup = self.warmup_ratio * steps if self.warmup_steps is None else self.warmup_steps
        schedule = optim.build_schedule(optimizer, steps, warmup, self.make_schedule)
        # Logged as lr/<name of the group>.
        scheduler = {"scheduler": schedule, "interval": "step", "name": "lr"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def head_groups(self) -> list[dict[str, Any]]:
        """Returns the optimizer's groups of parameters that are not the Hugging Face model's."""
        return []

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        precision = self.trainer.precision_plugin
        scaler = getattr(precision, "scaler", None)
        by_norm = gradient_clip_algorithm == "norm"
        # Sharded: a norm over all processes.
        in_step = optim.scales_gradients(optimizer) and not sharded(self)
        if gradient_clip_val and by_norm and in_step:
            norm = optim.clip_in_step(optimizer, gradient_clip_val, scaler)
        else:
            norm = optim.gradient_norm(optimizer)  # before they are clipped
            if gradient_clip_val and scaler is None:
                # Not `clip_gradients`, which refuses a fused optimizer without a scaler, too.
                clip = precision.clip_grad_by_norm if by_norm else precision.clip_grad_by_value
                clip(optimizer, gradient_clip_val)
            else:
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if guard := guard_of(self.trainer):
            guard.judge(self.global_step + 1, optimizer, norm if scaler is None else None)
