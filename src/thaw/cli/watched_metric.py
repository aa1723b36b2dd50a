"""The watched metric, checked before a run trains for it in vain."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from thaw.errors import ThawError

# Which value of each metric of a validation is better. Here and not in the tasks, whose classes
# load torch: a wrong name is answered at once.
# f1_binary is of two classes, f1_micro of several labels a text, balanced_accuracy of one.
SCORES = (
    *("f1", "f1_macro", "f1_binary", "f1_micro", "accuracy", "precision", "recall"),
    *("balanced_accuracy", "mcc", "auroc", "average_precision"),
)
CLASSIFICATION = dict.fromkeys(SCORES, "max") | {"loss": "min"}
NUMBERS = {"rmse": "min", "mae": "min", "pearson": "max", "spearman": "max", "loss": "min"}
ENTITIES = {"f1": "max", "precision": "max", "recall": "max", "loss": "min"}
MASKED = {"loss": "min", "perplexity": "min", "accuracy": "max"}
MASKED |= {"frozen_f1": "max", "frozen_accuracy": "max"}  # with task.frozen_score
METRICS = {
    "thaw.tasks.sequence.SequenceClassification": CLASSIFICATION,
    "thaw.tasks.regression.Regression": NUMBERS,
    "thaw.tasks.setfit.SetFit": CLASSIFICATION,
    "thaw.tasks.ner.TokenClassification": ENTITIES,
    "thaw.tasks.mlm.MaskedLanguageModel": MASKED,
}
TRAINED = "train/loss"  # what every task logs while it trains


def better(monitor: str) -> str:
    """Returns which value of a watched metric is better, max or min: `${thaw.better:...}`.

    A metric that thaw does not know is one of the user's own: the larger the better, unless it is
    called a loss.
    """
    name = monitor.removeprefix("val/")
    known = {k: mode for metrics in METRICS.values() for k, mode in metrics.items()}
    return known.get(name, "min" if name.endswith("loss") else "max")


def each_once(scores: Mapping[str, float], watched: str | None = None) -> dict[str, float]:
    """Returns scores with F1 under one name: not as `f1_binary` of two classes, or `f1_macro`, too.

    Args:
        scores: values by name, without `val/`.
        watched: name that stays where it is one of the two.
    """
    second = "f1_binary" if "f1_binary" in scores else "f1_macro"
    twice = "f1" if watched == second else second
    return {k: v for k, v in scores.items() if k != twice or not {"f1", second} <= set(scores)}


def require_watched(cfg: Mapping[str, Any], metrics: Mapping[str, str] | None = None) -> None:
    """Raises ThawError if a metric is watched that will not exist, or whose worst value would win.

    Args:
        cfg: the composed config, as plain containers.
        metrics: which of its values is better, "max" or "min", by name without `val/`; None: of
            the task, whatever the data will be; empty: not known, and nothing is checked.
    """
    if cfg.get("resume") is not None:  # it began before, and cannot be changed
        return
    declared = METRICS.get(cfg["task"]["_target_"]) if metrics is None else metrics
    if not declared:
        return
    known = {f"val/{name}": mode for name, mode in declared.items()} | {TRAINED: "min"}
    for option, name, key, mode in watched(cfg):
        if name not in known:
            there = ", ".join(known)
            meant = re.sub(r"^((val|eval)[_/])?", "val/", name.lower())
            close = difflib.get_close_matches(meant, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            if name in {f"val/{other}" for other in METRICS.get(cfg["task"]["_target_"], {})}:
                hint = " Data of other labels has it, or task.metrics leaves it out."
            raise ThawError(
                f"{option}={name}: there is no such metric.{hint} It is one of {there}."
            )
        if mode != known[name]:
            word = "larger" if known[name] == "max" else "smaller"
            raise ThawError(
                f"{option}={name} with {key}={mode} would keep the worst weights: of {name}, a "
                f"{word} value is better. Add {key}={known[name]}."
            )


def watched(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yields what is watched: an option and its value, the option of the mode and its value."""
    monitor, mode = cfg.get("monitor"), cfg.get("monitor_mode")
    if monitor is not None:
        yield "monitor", str(monitor), "monitor_mode", str(mode)
    for name, node in (cfg.get("callbacks") or {}).items():
        if isinstance(node, dict) and node.get("monitor") is not None:
            path = f"callbacks.{name}"
            # The default of Lightning's callbacks.
            yield f"{path}.monitor", str(node["monitor"]), f"{path}.mode", node.get("mode", "min")
