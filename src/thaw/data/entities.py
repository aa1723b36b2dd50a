"""Entities of IOB2 tags, and how predicted ones differ from the gold ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Entity(NamedTuple):
    """An entity of a sentence: its type, its first word, and the word after its last."""

    type: str
    start: int
    end: int


class Difference(NamedTuple):
    """A gold and a predicted entity side by side; one may be missing. `kind` is one of `KINDS`."""

    kind: str
    gold: Entity | None
    predicted: Entity | None

    @property
    def entity(self) -> Entity:
        """The gold one, of a spurious one the predicted."""
        entity = self.gold or self.predicted
        assert entity is not None
        return entity


KINDS = ("right", "wrong type", "wrong boundary", "missed", "spurious")


def entities(tags: Sequence[str], strict: bool = False) -> list[Entity]:
    """The entities of a sentence.

    Args:
        tags: in IOB2, well-formed or not.
        strict: an I- without its B- is no entity, as in seqeval's strict mode; else it starts one,
            as in conlleval and seqeval's default.
    """
    found: list[Entity] = []
    start, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, this = tag.partition("-")
        if kind and prefix == "I" and this == kind:
            continue
        if kind:
            found.append(Entity(kind, start, place))
        starts = prefix == "B" or (prefix == "I" and not strict)
        start, kind = place, this if starts else ""
    return found


def spell(text: str, places: Sequence[tuple[int, int]], entity: Entity) -> dict[str, Any]:
    """An entity as `label`, `text`, `start` and `end` in characters, as `data.spans` reads it."""
    start, end = places[entity.start][0], places[entity.end - 1][1]
    return {"label": entity.type, "text": text[start:end], "start": start, "end": end}


def compare(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[Difference]:
    """Pairs gold with predicted entities, each at most once.

    First those that are equal, then those of the same words and another type, then those of the
    same type that overlap. What is left is missed or spurious.
    """
    missed, spurious = list(gold), list(predicted)
    out: list[Difference] = []
    rules = {
        "right": lambda a, b: a == b,
        "wrong type": lambda a, b: a[1:] == b[1:],
        "wrong boundary": lambda a, b: a.type == b.type and a.start < b.end and b.start < a.end,
    }
    for kind, fits in rules.items():
        for a in list(missed):
            b = next((b for b in spurious if fits(a, b)), None)
            if b is not None:
                out.append(Difference(kind, a, b))
                missed.remove(a)
                spurious.remove(b)
    out += [Difference("missed", a, None) for a in missed]
    out += [Difference("spurious", None, b) for b in spurious]
    return sorted(out, key=lambda difference: difference.entity.start)
