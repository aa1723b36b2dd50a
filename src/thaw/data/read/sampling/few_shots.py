"""A few texts of each label, and batches of them."""

import logging
from collections import Counter
from collections.abc import Collection

import numpy as np

from thaw.data.read.labels.names import counted, label_counts, names_in, option
from thaw.data.read.rows import number_of
from thaw.data.read.texts import Texts
from thaw.errors import ThawError

log = logging.getLogger(__name__)


def distinct(texts: Texts) -> Texts:
    """Each text once; texts that occur with different labels are left out."""
    found: dict[tuple[str, ...], list[int]] = {}
    for row, text in enumerate(texts.texts):
        found.setdefault(text, []).append(row)
    labels = {t: {tuple(sorted(names_in(texts.labels[i]))) for i in r} for t, r in found.items()}
    if torn := [text for text, given in labels.items() if len(given) > 1]:
        log.warning(
            f"{texts.origin}: left out: {number_of(len(torn), 'texts')} with different labels, "
            f"such as {torn[0][0]!r:.60}"
        )
    return texts.take(rows[0] for text, rows in found.items() if len(labels[text]) == 1)


def leave_out(some: Collection[str], every: Collection[str]) -> str:
    """Returns what to type to leave some labels out, after a comma; "" if less than two stay."""
    dropped = f", or leave these labels out: {option('data.drop_labels', sorted(some))}"
    return dropped if len(every) - len(some) >= 2 else ""


def draw(texts: Texts, shots: int, seed: int, validation: Texts | None = None) -> Texts:
    """Draws `shots` of the texts, all different, of each label; where texts have several, a text
    counts for each of them. Raises ThawError if a label has fewer, and names those that went into
    `validation`, which was cut from the same rows."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(texts.labels):
        for name in names_in(label):
            rows.setdefault(name, []).append(row)
    if short := {name: len(found) for name, found in rows.items() if len(found) < shots}:
        taken = label_counts(validation.labels if validation else ())
        more = min(shots, *(len(found) + taken[name] for name, found in rows.items()))
        without = (
            f" validation took {len(validation or ())} of the rows: data.validation=null "
            f"task.shots={more} trains on these too (task.shots=null: on all)."
        )
        raise ThawError(
            f"{texts.origin}: {shots} different texts a label are wanted, and train has fewer of "
            f"{counted(short)}.{without * any(taken[name] for name in short)} Try task.shots="
            f"{min(short.values())} (data.shots under task=sequence)"
            f"{leave_out(short, rows)}."
        )
    rng = np.random.default_rng(seed)
    drawn: dict[int, None] = {}
    count: Counter[str] = Counter()
    for name in sorted(rows, key=lambda n: (len(rows[n]), n)):  # the rarest first
        for row in rng.permutation(rows[name]).tolist():
            if count[name] >= shots:
                break
            if row not in drawn:
                drawn[row] = None
                count.update(names_in(texts.labels[row]))
    return texts.take(drawn)
