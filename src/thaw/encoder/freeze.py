"""Strategies that freeze modules of a task's Hugging Face model, and say which of them are unfrozen
later. The task keeps frozen modules in eval mode, without dropout."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import nn
from transformers import PreTrainedModel

from thaw.encoder.blocks import encoder, encoder_parts
from thaw.errors import ThawError

Count = Annotated[NonNegativeInt, Field(strict=True)]


class FreezeStrategy:
    """Which modules of a model train; the base class freezes nothing.

    A strategy overrides `__call__`, and `stages` if modules start to train later.

    Args:
        cache: a `thaw.encoder.frozen_prefix.cache.Cache` for the states after the frozen blocks,
            which are then computed once; False: frozen blocks run in every step.
    """

    unfreeze_every: float = 1  # steps between two stages; below 1, a fraction of all steps
    why_not_sharded: ClassVar[str] = ""  # why it does not work under `trainer=fsdp`; "" if it does

    def __init__(self, cache: Any = False) -> None:
        self.cache = cache or None

    def __call__(self, model: PreTrainedModel) -> None:
        """Freezes modules of `model`; raises ThawError if the options do not fit it."""

    def stages(self, model: PreTrainedModel) -> list[list[nn.Module]]:
        """Returns the modules that are frozen at first and unfrozen later, in that order."""
        return []

    def without_dropout(self, model: PreTrainedModel) -> list[nn.Module]:
        """Returns the modules that stay in eval mode in training, without dropout."""
        return frozen_modules(model)

    def prepare_checkpoints(self, task: nn.Module) -> None:
        """Prepares what a task's checkpoints hold; by default all of its weights."""

    def exported(self, model: PreTrainedModel, run_dir: Path) -> PreTrainedModel:
        """Returns the model to export; it may write further files into the run directory."""
        return model


class NoFreezing(FreezeStrategy):
    """Every parameter trains."""


class HeadOnly(FreezeStrategy):
    """Only the head trains, and the pooler, which belongs to it."""

    def __call__(self, model: PreTrainedModel) -> None:
        freeze(encoder(model))


class LastBlocks(FreezeStrategy):
    """The last blocks and the head train.

    Args:
        blocks: number of blocks that train.
        embeddings: whether the embeddings are frozen.
    """

    def __init__(self, blocks: Count, embeddings: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = blocks
        self.embeddings = embeddings

    def __call__(self, model: PreTrainedModel) -> None:
        parts = encoder_parts(model)
        if self.blocks > (there := len(parts.blocks)):
            raise ThawError(
                f"freeze.blocks={self.blocks}: this model has {there} blocks, so 0 to {there}."
            )
        for block in parts.blocks[: there - self.blocks]:
            freeze(block)
        if self.embeddings:
            freeze(parts.embeddings)


class GradualUnfreezing(FreezeStrategy):
    """The head trains first, then one block more at a time, from the last block down (Howard and
    Ruder 2018, section 3.3).

    The optimizer holds all that ever trains from the first step on.

    Args:
        every: number of steps between two blocks; below 1, a fraction of all steps.
        blocks: number of blocks that train in the end; None: all.
        embeddings: whether the embeddings stay frozen; else they are unfrozen after the first
            block.
    """

    def __init__(
        self,
        every: PositiveFloat = 0.1,
        blocks: Count | None = None,
        embeddings: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.unfreeze_every = every
        self.blocks = blocks
        self.embeddings = embeddings

    def __call__(self, model: PreTrainedModel) -> None:
        LastBlocks(self.count(model), self.embeddings)(model)

    def count(self, model: PreTrainedModel) -> int:
        """Returns the number of blocks that train in the end."""
        return len(encoder_parts(model).blocks) if self.blocks is None else self.blocks

    def stages(self, model: PreTrainedModel) -> list[list[nn.Module]]:
        parts = encoder_parts(model)
        found = parts.blocks[::-1][: self.count(model)]
        return found if self.embeddings else [*found, parts.embeddings]


class ByName(FreezeStrategy):
    """The parameters whose names match a pattern train.

    Args:
        train: patterns of names, with `*`, as `python -m thaw.parameters` prints them.
    """

    def __init__(self, train: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.train = list(train)

    def __call__(self, model: PreTrainedModel) -> None:
        names = [name for name, _ in model.named_parameters()]
        for pattern in self.train:
            if not fnmatch.filter(names, pattern):
                raise ThawError(
                    f"freeze.train: {pattern!r} fits none of {len(names)} parameters, such as "
                    f"{names[0]} and {names[-1]}. `python -m thaw.parameters` prints them all."
                )
        if not self.train:
            raise ThawError("freeze=names needs freeze.train=[<patterns of parameter names>].")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(fnmatch.fnmatchcase(name, p) for p in self.train))


def freeze(modules: Sequence[nn.Module], frozen: bool = True) -> None:
    """Freezes modules, or unfreezes them."""
    for module in modules:
        module.requires_grad_(not frozen)


def frozen_modules(module: nn.Module) -> list[nn.Module]:
    """Returns the largest modules without a parameter that trains."""
    if next(module.parameters(), None) is None:
        return []
    if not any(p.requires_grad for p in module.parameters()):
        return [module]
    return [found for child in module.children() for found in frozen_modules(child)]
