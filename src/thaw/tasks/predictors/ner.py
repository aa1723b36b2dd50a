"""Predicts entities with an exported model of `task=ner`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from thaw.data.encode.windows import firsts, prefix_spaces, windows
from thaw.data.entities import entities, spell
from thaw.data.read.entities.spans import places_of, words_of
from thaw.data.read.labels.names import names_of
from thaw.data.read.row_values import input_lacks
from thaw.data.read.rows import Row
from thaw.errors import ThawError
from thaw.tasks.predictors.base import Predictor, softmax


class TokenPredictor(Predictor):
    """Predicts the entities of texts, with their offsets."""

    auto_class = "AutoModelForTokenClassification"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.model.config
        self.labels = names_of(config)
        self.fine_words = bool(config.get("fine_words"))  # not of a model that thaw did not train
        prefix_spaces(self.tokenizer)
        stride = self.data.get("stride")
        self.stride = self.max_tokens // 4 if stride is None else stride

    def columns(self, row: Row, asked: Sequence[str]) -> list[str]:
        choices = list(asked) or [self.data["tokens"], "tokens", self.data["text"], "text"]
        found = [c for c in choices if c in row]
        if not found or len(asked) > 1:
            raise input_lacks(choices, row, ", of text or of lists of words")
        return found[:1]

    def check(self, row: Row, columns: Sequence[str], where: str) -> None:
        words = row.get(columns[0])
        if not isinstance(words, list):
            super().check(row, columns, where)
        elif bad := [word for word in words if not isinstance(word, str)]:
            raise ThawError(f"{where}: {columns[0]} has {bad[0]!r:.60}; expected a list of words.")

    def predict(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yields `entities` of each row: label, text, score, start and end in the row's text.

        Rows that hold lists of words get `predicted` tags too, and `text`, the words joined by
        spaces.
        """
        for piece in self.pieces(rows):
            read = [self.read(row[columns[0]]) for row in piece]
            tagged = self.tag([[text[a:b] for a, b in places] for text, places, _ in read])
            for (text, places, extra), words in zip(read, tagged, strict=True):
                tags = [tag for tag, _ in words]
                found = []
                for entity in entities(tags):
                    score = min(p for _, p in words[entity.start : entity.end])
                    found.append(spell(text, places, entity) | {"score": score})
                yield extra | ({"predicted": tags} if extra else {}) | {"entities": found}

    def read(self, value: Any) -> tuple[str, list[tuple[int, int]], dict[str, str]]:
        """Returns the text, the offsets of its words, and columns added where words were given."""
        if isinstance(value, list):
            words = [str(word) for word in value]
            return " ".join(words), places_of(words), {"text": " ".join(words)}
        text = "" if value is None else str(value)
        return text, words_of(text, self.fine_words), {}

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
        """Returns the tag of each word and its probability."""
        return [
            [
                (self.labels[i], p)
                for i, p in zip(words.argmax(1).tolist(), words.max(1).tolist(), strict=True)
            ]
            for words in self.mean_probabilities(sentences)
        ]

    def probabilities(self, inputs: Sequence[Sequence[str]]) -> list[Any]:
        """Returns the probability of each tag for each word, an array (W, C) a sentence; a word in
        no window is outside for certain."""
        outside = np.array([name == "O" for name in self.labels], dtype=np.float32)
        out = [np.tile(outside, (len(words), 1)) for words in inputs]
        there = [i for i, words in enumerate(inputs) if words]
        pieces = (
            windows(self.tokenizer, [inputs[i] for i in there], self.max_tokens, self.stride)
            if there
            else []
        )
        flat = [(i, piece) for i, mine in zip(there, pieces, strict=True) for piece in mine]
        for rows in self.batches([len(piece["input_ids"]) for _, piece in flat]):
            part = [flat[i] for i in rows]
            word = [firsts(piece.pop("word_ids")) for _, piece in part]
            columns = {key: [piece[key] for _, piece in part] for key in part[0][1]}
            found = softmax(self.model(self.tokenizer.pad(columns, return_tensors="np")))
            right = self.tokenizer.padding_side == "right"
            for n, (i, _) in enumerate(part):
                numbers = np.array(word[n])
                begins = 0 if right else found.shape[1] - len(numbers)
                owned = numbers >= 0
                out[i][numbers[owned]] = found[n, begins : begins + len(numbers)][owned]
        return out
