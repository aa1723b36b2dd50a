"""Token classification: an entity tag for each word.

Shapes: B windows, T tokens, C labels.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification

from thaw.cli.watched_metric import ENTITIES
from thaw.data.base import names_of
from thaw.data.encode.windows import prefix_spaces, windows
from thaw.data.entities import KINDS, Difference, compare, entities, spell
from thaw.data.ner import IGNORED, firsts
from thaw.data.read.spans import places_of, words_of
from thaw.data.write import RowWriter
from thaw.encoder.load import load
from thaw.errors import ThawError
from thaw.report.sections import Counts, Piece, Section, Sentences, pieces
from thaw.report.test_results import TestResults
from thaw.tasks.base import EncoderTask
from thaw.tasks.losses import class_weight_tensor, labels_and_inputs, scale_for_ddp
from thaw.tasks.metrics import EntityF1
from thaw.tasks.predictor import Predictor

SHOWN = 100  # sentences with errors in the report


class TokenPredictor(Predictor):
    """Entities with their places in a text."""

    auto_class = AutoModelForTokenClassification

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.model.config.to_dict()
        self.labels = names_of(config)
        self.fine_words = bool(config.get("fine_words"))  # not of a model that thaw did not train
        prefix_spaces(self.tokenizer)
        stride = self.data.get("stride")
        self.stride = self.max_tokens // 4 if stride is None else stride

    def columns(self, row: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
        choices = list(asked) or [self.data["tokens"], "tokens", self.data["text"], "text"]
        found = [c for c in choices if c in row]
        if not found or len(asked) > 1:
            raise ThawError(
                f"the input has no column {' or '.join(map(repr, dict.fromkeys(choices)))}; it has "
                f"{', '.join(map(repr, row))}. Set text=<column>, of text or of lists of words."
            )
        return found[:1]

    def check(self, row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
        words = row.get(columns[0])
        if not isinstance(words, list):
            super().check(row, columns, where)
        elif bad := [word for word in words if not isinstance(word, str)]:
            raise ThawError(f"{where}: {columns[0]} has {bad[0]!r:.60}; expected a list of words.")

    def predict(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """`entities` of each row: label, text, score, start and end in the row's text.

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
        """Text, places of its words, and what the output row gets where words were given."""
        if isinstance(value, list):
            words = [str(word) for word in value]
            return " ".join(words), places_of(words), {"text": " ".join(words)}
        text = "" if value is None else str(value)
        return text, words_of(text, self.fine_words), {}

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
        """The tag of each word and its probability."""
        return [
            [(self.labels[p.argmax()], float(p.max())) for p in words]
            for words in self.mean_probabilities(sentences)
        ]

    def probabilities(self, inputs: Sequence[Sequence[str]]) -> list[Any]:
        """Returns the probability of each tag for each word, an array (W, C) a sentence.

        Args:
            inputs: sentences of words. A word that is in no window is outside for certain.
        """
        outside = np.array([name == "O" for name in self.labels], dtype=np.float32)
        out = [np.tile(outside, (len(words), 1)) for words in inputs]
        there = [i for i, words in enumerate(inputs) if words]
        pieces = (
            windows(self.tokenizer, [inputs[i] for i in there], self.max_tokens, self.stride)
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
            found = torch.softmax(logits.float(), dim=-1).cpu().numpy()
            right = self.tokenizer.padding_side == "right"
            for n, (i, _) in enumerate(part):
                shift = 0 if right else logits.shape[1] - len(word[n])
                for at, w in enumerate(word[n]):
                    if w >= 0:
                        out[i][w] = found[n, at + shift]
        return out


class TokenClassification(EncoderTask):
    """A classifier on each token's output (Devlin et al. 2019, section 5.3).

    A word's tag is that of its first subword. Scores are of words, and of whole sentences.

    Args:
        checkpoint: a model directory.
        labels: O, and B- and I- of each type: C of them.
        label_counts: how many tokens of train have each, for balanced weights.
        fine_words: how a raw text is split into words, see `thaw.data.read.spans.words_of`.
        label_subwords: whether "all" subwords of a word train, or its "first".
        class_weights: None; "balanced", inversely proportional to frequency (King and Zeng 2001);
            or C numbers.
        focal_gamma: of the focal loss (Lin et al. 2017, equation 4); 0: cross-entropy.
        strict: whether a predicted I- without its B- is no entity, see `EntityF1`.
        options: options of `EncoderTask`.

    Raises:
        ThawError: `class_weights` fits neither form.
    """

    pipeline = "token-classification"
    predictor = TokenPredictor
    metrics = ENTITIES
    examples = ("input=new.txt output=out.jsonl", "data=conll data.test=other.conll")

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        label_counts: Sequence[int] = (),
        fine_words: bool = False,
        label_subwords: str = "all",
        class_weights: str | Sequence[float] | None = None,
        focal_gamma: NonNegativeFloat = 0.0,
        strict: bool = False,
        **options: Any,
    ) -> None:
        model = load(
            AutoModelForTokenClassification,
            checkpoint,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={name: i for i, name in enumerate(labels)},
        )
        model.config.fine_words = fine_words
        super().__init__(model, **options)
        self.labels = list(labels)
        self.focal_gamma = focal_gamma
        weights = class_weight_tensor(class_weights, labels, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None
        # "simple" asks every subword; with "first" only the first of a word has learned its tag.
        strategy = "simple" if label_subwords == "all" else "first"
        self.pipeline_options = {"aggregation_strategy": strategy}
        types = [name[2:] for name in labels if name.startswith("B-")]
        self.entity_f1 = EntityF1(types, strict)
        self.test_scores: dict[str, Any] = {}

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, or focal loss, over labelled tokens; 0 where there are none.

        Args:
            logits: (B, T, C).
            labels: (B, T), -100 of what is not labelled.
        """
        labels = labels.flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), labels, reduction="none", ignore_index=IGNORED)
        if self.focal_gamma:
            # The derivative of a power below 1 is infinite at 0.
            loss = loss * (1 - torch.exp(-loss)).clamp(min=1e-6) ** self.focal_gamma
        weights = self.weights(labels)
        return (loss * weights).sum() / weights.sum().clamp(min=1e-9)

    def weights(self, labels: Tensor) -> Tensor:
        """What each token counts in the loss: 0 of what is not labelled."""
        labelled = (labels != IGNORED).float()
        if self.class_weights is None:
            return labelled
        return labelled * self.class_weights[labels.clamp(min=0)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, inputs = labels_and_inputs(batch)
        loss = self.loss(self(**inputs), labels)
        self.log("train/loss", loss, batch_size=len(labels))
        return scale_for_ddp(loss, self.weights(labels).sum())

    def evaluate(self, batch: dict[str, Tensor]) -> dict[int, tuple[list[str], list[str]]]:
        """Predicted and gold tags of a batch's sentences, by row; adds loss and scores.

        A batch holds all windows of its sentences. As many go through the model at a time as there
        are sentences, so that a long text needs no more memory.
        """
        labels, inputs = labels_and_inputs(batch)
        size = len(batch["row"].unique())
        logits = torch.cat(
            [
                self(**{key: value[begin : begin + size] for key, value in inputs.items()})
                for begin in range(0, len(labels), size)
            ]
        )
        self.eval_loss.update(self.loss(logits, labels), (labels != IGNORED).sum())
        first = batch["word"] >= 0
        rows = batch["row"][:, None].expand_as(first)
        columns = torch.stack([rows, batch["word"], logits.argmax(dim=-1), labels])
        words = sorted(columns[:, first].T.tolist())
        tagged = {}
        for row, group in groupby(words, key=itemgetter(0)):
            _, _, ours, gold = zip(*group, strict=True)
            tagged[row] = ([self.labels[i] for i in ours], [self.labels[i] for i in gold])
        self.entity_f1.update(*zip(*tagged.values(), strict=True))
        return tagged

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.entity_f1)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.test_outputs += [(row, ours) for row, (ours, _) in self.evaluate(batch).items()]

    def on_test_epoch_end(self) -> None:
        self.test_scores = self.log_scores("test", self.entity_f1)

    def test_results(self) -> TestResults:
        """Returns scores of all entities and of each type, and the tags of each sentence."""
        types = self.entity_f1.types
        # Logged numbers are rounded to float32, these are not.
        metrics = {f"test/{k}": float(v) for k, v in self.test_scores.items() if k != "per_type"}
        for name, values in self.test_scores["per_type"].items():
            metrics |= {f"test/{name}/{k}": v for k, v in zip(types, values, strict=True)}
        return TestResults(metrics, dict(sorted(self.gather_test_outputs())))

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes `predictions.jsonl`, a sentence a row, `errors.jsonl`, an entity a row, and
        `errors.png`; returns what became of the entities, and the sentences with most errors."""
        from thaw.report.figures import error_figure

        sentences, strict = data.rows["test"], self.entity_f1.strict
        counts = {kind: Counter[str]() for kind in self.entity_f1.types}
        wrong: list[tuple[int, int, list[Difference]]] = []
        with (
            RowWriter(run_dir / "predictions.jsonl") as predictions,
            RowWriter(run_dir / "errors.jsonl") as errors,
        ):
            for row, predicted in test.outputs.items():
                gold = sentences.labels[row]
                differences = compare(entities(gold, strict), entities(predicted, strict))
                for found in differences:
                    counts[found.entity.type][found.kind] += 1
                text, places = sentences.originals[row], sentences.places[row]
                predictions.write(
                    {
                        "text": text,
                        "tokens": list(sentences.texts[row]),
                        "gold": gold,
                        "predicted": predicted,
                        "offsets": [list(place) for place in places],
                    }
                )
                found_errors = [found for found in differences if found.kind != "right"]
                for found in found_errors:
                    ours = [e and spell(text, places, e) for e in (found.gold, found.predicted)]
                    errors.write(
                        {"kind": found.kind, "sentence": row, "gold": ours[0]}
                        | {"predicted": ours[1], "text": text}
                    )
                if found_errors:
                    wrong.append((len(found_errors), -row, differences))
        error_figure(counts, run_dir / "errors.png")
        shown = heapq.nlargest(SHOWN, wrong, key=lambda sentence: sentence[:2])
        note = f"{len(wrong):,} of {len(test.outputs):,} sentences of the test have errors"
        note += f"; the {SHOWN} with the most." if len(wrong) > SHOWN else "; most errors first."
        table = [[counts[kind][k] for k in KINDS] for kind in counts]
        pairs = [self.side_by_side(sentences, -row, found) for _, row, found in shown]
        return [
            Counts("entities", "type", "outcome", list(counts), KINDS, table),
            Sentences("errors", pairs, note),
        ]

    def side_by_side(
        self, sentences: Any, row: int, differences: Sequence[Difference]
    ) -> tuple[list[Piece], list[Piece]]:
        """A sentence with its gold entities, and with the predicted ones."""
        text, places = sentences.originals[row], sentences.places[row]
        sides = []
        for side in ("gold", "predicted"):
            there = [(e, d.kind) for d in differences if (e := getattr(d, side))]
            marks = [
                (places[e.start][0], places[e.end - 1][1], e.type, kind)
                for e, kind in sorted(there, key=lambda pair: pair[0].start)
            ]
            sides.append(pieces(text, marks))
        return sides[0], sides[1]
