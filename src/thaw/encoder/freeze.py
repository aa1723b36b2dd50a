"""Which modules train. A strategy takes a task's Hugging Face model, freezes modules of it, and
says which open later; the task keeps frozen ones in eval mode, without dropout."""

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import nn
from transformers import PreTrainedModel

from thaw.encoder.blocks import encoder, encoder_parts
from thaw.errors import ThawError

Count = Annotated[NonNegativeInt, Field(strict=True)]


class Nothing:
    """Freezes nothing: every parameter trains.

    Args:
        cache: a `thaw.encoder.prefix_cache.Cache` for what frozen blocks give; False: they run
            every time.

    Attributes:
        stages: of gradual unfreezing: modules that are frozen at first, in the order of opening.
        every: how many steps, or which share of them, lie between two stages.
    """

    def __init__(self, cache: Any = False) -> None:
        self.cache = cache or None
        self.stages: list[list[nn.Module]] = []
        self.every: float = 1

    def __call__(self, model: PreTrainedModel) -> None:
        """Freezes what the strategy says.

        Raises:
            ThawError: the options do not fit the model.
        """


class Head(Nothing):
    """Only the head trains, and the pooler, which belongs to it."""

    def __call__(self, model: PreTrainedModel) -> None:
        freeze(encoder(model))


class Last(Nothing):
    """The last blocks and the head train.

    Args:
        blocks: how many.
        embeddings: whether they are frozen.
    """

    def __init__(self, blocks: Count, embeddings: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = blocks
        self.embeddings = embeddings

    def __call__(self, model: PreTrainedModel) -> None:
        parts = encoder_parts(model)
        require(self.blocks, len(parts.blocks))
        for block in parts.blocks[: len(parts.blocks) - self.blocks]:
            freeze(block)
        if self.embeddings:
            freeze(parts.embeddings)


class Gradual(Nothing):
    """From the head down, a block more every so often (Howard and Ruder 2018, section 3.3).

    The optimizer holds all that ever trains from the first step on.

    Args:
        every: steps between two blocks; below 1, a share of all steps.
        blocks: how many open in the end; None: all.
        embeddings: whether they stay frozen; else they open after the first block.
    """

    def __init__(
        self,
        every: PositiveFloat = 0.1,
        blocks: Count | None = None,
        embeddings: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.every = every
        self.blocks = blocks
        self.embeddings = embeddings

    def __call__(self, model: PreTrainedModel) -> None:
        parts = encoder_parts(model)
        count = len(parts.blocks) if self.blocks is None else self.blocks
        require(count, len(parts.blocks))
        Last(count, self.embeddings)(model)
        self.stages = parts.blocks[::-1][:count]
        if not self.embeddings:
            self.stages = [*self.stages, parts.embeddings]


class Names(Nothing):
    """The parameters whose names fit a pattern train.

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
    """Freezes modules, or opens them."""
    for module in modules:
        module.requires_grad_(not frozen)


def require(blocks: int, there: int) -> None:
    """Raises ThawError if a model has fewer blocks than asked for."""
    if blocks > there:
        raise ThawError(f"freeze.blocks={blocks}: this model has {there} blocks, so 0 to {there}.")


def frozen_modules(module: nn.Module) -> list[nn.Module]:
    """The largest modules without a parameter that trains."""
    if next(module.parameters(), None) is None:
        return []
    if not any(p.requires_grad for p in module.parameters()):
        return [module]
    return [found for child in module.children() for found in frozen_modules(child)]


def interval(every: float, steps: int) -> int:
    """Steps between two stages, at least 1.

    Args:
        every: steps; below 1, a share.
        steps: of the whole training.
    """
    return max(1, round(every * steps if every < 1 else every))
