"""Lightning's Trainer with a precision that fits the machine, packing, compilation and whole
checkpoints."""

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.fabric.connector import _PRECISION_INPUT
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.strategies import ModelParallelStrategy

from thaw.encoder.hardware import bf16_units, device_type
from thaw.encoder.sharding import load_whole_optimizer
from thaw.errors import ThawError
from thaw.training.callbacks.nonfinite_guard import Action
from thaw.training.callbacks.resumable_checkpoint import WholeCheckpoints

log = logging.getLogger(__name__)

FEWEST_BATCHES = 25  # between validations, with val_check_interval=auto


class FullySharded(ModelParallelStrategy):
    """FSDP over all processes, with checkpoints that are one file, as those of a single process.

    It restores weights, data and callbacks before the setup, as DDP does. Lightning's restores them
    after it, when the loader exists already and begins with the first batch of an epoch
    (lightning#20550).
    """

    restore_checkpoint_after_setup = False
    lightning_restore_optimizer = True

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            load_whole_optimizer(self.lightning_module, optimizer, state)


class Trainer(pl.Trainer):
    """Lightning's Trainer with `precision="auto"`, and `strategy="fsdp"` of `FullySharded`.

    Args:
        precision: one of Lightning's, or "auto": bf16-mixed if the hardware has bfloat16 units,
            else 32-true.
        packed: whether encoders run without padding, see `thaw.encoder.packed_attention`;
            "auto": on CUDA, where they can.
        compile: whether `torch.compile` compiles the blocks that train.
        val_check_interval: one of Lightning's, or "auto": four validations an epoch, fewer where
            there would be less than 25 batches between them: those take longer than training, and
            their scores say little. Where `max_steps` comes before the first, it is there.
        on_nonfinite: reaction to a step whose loss or gradient is not finite: "stop" ends the run
            with a message, "skip" skips and counts the step.
        options: options of `lightning.pytorch.Trainer`.

    Raises:
        ThawError: gradients cannot be clipped by value in float16, or nothing is to train.
    """

    def __init__(
        self,
        precision: Literal["auto"] | _PRECISION_INPUT | None = "auto",
        packed: Literal["auto"] | bool = "auto",
        compile: bool = False,
        on_nonfinite: Action = "stop",
        val_check_interval: Literal["auto"] | int | float | str | timedelta | None = "auto",
        **options: Any,
    ) -> None:
        by_value = options.get("gradient_clip_algorithm") == "value"
        if str(precision) in ("16", "16-mixed") and options.get("gradient_clip_val") and by_value:
            raise ThawError(
                f"trainer.precision={precision} scales gradients within the optimizer's step, so "
                "they cannot be clipped by value: trainer.gradient_clip_algorithm=norm, or "
                "trainer.precision=bf16-mixed."
            )
        if 0 in (options.get("max_steps"), options.get("max_epochs")):
            raise ThawError(
                "trainer.max_steps=0 or max_epochs=0 trains nothing; `python -m thaw.evaluate` "
                "measures a finished run."
            )
        device = device_type(str(options.get("accelerator", "auto")))
        units = bf16_units(device)
        chosen, why = precision, ""
        if precision == "auto":
            chosen = "bf16-mixed" if units else "32-true"
            why = units or f"this {device} has no native bfloat16 support"
        if options.get("strategy") == "fsdp":  # Lightning's own of this name is FSDP1
            options["strategy"] = FullySharded()
        plugins = options.pop("plugins", None) or []
        plugins = [*plugins] if isinstance(plugins, list | tuple) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(WholeCheckpoints())
        self.places_validations = val_check_interval == "auto"
        options["val_check_interval"] = 0.25 if self.places_validations else val_check_interval
        super().__init__(precision=chosen, plugins=plugins, **options)  # type: ignore[arg-type]
        self.packed, self.compile, self.on_nonfinite = packed, compile, on_nonfinite
        if not self.is_global_zero:
            return
        if why:
            log.info("precision %s: %s", chosen, why)
        # Lightning makes bf16-mixed of 16-mixed on a CPU.
        if device == "cpu" and not units and str(self.precision).startswith("bf16"):
            log.warning(
                "trainer.precision=%s: this CPU has no bfloat16 units and emulates them, which "
                "took a hundred times as long where it was measured (0.8 GFLOP/s against 88 in "
                "float32, 2 cores). trainer.precision=auto takes 32-true here.",
                self.precision,
            )

    @property
    def val_check_batch(self) -> float | None:
        """Number of batches between validations, which Lightning sets before training."""
        return self.batches_between_validations

    @val_check_batch.setter
    def val_check_batch(self, batches: float | None) -> None:
        if batches is not None and math.isfinite(batches) and self.places_validations:
            total = int(self.num_training_batches)
            batches = total // max(1, min(4, total // FEWEST_BATCHES))
            if self.max_steps > 0:  # without a validation no weights could be chosen
                batches = min(batches, self.max_steps * self.accumulate_grad_batches)
        self.batches_between_validations = batches
