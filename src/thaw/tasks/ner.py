"""Token classification: an entity tag for each word.

Shapes: B windows, T tokens, C labels.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification

from thaw.cli.watched_metric import ENTITIES
from thaw.data.entities import KINDS, Difference, compare, entities, spell
from thaw.data.ner import IGNORED
from thaw.data.write import RowWriter
from thaw.encoder.load import load_labelled
from thaw.report.sections import Counts, Piece, Section, Sentences, TestResults, pieces
from thaw.tasks.base import EncoderTask, Smoothing
from thaw.tasks.losses import class_weight_tensor, labels_and_inputs, scale_for_ddp
from thaw.tasks.metrics.entities import EntityF1
from thaw.tasks.predictors.ner import TokenPredictor

SHOWN = 100  # most sentences with errors in the report


class TokenClassification(EncoderTask):
    """A classifier on each token's output (Devlin et al. 2019, section 5.3).

    A word's tag is that of its first subword. Scores are those of whole sentences.

    Args:
        checkpoint: model directory.
        labels: names of the C tags: O, and B- and I- of each type.
        label_counts: number of tokens of train with each tag, for balanced weights.
        fine_words: whether a raw text is split finely, see
            `thaw.data.read.entities.spans.words_of`.
        label_subwords: subwords of a word that have a label in training, "all" or "first".
        class_weights: weights of the tags in the loss: None, C numbers, or "balanced", inversely
            proportional to frequency (King and Zeng 2001).
        label_smoothing: part of each target that all tags share (Szegedy et al. 2016), as torch's
            cross-entropy has it, in training and in validation.
        focal_gamma: exponent of the focal loss (Lin et al. 2017, equation 4); 0: cross-entropy.
        strict: whether a predicted I- without its B- is no entity, see `EntityF1`.
        options: options of `OptimizedModule`.

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
        label_smoothing: Smoothing = 0.0,
        focal_gamma: NonNegativeFloat = 0.0,
        strict: bool = False,
        **options: Any,
    ) -> None:
        model = load_labelled(AutoModelForTokenClassification, checkpoint, labels)
        model.config.fine_words = fine_words
        super().__init__(model, **options)
        self.labels = list(labels)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        weights = class_weight_tensor(class_weights, labels, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None
        # "simple" reads every subword; with "first", only the first of a word learns its tag.
        strategy = "simple" if label_subwords == "all" else "first"
        self.pipeline_options = {"aggregation_strategy": strategy}
        types = [name[2:] for name in labels if name.startswith("B-")]
        self.scores = EntityF1(types, strict)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the mean cross-entropy, or focal loss, of logits (B, T, C) over the tokens whose
        label, in (B, T), is not -100; 0 if there are none."""
        logits, labels = logits.flatten(0, 1), labels.flatten()
        options: Any = {"reduction": "none", "ignore_index": IGNORED}
        loss = F.cross_entropy(
            logits, labels, self.class_weights, label_smoothing=self.label_smoothing, **options
        )
        if self.focal_gamma:
            chance = torch.exp(-F.cross_entropy(logits, labels, **options))
            # The derivative of a power below 1 is infinite at 0.
            loss = loss * (1 - chance).clamp(min=1e-6) ** self.focal_gamma
        return loss.sum() / self.weights(labels).sum().clamp(min=1e-9)

    def weights(self, labels: Tensor) -> Tensor:
        """Returns the weight of each token in the loss, 0 for tokens without a label."""
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
        """Returns predicted and gold tags of a batch's sentences, by row; adds loss and scores.

        A batch holds all windows of its sentences. The model gets as many windows at a time as
        there are sentences, so that a long text needs no more memory.
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
        self.scores.update(*zip(*tagged.values(), strict=True))
        return tagged

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.test_outputs += [(row, ours) for row, (ours, _) in self.evaluate(batch).items()]

    def test_results(self) -> TestResults:
        """Returns scores of all entities and of each type, and the tags of each sentence."""
        types = self.scores.types
        # Logged numbers are rounded to float32, these are not.
        metrics = {f"test/{k}": float(v) for k, v in self.test_scores.items() if k != "per_type"}
        for name, values in self.test_scores["per_type"].items():
            metrics |= {f"test/{name}/{k}": v for k, v in zip(types, values, strict=True)}
        return TestResults(metrics, dict(sorted(self.gather_test_outputs())))

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes `predictions.jsonl`, a sentence a row, and `errors.jsonl`, an entity a row;
        returns what became of the entities, and the sentences with most errors."""
        from thaw.report.figures import error_figure

        sentences, strict = data.rows["test"], self.scores.strict
        counts = {kind: Counter[str]() for kind in self.scores.types}
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
        shown = heapq.nlargest(SHOWN, wrong, key=lambda sentence: sentence[:2])
        note = f"{len(wrong):,} of {len(test.outputs):,} sentences of the test have errors"
        note += f"; the {SHOWN} with the most." if len(wrong) > SHOWN else "; most errors first."
        table = [[counts[kind][k] for k in KINDS] for kind in counts]
        pairs = [self.side_by_side(sentences, -row, found) for _, row, found in shown]
        return [
            Counts("entities", "type", "outcome", list(counts), KINDS, table),
            error_figure(counts),
            Sentences("errors", pairs, note),
        ]

    def side_by_side(
        self, sentences: Any, row: int, differences: Sequence[Difference]
    ) -> tuple[list[Piece], list[Piece]]:
        """Returns a sentence with its gold entities, and with the predicted ones."""
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
