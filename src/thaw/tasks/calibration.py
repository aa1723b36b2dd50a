"""Temperature and thresholds of a classifier, found on validation.

Shapes: N texts, C labels.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from thaw.errors import ThawError
from thaw.report.sections import Section, Table
from thaw.tasks.predictors.decision import HALF

log = logging.getLogger(__name__)

BINS = 15  # of the expected calibration error, as Guo et al. 2017
Curve = tuple[list[float], list[float]]  # mean probability and share of right texts in each bin


def nll(logits: Tensor, gold: Tensor, multi_label: bool) -> Tensor:
    """Computes the mean negative log-likelihood of texts with logits (N, C) and labels (N,), or of
    texts and labels (N, C) where a text has several."""
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, gold.to(logits.dtype))
    return F.cross_entropy(logits, gold.long())


def best_temperature(logits: Tensor, gold: Tensor, multi_label: bool) -> float:
    """Returns the temperature of the least NLL (Guo et al. 2017); 1, with a warning, where there is
    none."""
    logits = logits.double()
    if why := no_best_temperature(logits, gold, multi_label):
        log.warning("task.calibrate=true: %s. The temperature is 1: nothing is calibrated", why)
        return 1.0
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nll(logits / log_t.exp(), gold, multi_label)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = float(log_t.detach().exp())
    better = nll(logits / found, gold, multi_label) < nll(logits, gold, multi_label)
    return found if better else 1.0


def no_best_temperature(logits: Tensor, gold: Tensor, multi_label: bool) -> str:
    """Returns why no temperature has the least NLL, "" if one has; for the arguments see `nll`.

    The NLL is convex in the inverse of the temperature: without a wrong prediction it falls without
    end, and it rises from 0 on if right labels have no higher logits than others.
    """
    if multi_label:
        wrong, gain = (logits > 0) != (gold > 0), (gold.double() - 0.5) * logits
    else:
        wrong = logits.argmax(dim=-1) != gold
        gain = (logits - logits.mean(dim=-1, keepdim=True)).gather(1, gold.long()[:, None])
    if not wrong.any():
        return (
            f"all {len(gold)} texts of validation are predicted right, so that each lower "
            "temperature has a lower NLL; a larger validation, such as data.validation=0.2, may "
            "have errors to calibrate with"
        )
    if gain.sum() <= 0:
        return (
            f"on the {len(gold)} texts of validation, right labels have no higher logits than "
            "others, so that each higher temperature has a lower NLL; train for longer, or on more"
        )
    return ""


def temperature_metrics(
    logits: Tensor, gold: Tensor, multi_label: bool, temperature: float
) -> dict[str, float]:
    """Returns a temperature and the NLL of validation before and after, for metrics.json."""
    raw, after = (float(nll(x, gold, multi_label)) for x in (logits, logits / temperature))
    text = "temperature %.4f, fitted on %d texts of validation: their NLL was %.4f and is %.4f"
    log.info(text, temperature, len(logits), raw, after)
    return {"temperature": temperature, "val/nll_before": raw, "val/nll": after}


def last_layer(model: nn.Module, count: int) -> nn.Linear:
    """Returns the layer that computes the logits of `count` labels: the last one of that width;
    raises ThawError if there is none."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == count]
    if not layers:
        raise ThawError(f"task.calibrate=true: {type(model).__name__} has no linear head.")
    return layers[-1]


@torch.no_grad()
def divide(layer: nn.Linear, temperature: float) -> None:
    """Divides a layer, and so its logits, by a temperature."""
    for parameter in layer.parameters():
        parameter.div_(temperature)


def before(found: Tensor, temperature: float, multi_label: bool) -> Tensor:
    """Returns the probabilities (N, C) that calibrated ones were before."""
    if multi_label:
        return torch.sigmoid(torch.logit(found) * temperature)
    return torch.softmax(found.log() * temperature, dim=-1)


def calibration_error(found: Tensor, gold: Tensor, multi_label: bool) -> float:
    """Returns the expected calibration error in `BINS` bins: of the probability of the predicted
    class, or with several labels a text of all labels' probabilities (N, C)."""
    if multi_label:
        return float(binary_calibration_error(found.flatten(), gold.flatten().long(), BINS))
    return float(multiclass_calibration_error(found, gold.long(), found.shape[1], BINS))


def reliability(found: Tensor, gold: Tensor, multi_label: bool) -> Curve:
    """Returns mean probability and share of right predictions of each bin that has texts."""
    from sklearn.calibration import calibration_curve

    if multi_label:
        right, sure = gold.flatten(), found.flatten()
    else:
        sure, predicted = found.max(dim=-1)
        right = predicted == gold
    shares, means = calibration_curve(right.numpy() > 0, sure.double().numpy(), n_bins=BINS)
    return means.tolist(), shares.tolist()


def best_threshold(found: np.ndarray, gold: np.ndarray) -> tuple[float, float]:
    """Returns the threshold of a label with the highest F1, and that F1.

    A text has the label if its probability exceeds the threshold. Of the thresholds between two
    neighbouring probabilities, 0.5 stands for its neighbours and the middle for the others; of
    several with the same F1, the nearest to 0.5 is taken, the lower one of two. A label without
    positives keeps 0.5, and so does one whose F1 is 0 with every threshold. Probabilities are (N,)
    in float32, and `gold` (N,) is whether each text has the label.
    """
    from sklearn.metrics import precision_recall_curve

    if not gold.any():
        return HALF, 0.0
    precision, recall, highs = precision_recall_curve(gold, found)  # predicted where p >= high
    lows = np.concatenate([[0.0], highs[:-1]]).astype(np.float32)
    exists = lows < highs  # none is below a probability of 0
    precision, recall, lows, highs = (x[exists] for x in (precision[:-1], recall[:-1], lows, highs))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    if not f1.any():
        return HALF, 0.0
    middles = (lows + highs) / 2
    middles = np.where(middles < highs, middles, lows)  # neighbours in float32
    middles = np.where((lows <= HALF) & (highs > HALF), HALF, middles)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    at = min(best, key=lambda i: (abs(middles[i] - HALF), middles[i]))
    return float(np.float32(middles[at])), float(f1[at])


def tune(
    found: Tensor, gold: Tensor, labels: Sequence[str]
) -> tuple[list[float], dict[str, float]]:
    """Returns the best threshold of each label, and the metrics that say what it is worth, from the
    probabilities of the texts of validation (N, C), and their labels (N, C)."""
    from sklearn.metrics import f1_score

    p, y = found.numpy(), gold.numpy() > 0
    if absent := [name for i, name in enumerate(labels) if not y[:, i].any()]:
        log.warning(
            "task.thresholds=tuned: validation has no text with the label %s: 0.5 stays its "
            "threshold",
            ", ".join(absent),
        )
    best = [best_threshold(p[:, i], y[:, i]) for i in range(len(labels))]
    thresholds = [threshold for threshold, _ in best]
    metrics: dict[str, float] = {}
    for i, (name, (threshold, f1)) in enumerate(zip(labels, best, strict=True)):
        metrics[f"threshold/{name}"] = threshold
        metrics[f"val/f1_at_half/{name}"] = float(
            f1_score(y[:, i], p[:, i] > HALF, zero_division=0)
        )
        metrics[f"val/f1_tuned/{name}"] = f1
    means = [np.mean([metrics[f"val/f1_{k}/{n}"] for n in labels]) for k in ("at_half", "tuned")]
    text = "thresholds tuned on %d texts of validation: their mean F1 was %.4f at 0.5 and is %.4f"
    log.info(text, len(p), *means)
    return thresholds, metrics


def threshold_table(metrics: Mapping[str, float]) -> Table:
    """Returns the thresholds of metrics.json as a section of the report."""
    names = [key.partition("/")[2] for key in metrics if key.startswith("threshold/")]
    columns = ("threshold", "val/f1_at_half", "val/f1_tuned")
    rows = [[name, *(metrics[f"{column}/{name}"] for column in columns)] for name in names]
    note = (
        "The threshold of the highest F1 on validation, whose F1 with it is therefore optimistic."
    )
    return Table("thresholds", ("label", "threshold", "F1 at 0.5", "F1 tuned"), rows, note)


def calibration_sections(
    metrics: Mapping[str, float], curves: Mapping[str, Curve]
) -> list[Section]:
    """Returns what calibration changed, as a table and a figure, if there was one: from the content
    of metrics.json, and `reliability` of each split, before and after, by its metric."""
    if not curves:
        return []
    from thaw.report.figures import image, reliability_panel

    rows, panels = [], {}
    for split in dict.fromkeys(key.partition("/")[0] for key in curves):
        after, raw = f"{split}/ece", f"{split}/ece_before"
        rows.append([split, metrics[raw], metrics[after]])
        named = {f"{key} {metrics[key]:.4f}": curves[key] for key in (raw, after)}
        panels[f"reliability, {split}"] = reliability_panel(named)
    note = f"The last layer is divided by {metrics['temperature']:.4f}, found on validation."
    columns = ("split", "expected calibration error before", "after")
    return [Table("calibration", columns, rows, note), image("reliability", panels)]
