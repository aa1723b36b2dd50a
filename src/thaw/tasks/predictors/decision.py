"""How an exported classifier decides, in thaw's own file of a model directory.

Temperature is in the weights already, so that every library computes calibrated probabilities;
thresholds are applied by thaw alone.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from thaw.errors import ThawError

log = logging.getLogger(__name__)

FILE = "decision.json"
HALF = 0.5  # threshold of a label that has no other


@dataclass(frozen=True)
class Decision:
    """How a classifier decides."""

    # Probability that a label's must exceed, by label; None: 0.5 for all.
    thresholds: Mapping[str, float] | None = None
    # Number that the last layer was divided by (Guo et al. 2017); None: none was fitted.
    temperature: float | None = None

    def write(self, directory: Path) -> None:
        """Writes itself into a model directory, unless it is the default."""
        if self != DEFAULT:
            (directory / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


DEFAULT = Decision()


def read_decision(directory: Path, labels: Sequence[str]) -> Decision:
    """Returns the decision of a model directory, with or without the file; raises ThawError if that
    is not what thaw writes, or is of other labels than the model's."""
    path = directory / FILE
    if not path.exists():
        return DEFAULT
    try:
        found = Decision(**json.loads(path.read_text("utf-8")))
        numbers = [] if found.thresholds is None else list(found.thresholds.values())
        fits = all(0 <= n <= 1 for n in numbers)
        fits &= found.temperature is None or found.temperature > 0
        fits &= found.thresholds is None or set(found.thresholds) == set(labels)
    except (TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise ThawError(
            f"{path}: expected thresholds from 0 to 1 of the labels {', '.join(labels)}, and a "
            "temperature above 0, as thaw writes them. Without the file, every threshold is 0.5."
        )
    return found


def mean_decision(decisions: Sequence[Decision], labels: Sequence[str]) -> Decision:
    """Returns the decision of models whose probabilities are averaged: the mean of each threshold.

    A label's mean probability exceeds its mean threshold where the models' mean margin is positive.
    """
    if len(decisions) == 1:
        return decisions[0]
    if all(one.thresholds is None for one in decisions):
        return DEFAULT
    log.warning("averaged models decide by the mean of their thresholds, which is tuned on nothing")
    every = [one.thresholds or dict.fromkeys(labels, HALF) for one in decisions]
    return Decision({name: mean(one[name] for one in every) for name in labels})
