"""Training steps without Lightning's loop, each with something and without it in turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from peers import make_data
from torch.nn.utils import clip_grad_norm_

from thaw.data.batch.samplers import LengthGroupedBatches
from thaw.encoder.trained_rows import train_rows
from thaw.train import build_task
from thaw.training.optim import build_optimizer, clip_in_step

LEARNING_RATE, DECAY, NORM, WARM_UP = 1e-4, 0.01, 1.0, 2

Batch = dict[str, torch.Tensor]


class Training:
    """A task, its optimizer and batches grouped by length: all that a step needs.

    Args:
        words: overrides of the run.
        seed: seed of the weights, the batches and the masks.
        steps: number of batches.
        precision: 32-true or bf16-mixed.
        whole: whether all rows of the word embedding are trained.
    """

    def __init__(
        self, words: Sequence[str], seed: int, steps: int, precision: str, whole: bool = False
    ) -> None:
        self.data, checkpoint, cfg = make_data([*words, f"seed={seed}"], seed)
        freeze = instantiate(cfg.freeze, _convert_="all")
        self.task = build_task(cfg, checkpoint, self.data, freeze).train()
        self.model, self.seed = self.task.model, seed
        if not whole:
            train_rows(self.model, self.data.encoded["train"], self.data.tokenizer.all_special_ids)
        self.optimizer = build_optimizer(self.model, LEARNING_RATE, DECAY)
        self.clip: Callable[[Any], Any] = lambda optimizer: clip_in_step(optimizer, NORM)
        self.half = precision == "bf16-mixed"
        lengths = self.data.encoded["train"].data.column("length").to_numpy()
        rows = list(LengthGroupedBatches(lengths, self.data.batch_size, seed))[:steps]
        self.batches = [self.batch(part) for part in rows]
        mixed = np.random.default_rng(seed).permutation(np.concatenate(rows))
        ends = np.cumsum([len(part) for part in rows])[:-1]
        self.random_batches = [self.batch(part) for part in np.split(mixed, ends)]
        self.longest = max(self.batches, key=lambda batch: batch["input_ids"].shape[1])

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """Returns texts as the task's batch, masked in pretraining."""
        batch = self.data.collate(self.data.encoded["train"][list(rows)])
        return self.task.mask(batch, self.seed, 0) if "words" in batch else batch

    def step(self, batch: Batch) -> float:
        """Trains on a batch; returns the seconds."""
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.task.training_step(dict(batch), 0)
        loss.backward()
        self.clip(self.optimizer)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - began

    def clip_apart(self, _: Any) -> None:
        """Clips gradients as torch does, before the step."""
        clip_grad_norm_(self.model.parameters(), NORM)


Switch = Callable[[Training], AbstractContextManager[Any]]


@contextmanager
def changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def pairs(
    training: Training, off: Switch, others: Sequence[Batch] | None = None
) -> tuple[list[float], list[float]]:
    """Returns the seconds of each of a training's batches with a mechanism, and without it.

    Args:
        training: the training, with the mechanism.
        off: switches the mechanism off for a while.
        others: batches without the mechanism; None: the same ones.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    warm_up = [training.longest] * WARM_UP
    without = [*warm_up, *(others or training.batches)]
    for number, batch in enumerate([*warm_up, *training.batches]):
        for on in (number % 2 == 0, number % 2 == 1):
            with nullcontext() if on else off(training):
                seconds[on].append(training.step(batch if on else without[number]))
    return seconds[True][WARM_UP:], seconds[False][WARM_UP:]
