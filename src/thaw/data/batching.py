"""Batches on any number of ranks, in an order that follows from (seed, epoch) alone; of texts of
similar length: little padding, every text once an epoch."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
from torch.utils.data import Sampler


class Batches(Sampler[list[int]]):
    """Batches over all ranks, of which each rank gets its share.

    Shares of a batch differ by one text, or pair, at most.

    Args:
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, seed: int, rank: int, world_size: int) -> None:
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        raise NotImplementedError

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
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        window: int = 50,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(seed, rank, world_size)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.window = window

    def __len__(self) -> int:
        return self.count(len(self.lengths))

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
