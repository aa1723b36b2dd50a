"""Losses over all pairs of a batch, or over given ones.

`embeddings` are (B, D). `same` is true where two texts have a label in common: (B, B), or (P,) for
given pairs.

Shapes: B texts, D width, P pairs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def shared_labels(first: Tensor, second: Tensor) -> Tensor:
    """Returns whether texts have a label in common with others, against which their labels
    broadcast: (B,) of int64, or (B, C) of 0.0/1.0 where a text has several."""
    return first == second if not first.is_floating_point() else (first * second).sum(-1) > 0


def all_pairs(labels: Tensor) -> Tensor:
    """Returns `same` (B, B) of all pairs of a batch."""
    return shared_labels(labels.unsqueeze(1), labels.unsqueeze(0))


def pair_loss(embeddings: Tensor, pairs: Tensor, same: Tensor) -> Tensor:
    """Computes the mean squared error of each given pair's cosine against 1 (same label) or 0, the
    loss of SetFit; `pairs` (P, 2) are two rows of `embeddings` each."""
    unit = F.normalize(embeddings, dim=-1)
    cosine = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(-1)
    return F.mse_loss(cosine, same.to(unit.dtype))


def cosine_loss(embeddings: Tensor, same: Tensor) -> Tensor:
    """Computes `pair_loss` over the B(B-1)/2 pairs of different texts."""
    unit = F.normalize(embeddings, dim=-1)
    first, second = torch.triu_indices(len(same), len(same), offset=1, device=same.device)
    return F.mse_loss((unit @ unit.T)[first, second], same[first, second].to(unit.dtype))


def supervised_contrastive_loss(
    embeddings: Tensor, same: Tensor, temperature: float = 0.07
) -> Tensor:
    """Computes the supervised contrastive loss (Khosla et al. 2020, equation 2) over the texts that
    have another one of their label in the batch."""
    unit = F.normalize(embeddings, dim=-1)
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    positive = same & ~itself
    count = positive.sum(1)
    per_text = -logits.log_softmax(dim=-1).masked_fill(~positive, 0.0).sum(1)
    # Of a text without another of its label, the sum is 0: no index, which a GPU would wait for.
    return (per_text / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


def triplet_loss(embeddings: Tensor, same: Tensor, margin: float = 0.25) -> Tensor:
    """Computes the batch-hard triplet loss (Hermans et al. 2017, equation 5) in cosine distance.

    The furthest text of a text's own label has to be closer, by `margin`, than the nearest of
    another.
    """
    unit = F.normalize(embeddings, dim=-1)
    distance = 1 - unit @ unit.T
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    furthest = distance.masked_fill(~same | itself, 0.0).amax(1)
    nearest = distance.masked_fill(same, float("inf")).amin(1)
    return F.relu(furthest - nearest + margin).mean()


LOSSES = {"cosine": cosine_loss, "supcon": supervised_contrastive_loss, "triplet": triplet_loss}
