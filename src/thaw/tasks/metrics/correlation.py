"""Rank correlation of any number of texts.

Shapes: N texts.
"""

from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.regression import SpearmanCorrCoef
from torchmetrics.utilities import dim_zero_cat


class Spearman(SpearmanCorrCoef):
    """Spearman's rank correlation; NaN where all predictions or all labels are equal.

    torchmetrics 1.9 sums ranks in int32, which 100,000 equal numbers exceed, and returns 0 for NaN.
    """

    def compute(self) -> Tensor:
        """Returns the correlation, computed in float64."""
        ranks = [average_ranks(dim_zero_cat(part).cpu()) for part in (self.preds, self.target)]
        return pearson_corrcoef(*ranks).float().to(self.device)


def average_ranks(numbers: Tensor) -> Tensor:
    """Returns the rank of each number (N,) in float64, of equal ones their mean rank."""
    _, place, counts = numbers.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[place]
