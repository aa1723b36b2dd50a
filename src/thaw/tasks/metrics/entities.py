"""Scores whole entities by counts that are summed over ranks: exact on any number of devices."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from thaw.data.entities import entities


class EntityF1(Metric):
    """Precision, recall and F1 of whole entities: type, first and last word must be right.

    Equal to seqeval's `classification_report`, in default and strict mode (conlleval; Tjong Kim
    Sang and De Meulder 2003). The state is integer counts, summed over ranks; scores are float64.
    A score without an entity to divide by is 0.

    Args:
        types: names of the K entity types.
        strict: whether an I- without its B- is no entity.
    """

    counts: Tensor

    def __init__(self, types: Sequence[str], strict: bool = False) -> None:
        super().__init__()
        self.types = list(types)
        self.strict = strict
        self.add_state(
            "counts", torch.zeros(3, len(self.types), dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, predicted: Iterable[Sequence[str]], gold: Iterable[Sequence[str]]) -> None:
        """Adds sentences."""
        index = {name: i for i, name in enumerate(self.types)}
        counts = [[0] * len(self.types) for _ in range(3)]
        for ours, true in zip(predicted, gold, strict=True):
            if len(ours) != len(true):
                raise ValueError(f"{len(ours)} predicted tags for {len(true)} words")
            found, wanted = (set(entities(tags, self.strict)) for tags in (ours, true))
            for row, group in zip(counts, (found & wanted, found, wanted), strict=True):
                for entity in group:
                    row[index[entity.type]] += 1
        self.counts += torch.tensor(counts, device=self.counts.device)

    def compute(self) -> dict[str, Any]:
        """Returns `f1`, `precision`, `recall` over all entities (micro), and `per_type`: the same
        and `support`, the number of gold entities, as K plain numbers each."""
        right, found, wanted = self.counts.cpu()
        per_type = scores(right, found, wanted) | {"support": wanted}
        return scores(right.sum(), found.sum(), wanted.sum()) | {
            # Lists: torchmetrics squeezes a tensor of one number.
            "per_type": {name: values.tolist() for name, values in per_type.items()}
        }


def scores(right: Tensor, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Returns F1, precision and recall (float64) from counts; 0 where there is nothing to divide
    by."""
    precision = right.double() / found.clamp(min=1)
    recall = right.double() / wanted.clamp(min=1)
    total = precision + recall
    f1 = torch.where(total > 0, 2 * precision * recall / total.where(total > 0, 1.0), 0.0)
    return {"f1": f1, "precision": precision, "recall": recall}
