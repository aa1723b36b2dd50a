"""Linear heads on sentence embeddings: fitted by scikit-learn or by gradient, kept as tensors.

Shapes: N texts, D width, C labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import LabelBinarizer
from torch import Tensor, nn
from torch.nn import functional as F

from thaw.errors import ThawError

STEPS = 500  # of `differentiable_head`, each on all texts


def logistic_head(embeddings: Tensor, labels: Tensor, names: Sequence[str]) -> nn.Linear:
    """Fits scikit-learn's logistic regression with its defaults, as setfit does; returns a layer
    whose softmax, or sigmoid with several labels a text, is the regression's probabilities.

    Args:
        embeddings: embeddings of the texts (N, D).
        labels: labels (N,), of which all C occur; or (N, C) of 0/1, with a regression for each.
        names: names of the labels.

    Raises:
        ThawError: all texts have the same label among several, so that it cannot be learned.
    """
    x, y = embeddings.double().numpy(), labels.numpy()
    if labels.is_floating_point():
        if always := [n for n, column in zip(names, y.T, strict=True) if column.all()]:
            raise ThawError(f"all drawn texts have label {always[0]!r}: it needs some without it.")
        fitted = [LogisticRegression().fit(x, column) for column in y.T]
        weight = np.concatenate([one.coef_ for one in fitted])
        bias = np.concatenate([one.intercept_ for one in fitted])
    else:
        one = LogisticRegression().fit(x, y)
        weight, bias = one.coef_, one.intercept_
        if len(names) == 2:  # one row, of the second class: the first one's logit is 0
            weight, bias = (np.concatenate([np.zeros_like(a), a]) for a in (weight, bias))
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return head


def differentiable_head(
    embeddings: Tensor, labels: Tensor, names: Sequence[str], learning_rate: float
) -> nn.Linear:
    """Fits a linear layer to frozen embeddings (N, D) of texts with labels (N,), or (N, C) of
    0.0/1.0, by (binary) cross-entropy, from zero weights; by AdamW with a weight decay of 0.01."""
    several = labels.is_floating_point()
    loss = F.binary_cross_entropy_with_logits if several else F.cross_entropy
    with torch.inference_mode(False), torch.enable_grad():
        x, y = embeddings.clone(), labels.clone()  # inference tensors take no gradient
        head = nn.Linear(x.shape[1], len(names))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=0.01)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(head(x), y).backward()
            optimizer.step()
    return head


def as_sklearn(head: nn.Linear, multi_label: bool) -> Any:
    """Returns a head (D to C) as a fitted scikit-learn model, for setfit."""
    weight = head.weight.detach().cpu().double().numpy()
    bias = head.bias.detach().cpu().double().numpy()
    if multi_label:
        several = OneVsRestClassifier(LogisticRegression())
        rows = zip(weight, bias, strict=True)
        several.estimators_ = [regression(w[None], b[None]) for w, b in rows]
        # as fitted to a matrix of 0/1
        several.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(np.eye(len(bias)))
        return several
    if len(bias) == 2:
        return regression(weight[1:] - weight[:1], bias[1:] - bias[:1])
    return regression(weight, bias)


def regression(weight: np.ndarray, bias: np.ndarray) -> LogisticRegression:
    """Returns a fitted logistic regression: one row for each class, or one row for the second of
    two."""
    fitted = LogisticRegression()
    fitted.coef_, fitted.intercept_ = weight, bias
    fitted.classes_ = np.arange(max(2, len(bias)))
    fitted.n_features_in_ = weight.shape[1]
    return fitted
