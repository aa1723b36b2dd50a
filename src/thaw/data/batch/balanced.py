"""Batches with the same number of texts of each label."""

from collections.abc import Iterator, Sequence

import numpy as np

from thaw.data.batch.base import Batches


class BalancedBatches(Batches):
    """A number of batches in which the labels occur equally often, as far as they divide.

    Texts are shuffled within their label and dealt out a label at a time; where the batch is
    smaller than two of each label, two of a label at a time, so that each has a partner. When all
    have been dealt out, it begins anew. A text occurs once in a batch.

    Args:
        labels: of each text.
        batch_size: texts per rank and batch.
        steps: batches of an epoch; None: until each text was dealt out once.
        seed: of the order; `ranks`: see `Batches`.
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        batch_size: int,
        steps: int | None = None,
        seed: int = 0,
        **ranks: int,
    ) -> None:
        super().__init__(seed, **ranks)
        self.labels = np.asarray(labels)
        size = batch_size * self.world_size
        self.parts = -(-len(self.labels) // size)
        self.steps = steps or self.parts
        self.together = 1 if size >= 2 * len(np.unique(self.labels)) else 2

    def global_batches(self) -> Iterator[np.ndarray]:
        """The texts of each batch, without end."""
        rng = np.random.default_rng((self.seed, self.epoch))
        while True:
            yield from np.array_split(self.order(rng), self.parts)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """All texts, `together` of each label in turn, labels in a random order in each turn."""
        turn = np.empty(len(self.labels))
        within = np.empty(len(self.labels))
        for label in np.unique(self.labels):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            turn[rows] = np.arange(len(rows)) // self.together
            place = rng.random(len(rows))  # partners get the same one
            within[rows] = place[turn[rows].astype(int)]
        return np.lexsort((within, turn))
