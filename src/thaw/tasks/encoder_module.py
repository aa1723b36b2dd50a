"""A Hugging Face encoder as a LightningModule: packed batches, frozen modules, cached states.

Shapes: B batch, T tokens, H width.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from transformers import PreTrainedModel

from thaw.encoder.bit_dropout import use_bits
from thaw.encoder.blocks import encoder_parts
from thaw.encoder.freeze import FreezeStrategy, freeze
from thaw.encoder.frozen_prefix.prefix import Prefix
from thaw.encoder.packed_attention import packed, pinned, why_not_packed
from thaw.encoder.sharding import shard
from thaw.errors import ThawError
from thaw.training.callbacks.freezing import FrozenBlocks, Unfreezing

log = logging.getLogger(__name__)


class EncoderModule(LightningModule):
    """Runs a Hugging Face model whose modules a strategy freezes.

    Args:
        model: a Hugging Face model.
        strategy: which modules train.
        gradient_checkpointing: whether the states within a block are not kept for the backward
            pass, which computes them again (Chen et al. 2016).
    """

    def __init__(
        self, model: PreTrainedModel, strategy: FreezeStrategy, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        use_bits(model)
        strategy(model)
        self.strategy = strategy
        self.frozen = strategy.without_dropout(model)  # modules that stay in eval mode
        self.unfreeze_stages = strategy.stages(model)  # in the order in which they are unfrozen
        self.unfrozen_stages = 0  # number of stages that train by now
        self.frozen_blocks = FrozenBlocks(strategy.cache)
        self.unfreezing = Unfreezing(strategy.unfreeze_every)
        self.packs = False  # whether batches run without padding
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            checkpoint_blocks(model)
        strategy.prepare_checkpoints(self)
        # from_pretrained leaves eval mode, and Lightning keeps the mode it finds (lightning#20105).
        self.train()

    def configure_callbacks(self) -> Sequence[Callback]:
        """Returns the callbacks that follow from the freeze strategy.

        From here and not from `conf/callbacks`: a strategy then works with any Trainer.
        """
        return [self.frozen_blocks, *([self.unfreezing] if self.unfreeze_stages else [])]

    @property
    def prefix(self) -> Prefix | None:
        """The leading frozen blocks whose states are cached; None if all blocks run."""
        return self.frozen_blocks.prefix

    def train(self, mode: bool = True) -> "EncoderModule":
        """Sets training mode; frozen modules stay in eval mode, without dropout."""
        super().train(mode)
        for module in [*self.frozen, *self.still_frozen()]:
            module.eval()
        return self

    def still_frozen(self) -> list[nn.Module]:
        """Returns the modules that gradual unfreezing has not reached yet."""
        return [m for stage in self.unfreeze_stages[self.unfrozen_stages :] for m in stage]

    def unfreeze_until(self, stages: int, without_gradient: bool) -> None:
        """Unfreezes so many stages, and freezes those that come later: `without_gradient`, or else
        their gradient is dropped, see `Unfreezing`."""
        self.unfrozen_stages = stages
        if without_gradient:
            for number, stage in enumerate(self.unfreeze_stages):
                freeze(stage, frozen=number >= stages)
        self.train(self.training)

    def configure_model(self) -> None:
        """Shares the weights out among processes under `trainer=fsdp`."""
        if self._device_mesh is not None:
            if why := self.strategy.why_not_sharded:
                raise ThawError(f"trainer=fsdp: {why}. Set trainer=ddp.")
            shard(self)

    def setup(self, stage: str) -> None:
        """Decides whether the model runs packed; raises ThawError where it must and cannot."""
        asked, device = getattr(self.trainer, "packed", False), self.trainer.strategy.root_device
        if self.gradient_checkpointing:  # it computes blocks after the batch's layout is gone
            why = "model.gradient_checkpointing=true runs padded batches"
        else:
            why = why_not_packed(self.model, device, str(self.trainer.precision))
        if asked is True and why:
            raise ThawError(f"trainer.packed=true: {why}. trainer.packed=auto packs where it can.")
        if asked == "auto" and device.type != "cuda" and not why:
            why = f"on {device.type} batches of similar length are faster"
        self.packs = bool(asked) and not why
        if asked and stage == "fit":
            log.info("%s", f"batches are padded: {why}" if why else "batches are packed")

    def on_fit_start(self) -> None:
        if getattr(self.trainer, "compile", False):
            self.compile_blocks()

    def compile_blocks(self) -> None:
        """Compiles the blocks that run in every step, for `trainer.compile=true`."""
        if self.gradient_checkpointing:
            raise ThawError(
                "trainer.compile=true does not go with model.gradient_checkpointing=true: "
                "leave one of them out."
            )
        try:
            blocks = encoder_parts(self.model).blocks
        except ThawError as error:
            raise ThawError(f"trainer.compile=true compiles block by block: {error}") from error
        if self.device.type == "cpu":
            log.warning("trainer.compile=true: on a CPU, steps of MiniLM took 1.25 times as long")
        for block in blocks[self.prefix.depth if self.prefix else 0 :]:
            block[0].compile(dynamic=True)  # lengths differ from batch to batch

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the head's logits of encoded texts; see `encode`."""
        return self.encode(**inputs).logits

    def encode(self, **inputs: Any) -> Any:
        """Returns the model's output for encoded texts, or for their `states` after the frozen
        blocks."""
        with self.arranged(inputs) as arranged:
            return self.model(**arranged)

    @contextmanager
    def arranged(self, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yields the model's inputs of a padded batch, to which `on_before_batch_transfer` adds
        `real` and `states`; within, the model runs packed, or starts from states, where it can."""
        inputs = dict(inputs)
        states, real = inputs.pop("states", None), inputs.pop("real", None)
        if real is not None and real.all():
            inputs.pop("attention_mask", None)  # an attention without a mask is faster
        if states is not None and states.shape[1] != inputs["input_ids"].shape[1]:
            real = None  # the first token's state alone
        with ExitStack() as stack:
            if self.packs and real is not None:
                layout = stack.enter_context(packed(self.model, real))
                states = None if states is None else layout.pack(states)
            if states is not None and self.prefix is not None:
                stack.enter_context(self.prefix.skipped(states))
            yield inputs

    def on_before_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int
    ) -> dict[str, Any]:
        """Adds what is to be known on the CPU, and lets a GPU copy the rest while the CPU goes on.

        That is `states` (B, T, H) after the frozen blocks; and `real` (B, T), which tokens are no
        padding, as a numpy array: it stays on the CPU.
        """
        if self.prefix is not None and (states := self.prefix.states(batch)) is not None:
            batch = batch | {"states": states}
        if self.packs or self.device.type != "cpu":
            mask = batch.get("attention_mask")
            real = torch.ones_like(batch["input_ids"]) if mask is None else mask
            batch = batch | {"real": real.numpy().astype(bool)}
        return {k: pinned(v, self.device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def checkpoint_blocks(model: PreTrainedModel) -> None:
    """Makes a model compute its blocks again in the backward pass; raises ThawError if transformers
    does not do it for this architecture."""
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ThawError(
            f"model.gradient_checkpointing=true: transformers has none for "
            f"{model.config.model_type}; a smaller data.batch_size with a larger "
            "trainer.accumulate_grad_batches takes less memory too."
        ) from error
