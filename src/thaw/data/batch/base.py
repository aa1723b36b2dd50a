"""What every sampler of batches shares."""

from collections.abc import Iterable, Iterator
from itertools import islice

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
