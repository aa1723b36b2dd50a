"""Rank correlation of any number of texts.

Shapes: B batch, N texts.
"""

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.utilities import dim_zero_cat


class Spearman(Metric):
    """Spearman's rank correlation; NaN where all predictions or all labels are equal.

    torchmetrics 1.9 sums ranks in int32, which 100,000 equal numbers exceed, and returns 0 for NaN.
    """

    found: list[Tensor]
    gold: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("found", "gold"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds numbers (B,)."""
        self.found.append(preds)
        self.gold.append(target)

    def compute(self) -> Tensor:
        """Returns the correlation, computed in float64."""
        ranks = [average_ranks(dim_zero_cat(part).cpu()) for part in (self.found, self.gold)]
        return pearson_corrcoef(*ranks).float().to(self.device)


def average_ranks(numbers: Tensor) -> Tensor:
    """Returns the rank of each number (N,) in float64, of equal ones their mean rank."""
    _, place, counts = numbers.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[place]
