"""Cuts a split off another one, and reads the splits of a data set."""

import hashlib
import logging
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from thaw.data.read.text_store import hashes
from thaw.data.read.texts import Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


def cut(
    data: Texts,
    fractions: Mapping[str, float],
    seed: int,
    held: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Texts]:
    """Cuts splits off train: by hash of the group where there are groups, else stratified.

    With groups the cut is a function of the group's name alone, so that it never changes; a text
    that occurs in two splits stays in the evaluated one only.

    Args:
        data: all rows.
        fractions: the share of each split to cut off, such as {"validation": 0.1, "test": 0.1}.
        seed: of the stratified cut.
        held: rows that are a split already, such as a fold; the fractions are of the others.

    Returns:
        "train" and each name of `fractions` and `held`.

    Raises:
        ThawError: the fractions leave nothing for a split.
    """
    if not all(0 < f < 1 for f in fractions.values()) or sum(fractions.values()) >= 1:
        raise ThawError(f"cannot cut {dict(fractions)} of train: fractions lie between 0 and 1.")
    rows: dict[str, Any] = {"train": array("q"), **(held or {})}
    rest = np.delete(np.arange(len(data)), np.concatenate([[], *(held or {}).values()]).astype(int))
    if data.groups:
        for name in fractions:
            rows[name] = array("q")
        for i in rest:
            rows[split_of(data.groups[i], fractions)].append(i)
    else:
        from sklearn.model_selection import train_test_split

        whole = len(rest)
        for name, fraction in fractions.items():
            size = round(fraction * whole)
            if size < 1 or size >= len(rest):
                raise ThawError(
                    f"{data.origin}: {whole} rows are too few to cut {fraction} for {name}."
                )
            keys = [data.labels[i] for i in rest]
            counts = Counter(k for k in keys if isinstance(k, str))
            # A stratified cut needs two of each class, and room for every class on both sides.
            stratify = bool(counts) and min(counts.values()) > 1
            stratify = stratify and not any(isinstance(k, list) or k is None for k in keys)
            stratify = stratify and len(counts) <= min(size, len(rest) - size)
            rest, rows[name] = train_test_split(
                rest, test_size=size, random_state=seed, stratify=keys if stratify else None
            )
            if counts and not stratify:
                log.warning("%s is cut at random: a class is too rare to stratify", name)
        rows["train"] = rest
    texts = hashes(data.texts)
    seen = np.empty(0, dtype=np.int64)
    out: dict[str, Texts] = {}
    for name in ("test", "validation", "train"):
        if name not in rows:
            continue
        mine = np.sort(np.asarray(rows[name], dtype=np.int64))
        kept = mine[~np.isin(texts[mine], seen)]
        if dropped := len(mine) - len(kept):
            log.info(
                "%s: %d rows left out, whose text is in %s, cut from the same rows",
                name,
                dropped,
                " or ".join(out),
            )
        if not len(kept):
            raise ThawError(f"{data.origin}: nothing is left for {name} ({dict(fractions)}).")
        seen = np.concatenate([seen, texts[kept]])
        out[name] = data.take(kept)
    return out


def split_of(group: str, fractions: Mapping[str, float]) -> str:
    """The split of a group, from the SHA-256 of its name."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    edge = 0.0
    for name, fraction in fractions.items():
        edge += fraction
        if place < edge:
            return name
    return "train"
