"""Folds for cross-validation: each text in one of them, groups whole, labels in equal shares."""

import logging
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from thaw.data.read.labels.names import counted, label_counts, names_in
from thaw.data.read.text_store import hashes
from thaw.data.read.texts import Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


def require_fold(folds: int | None, fold: int | None, sources: Mapping[str, Any]) -> None:
    """Raises ThawError unless both are given and fit `sources`, or neither is given."""
    if folds is None and fold is not None:
        raise ThawError(f"data.fold={fold} needs data.folds=<how many>, such as data.folds=5.")
    if folds is None:
        return
    every = f"-m data.folds={folds} data.fold={','.join(map(str, range(folds)))}"
    if fold is None:
        raise ThawError(f"data.folds={folds}: which one is this run's? For all of them: {every}")
    if fold >= folds:
        raise ThawError(
            f"data.fold={fold}: with data.folds={folds}, folds are 0 to {folds - 1}: {every}"
        )
    fold_split(sources)


def fold_split(sources: Mapping[str, Any]) -> str:
    """Returns the split that is a fold of train: test, or validation where a test is named."""
    for split in ("test", "validation"):
        if not isinstance(sources.get(split), str):
            return split
    raise ThawError(
        f"data.folds: the fold is the test split, or validation where there is a test split, and "
        f"here both are named (data.test={sources['test']}, data.validation="
        f"{sources['validation']}). Set data.test=null, or data.validation=null."
    )


def held_out(rows: Texts, labels: Sequence[Any], folds: int, fold: int, seed: int) -> np.ndarray:
    """The rows of a fold, in their order; the same seed gives the same folds.

    Groups are whole; where there are none, a text that occurs more than once is. Labels are
    stratified (scikit-learn's StratifiedKFold and StratifiedGroupKFold): equal shares of each where
    there are no groups, shares as alike as the groups allow where there are. A text with several
    labels counts for its rarest.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _, first, place = np.unique(hashes(rows.texts), return_index=True, return_inverse=True)
    # The row where each row's text is first: hashes differ between processes, rows do not.
    origin = np.arange(len(rows)) if rows.groups else first[place]
    kept = np.unique(origin)
    groups = numbered(rows.groups)
    count = len(np.unique(groups)) if rows.groups else len(kept)
    if count < folds:
        what = "groups" if rows.groups else "different texts"
        raise ThawError(f"{rows.origin}: {count} {what} are too few for data.folds={folds}.")
    keys = numbered(strata([labels[i] for i in kept], folds, rows.origin))
    kind = StratifiedGroupKFold if rows.groups else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare labels: `cut` of splits.py says it
        parts = splitter.split(keys, keys, groups if rows.groups else None)
        _, found = next(islice(parts, fold, None))
    held = np.flatnonzero(np.isin(origin, kept[found]))
    if not len(held):
        raise ThawError(
            f"{rows.origin}: data.fold={fold} of data.folds={folds} is empty, as {count} groups "
            "are of very different sizes: try fewer folds, or another data.split_seed."
        )
    return held


def strata(labels: Sequence[Any], folds: int, origin: str) -> list[str]:
    """Returns what a text counts for: its label; of several, the rarest that each fold can have."""
    counts = label_counts(labels)
    if all(isinstance(value, str) for value in labels):
        return list(labels) if max(counts.values()) >= folds else [""] * len(labels)
    rare = {name: count for name, count in counts.items() if count < folds}
    if rare:
        log.warning(
            f"{origin}: labels with fewer texts than data.folds={folds} are not in each fold: "
            f"{counted(rare)}"
        )
    keys = []
    for value in labels:
        names = [name for name in names_in(value) if name not in rare]
        keys.append(min(names, key=lambda n: (counts[n], n), default=""))
    several = Counter(keys)
    return [key if several[key] >= folds else "" for key in keys]


def numbered(names: Sequence[str]) -> np.ndarray:
    """A number for each name, in the order of their first occurrence."""
    ids: dict[str, int] = {}
    return np.fromiter((ids.setdefault(n, len(ids)) for n in names), np.int64, len(names))
