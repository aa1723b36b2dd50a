"""Predicts entities with an exported model of `task=ner`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForTokenClassification

from thaw.data.base import names_of
from thaw.data.encode.windows import prefix_spaces, windows
from thaw.data.entities import entities, spell
from thaw.data.ner import firsts
from thaw.data.read.entities.spans import places_of, words_of
from thaw.errors import ThawError
from thaw.tasks.predictor import CHUNK, Predictor


class TokenPredictor(Predictor):
    """Predicts the entities of texts, with their offsets."""

    auto_class = AutoModelForTokenClassification

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.labels = names_of(self.model.config.to_dict())
        prefix_spaces(self.tokenizer)
        stride = self.data["stride"]
        self.stride = self.data["max_tokens"] // 4 if stride is None else stride

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        choices = list(asked) or [self.data["tokens"], "tokens", self.data["text"], "text"]
        found = [c for c in choices if c in row]
        if not found or len(asked) > 1:
            raise ThawError(
                f"the input has no column {' or '.join(map(repr, dict.fromkeys(choices)))}; it has "
                f"{', '.join(map(repr, row))}. Set text=<column>, of text or of lists of words."
            )
        return found[:1]

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yields `entities` of each row: label, text, score, start and end in the row's text.

        For a list of words, it also yields their `predicted` tags, and `text`, the words joined by
        spaces.
        """
        rows = iter(rows)
        while chunk := list(islice(rows, self.batch_size * CHUNK)):
            read = [self.read(row[columns[0]]) for row in chunk]
            tagged = self.tag([[text[a:b] for a, b in places] for text, places, _ in read])
            for (text, places, extra), words in zip(read, tagged, strict=True):
                tags = [tag for tag, _ in words]
                found = []
                for entity in entities(tags):
                    score = min(p for _, p in words[entity.start : entity.end])
                    found.append(spell(text, places, entity) | {"score": score})
                yield extra | ({"predicted": tags} if extra else {}) | {"entities": found}

    def read(self, value: Any) -> tuple[str, list[tuple[int, int]], dict[str, str]]:
        """Returns a text, the offsets of its words, and the columns to add for a list of words."""
        if isinstance(value, list):
            words = [str(word) for word in value]
            return " ".join(words), places_of(words), {"text": " ".join(words)}
        text = "" if value is None else str(value)
        return text, words_of(text, self.model.config.fine_words), {}

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
        """Returns the tag of each word and its probability."""
        out = [[("O", 1.0)] * len(words) for words in sentences]
        there = [i for i, words in enumerate(sentences) if words]
        pieces = (
            windows(
                self.tokenizer, [sentences[i] for i in there], self.data["max_tokens"], self.stride
            )
            if there
            else []
        )
        flat = [(i, piece) for i, mine in zip(there, pieces, strict=True) for piece in mine]
        flat.sort(key=lambda pair: len(pair[1]["input_ids"]))
        for begin in range(0, len(flat), self.batch_size):
            part = flat[begin : begin + self.batch_size]
            word = [firsts(piece.pop("word_ids")) for _, piece in part]
            batch = self.tokenizer.pad([piece for _, piece in part], return_tensors="pt")
            with torch.inference_mode():
                logits = self.model(**batch.to(self.device)).logits
            best = torch.softmax(logits.float(), dim=-1).cpu().max(dim=-1)
            right = self.tokenizer.padding_side == "right"
            for n, (i, _) in enumerate(part):
                shift = 0 if right else logits.shape[1] - len(word[n])
                for at, w in enumerate(word[n]):
                    if w >= 0:
                        label = self.labels[int(best.indices[n, at + shift])]
                        out[i][w] = (label, float(best.values[n, at + shift]))
        return out
