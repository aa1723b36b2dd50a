"""Pairs of texts as setfit samples them, as numbers instead of copies of the texts.

Shapes: N texts, C labels, P pairs.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from thaw.data.batch.samplers import Batches

Sampling = Literal["oversampling", "undersampling", "unique"]
LISTED = 2**22  # pairs: all those of 2,895 texts


def all_pairs(texts: int) -> np.ndarray:
    """The pairs of texts, a text with itself among them, in setfit's order: (P, 2).

    Of more than `LISTED` pairs, as many are drawn at random, so that memory is bounded.
    """
    count = texts * (texts + 1) // 2
    if count <= LISTED:
        # setfit/sampler.py: whatever the run's seed
        order = np.random.RandomState(seed=42).permutation(count)
        return np.stack(np.triu_indices(texts), axis=-1)[order]
    return np.sort(np.random.default_rng(42).integers(texts, size=(LISTED, 2)), axis=-1)


def sample_pairs(
    labels: np.ndarray, num_iterations: int | None = None, sampling: Sampling = "oversampling"
) -> np.ndarray:
    """The pairs of an epoch, those that share a label and those that do not in turn: (P, 2).

    Args:
        labels: (N,), or (N, C) of 0/1 where a text has several.
        num_iterations: positive pairs a text has, and negative ones; None: as `sampling` says.
        sampling: unique: each pair once; oversampling: the rarer kind again and again, until there
            are as many as of the other; undersampling: of the more frequent kind as many as of the
            other.
    """
    pairs = all_pairs(len(labels))
    first, second = labels[pairs[:, 0]], labels[pairs[:, 1]]
    same = first == second if labels.ndim == 1 else (first * second).any(-1)
    kinds = [pairs[same], pairs[~same]]
    if num_iterations is not None:
        counts = [num_iterations * len(labels)] * 2
    elif sampling == "unique":
        counts = [len(kind) for kind in kinds]
    else:
        most = max if sampling == "oversampling" else min
        counts = [most(len(kind) for kind in kinds)] * 2
    kinds = [
        kind[np.arange(n) % max(1, len(kind))] if len(kind) else kind
        for kind, n in zip(kinds, counts, strict=True)
    ]
    both = min(map(len, kinds))
    turns = np.stack([kind[:both] for kind in kinds], axis=1).reshape(-1, 2)
    return np.concatenate([turns, *(kind[both:] for kind in kinds)])


class PairBatches(Batches):
    """Batches of pairs (P, 2) in an order of (seed, epoch), each as the rows of its pairs."""

    def __init__(self, pairs: np.ndarray, batch_size: int, seed: int = 0, **ranks: int) -> None:
        super().__init__(seed, **ranks)
        self.pairs = pairs
        self.steps = -(-len(pairs) // (batch_size * self.world_size))

    def global_batches(self) -> Iterator[np.ndarray]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.pairs))
        for batch in np.array_split(order, self.steps):
            yield self.pairs[batch]
