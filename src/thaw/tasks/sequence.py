"""Sequence classification: a label, or several, for a whole text.

Shapes: B batch, T tokens, C labels.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from thaw.encoder.blocks import encoder
from thaw.encoder.first_token import first_token_only
from thaw.errors import ThawError
from thaw.tasks.base import Smoothing
from thaw.tasks.deciding import require_several_labels
from thaw.tasks.losses import class_weight_tensor
from thaw.tasks.predictors.sequence import SequencePredictor
from thaw.tasks.text_classifier import TextClassifier, load_classifier
from thaw.tasks.text_task import Pooling

log = logging.getLogger(__name__)


class SequenceClassification(TextClassifier):
    """A classifier on the encoder's pooled output (Devlin et al. 2019, section 4.1).

    Args:
        checkpoint: model directory.
        labels: names of the C classes.
        multi_label: whether a text has several labels.
        label_counts: number of texts of train with each label, for balanced weights.
        class_weights: weights of the classes in the loss: None, C numbers, or "balanced", inversely
            proportional to frequency (King and Zeng 2001). With several labels a text, they weigh
            the positive terms.
        label_smoothing: part of each target that all classes share (Szegedy et al. 2016), as
            torch's cross-entropy has it, in training and in validation.
        window_pooling: how the logits of a text's windows become the text's: their mean or maximum.
        windows_at_once: most windows whose states are in memory together.
        window_stride: number of tokens that two windows share; None: texts are cut.
        options: options of `OptimizedModule`.

    Raises:
        ThawError: `class_weights` fits neither form.
    """

    predictor = SequencePredictor
    for_few_texts = "; task=setfit learns from a few texts of each label"

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        multi_label: bool = False,
        label_counts: Sequence[int] = (),
        class_weights: str | Sequence[float] | None = None,
        label_smoothing: Smoothing = 0.0,
        window_pooling: Pooling = "mean",
        windows_at_once: PositiveInt = 32,
        window_stride: int | None = None,
        **options: Any,
    ) -> None:
        if multi_label and class_weights == "balanced":
            raise ThawError("task.class_weights=balanced is for one label a text.")
        if multi_label and label_smoothing:
            raise ThawError("task.label_smoothing is for one label a text.")
        weights = class_weight_tensor(class_weights, labels, label_counts)
        require_several_labels(multi_label, options.get("thresholds"))  # before a model is read
        model = load_classifier(AutoModelForSequenceClassification, checkpoint, labels, multi_label)
        first_token_only(model)  # replaces a block, so before blocks are frozen
        super().__init__(model, labels, multi_label, weights, **options)
        self.label_smoothing = label_smoothing
        self.read_windows(window_stride, window_pooling, windows_at_once)
        parts = encoder(model)
        trains = self.unfreeze_stages or any(p.requires_grad for m in parts for p in m.parameters())
        if not trains and (Path(checkpoint) / "modules.json").exists():
            # MiniLM on Rotten Tomatoes: F1 0.728 of [CLS], 0.790 of TF-IDF, 0.764 of the mean.
            log.warning(
                "this checkpoint is a sentence encoder, whose [CLS] state was not trained to stand "
                "for a text, and freeze leaves it so: a bag of words may score higher. Better are "
                "task=setfit task.shots=null freeze=head, which classifies the sentence's "
                "embedding, or freeze=last freeze.blocks=1"
            )

    def loss_weight(self, labels: Tensor) -> Tensor | float:
        if self.class_weights is None or self.multi_label:
            return len(labels)
        return self.class_weights[labels].sum()
