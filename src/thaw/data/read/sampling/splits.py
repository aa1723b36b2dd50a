"""Cuts splits off the rows of train."""

import hashlib
import logging
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thaw.data.read.labels.names import counted, names_in
from thaw.data.read.rows import number_of
from thaw.data.read.sampling.folds import numbered
from thaw.data.read.text_store import hashes
from thaw.data.read.texts import SPLITS, Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)

TRAIN = SPLITS.index("train")


def cut(
    data: Texts,
    fractions: Mapping[str, float],
    seed: int,
    held: Mapping[str, np.ndarray] | None = None,
    labels: Sequence[Any] | None = None,
) -> dict[str, Texts]:
    """Cuts splits off train: by hash of the group where there are groups, else stratified.

    With groups the cut is a function of the group's name alone, so that it never changes. A text
    that occurs in two splits stays in the evaluated one only. A label that train would lack brings
    a text into train, with all of its group: such labels are named in one warning.

    Args:
        data: all rows.
        fractions: the share of each split to cut off, such as {"validation": 0.1, "test": 0.1}.
        seed: of the stratified cut.
        held: rows that are a split already, such as a fold; the fractions are of the others.
        labels: what train must have of all that is evaluated: of each row a name, a list of names,
            or None; by default the labels of `data`.
    """
    if not all(0 < f < 1 for f in fractions.values()) or sum(fractions.values()) >= 1:
        zero = "".join(f" data.{name}=null goes without." for name, f in fractions.items() if not f)
        raise ThawError(
            f"cannot cut {cut_options(fractions)} of train: fractions lie between 0 and 1, their "
            f"sum too.{zero}"
        )
    work = Cut(data, data.labels if labels is None else labels)
    for name, rows in (held or {}).items():
        work.split[rows] = SPLITS.index(name)
    rest = np.flatnonzero(work.split == TRAIN)
    if data.groups:
        found = {group: split_of(group, fractions) for group in dict.fromkeys(data.groups)}
        for row in rest:
            work.split[row] = SPLITS.index(found[data.groups[row]])
    else:
        whole = len(rest)
        for name, fraction in fractions.items():
            rest, rows = work.draw(rest, fraction, whole, seed, name)
            work.split[rows] = SPLITS.index(name)
    work.keep_labels_in_train()
    wanted = {"train", *fractions, *(held or {})}
    names = [split for split in ("test", "validation", "train") if split in wanted]
    work.warn([s for s in names if s != "train"])
    return {name: work.rows_of(name, fractions) for name in names}


class Cut:
    """Rows that are being divided into splits.

    Args:
        data: all rows.
        labels: label of each row: a name, a list of names, or None.
    """

    def __init__(self, data: Texts, labels: Sequence[Any]) -> None:
        self.data, self.labels = data, labels
        # Split of each row, as an index of `SPLITS`.
        self.split = np.full(len(data), TRAIN, dtype=np.int8)
        # A number for each row, the same for the same text.
        self.text = np.unique(hashes(data.texts), return_inverse=True)[1]
        self.distinct = int(self.text.max(initial=-1)) + 1
        # What messages count: equal texts once.
        self.of_these = "distinct text" if self.distinct < len(data) else "text"
        # A number for each row, the same for rows that are brought into train together.
        self.unit = numbered(data.groups) if data.groups else self.text
        self.rare: dict[str, int] = {}  # labels that stay in train, with how many texts they have
        self.unequal: dict[str, int] = {}  # labels that are cut at random, likewise
        # Labels for which groups, those of `moved`, were brought into train, likewise.
        self.lacking: dict[str, int] = {}
        self.moved: list[str] = []
        self.brought = np.empty(0, dtype=np.int64)  # rows that were brought into train

    def draw(
        self, rest: np.ndarray, fraction: float, whole: int, seed: int, name: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of `rest` that are left, and those of a split: a fraction of `whole`.

        They are stratified where texts have one label each. Labels with one text are left to train.
        Where there are more labels than rows to draw, those whose share is less than a row are
        drawn as if they were one.
        """
        from sklearn.model_selection import train_test_split

        size = round(fraction * whole)
        if size < 1 or size >= len(rest):
            raise ThawError(
                f"{self.data.origin}: {whole} rows are too few to cut {fraction} for {name}: "
                f"data.{name}=null goes without."
            )
        keys = [self.labels[i] for i in rest]
        if not all(isinstance(key, str) for key in keys):
            left, drawn = train_test_split(rest, test_size=size, random_state=seed)
            return left, drawn
        texts = Counter(key for key, _ in {*zip(keys, self.text[rest].tolist(), strict=True)})
        rare = {key: count for key, count in texts.items() if count < 2}
        self.rare |= rare
        apart = np.asarray([key in rare for key in keys])
        rows = rest[~apart]
        keys = [key for key in keys if key not in rare]
        size = min(size, len(rows) - 1)
        if size < 1:
            raise ThawError(
                f"{self.data.origin}: {len(rare)} of {len(texts)} labels have one {self.of_these}, "
                f"and a text in {name} needs another one with its label in train. Put rare labels "
                f"together, or go without: data.{name}=null."
            )
        strata = self.strata(keys, size)
        left, drawn = train_test_split(rows, test_size=size, random_state=seed, stratify=strata)
        return np.concatenate([left, rest[apart]]), drawn

    def strata(self, keys: list[str], size: int) -> list[str] | None:
        """Returns what to have equal shares of; None where there is nothing."""
        counts = Counter(keys)
        room = min(size, len(keys) - size)
        if len(counts) <= room:
            return keys
        small = {key: count for key, count in counts.items() if count * size < len(keys)}
        self.unequal |= small
        merged = ["" if key in small else key for key in keys]
        counts = Counter(merged)
        return merged if 1 < len(counts) <= room and min(counts.values()) > 1 else None

    def kept(self) -> np.ndarray:
        """Returns which rows stay: a text in the split evaluated last, or in train if brought."""
        last = np.full(self.distinct, TRAIN, dtype=np.int8)
        np.maximum.at(last, self.text, self.split)
        last[self.text[self.brought]] = TRAIN
        return self.split == last[self.text]

    def keep_labels_in_train(self) -> None:
        """Brings texts into train until it has all labels that are evaluated."""
        ids: dict[str, int] = {}
        pairs = array("q"), array("q")
        for row, label in enumerate(self.labels):
            for name in names_in(label):
                pairs[0].append(row)
                pairs[1].append(ids.setdefault(name, len(ids)))
        rows, codes = map(np.asarray, pairs)
        names = list(ids)
        while True:
            kept = self.kept()[rows]
            evaluated = kept & (self.split[rows] != TRAIN)
            there = np.zeros(len(names), dtype=bool)
            there[codes[kept & ~evaluated]] = True
            lost = evaluated & ~there[codes]
            missing, first = np.unique(codes[lost], return_index=True)
            if not len(missing):
                return
            for code, row in zip(missing, rows[lost][first], strict=True):
                found = self.lacking if self.data.groups else self.rare
                found[names[code]] = len(np.unique(self.text[rows[codes == code]]))
                if self.split[row] == TRAIN:
                    continue
                self.moved += [self.data.groups[row]] if self.data.groups else []
                brought = np.flatnonzero(self.unit == self.unit[row])
                self.split[brought] = TRAIN
                self.brought = np.concatenate([self.brought, brought])

    def warn(self, names: Sequence[str]) -> None:
        """Warns, once, of labels that could not be cut in equal shares."""
        said = []
        if self.rare:
            splits = " and ".join(names[::-1])
            said.append(
                f"{number_of(len(self.rare), 'labels have')} too few {self.of_these}s for "
                f"{splits}, train has them all: {few(self.rare)}"
            )
        if self.moved:
            groups = number_of(len(self.moved), "groups")
            said.append(
                f"{number_of(len(self.lacking), 'labels')} would be missing in train, which has "
                f"{groups} whole, such as {self.moved[0]!r}: {few(self.lacking)}"
            )
        if unequal := {k: v for k, v in self.unequal.items() if k not in self.rare}:
            said.append(
                f"{number_of(len(unequal), 'labels have')} too few texts for equal shares, cut at "
                f"random: {few(unequal)}"
            )
        if said:
            log.warning("%s: %s", self.data.origin, "; ".join(said))

    def rows_of(self, name: str, fractions: Mapping[str, float]) -> Texts:
        """Returns the rows of a split, and says how many are left out as another has their text."""
        here = self.split == SPLITS.index(name)
        rows = np.flatnonzero(here & self.kept())
        if not len(rows):
            way = f": data.{name}=null goes without." if name != "train" else "."
            raise ThawError(
                f"{self.data.origin}: nothing is left for {name} ({cut_options(fractions)}) of "
                f"{len(self.data)} rows with {number_of(self.distinct, 'distinct texts')}{way}"
            )
        out = self.data.take(rows)
        out.repeats = int(here.sum()) - len(rows)
        if out.repeats:
            why = "whose text is in another split, cut from the same rows"
            log.info("%s: %s left out, %s", name, number_of(out.repeats, "rows"), why)
        return out


def cut_options(fractions: Mapping[str, float]) -> str:
    """Returns fractions of splits as the options that set them."""
    return ", ".join(f"data.{name}={fraction:g}" for name, fraction in fractions.items())


def few(counts: Mapping[str, int]) -> str:
    """Returns labels with their counts, those with the fewest texts first."""
    return counted({name: counts[name] for name in sorted(counts, key=lambda n: (counts[n], n))})


def split_of(group: str, fractions: Mapping[str, float]) -> str:
    """Returns the split of a group, from the SHA-256 of its name."""
    digest = hashlib.sha256(group.encode("utf-8", "surrogatepass")).digest()
    number, edge = int.from_bytes(digest[:8]) / 2**64, 0.0
    for name, fraction in fractions.items():
        edge += fraction
        if number < edge:
            return name
    return "train"
