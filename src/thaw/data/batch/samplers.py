"""Samplers of batches: of texts of similar length, or of as many texts of each label."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
from torch.utils.data import Sampler


class Batches(Sampler[list[int]]):
    """Batches over all ranks, of which each gets its share; these differ by one text or pair at
    most.

    Args:
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    steps: int  # number of batches of an epoch

    def __init__(self, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches, from batch `start` of the epoch on (once, after a stop)."""
        start, self.start = self.start, 0
        for batch in islice(self.global_batches(), start, len(self)):
            yield batch[self.rank :: self.world_size].reshape(-1).tolist()

    def global_batches(self) -> Iterable[np.ndarray]:
        """The texts of each batch over all ranks (B,), or its pairs of texts (P, 2)."""
        raise NotImplementedError


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
