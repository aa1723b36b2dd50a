"""Few-shot classification (SetFit; Tunstall et al. 2022): an encoder tuned on pairs, then a head.

Shapes: B batch, T tokens, C labels, D width, N shots of all classes.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel

from thaw.data.base import names_of
from thaw.errors import ThawError
from thaw.metrics import classification_metrics, per_class_metrics, probabilities
from thaw.sentences import LOSSES, read_pooling, write_pooling
from thaw.tasks.base import EncoderTask, Predictor, Share, load_fresh, split_inputs
from thaw.tasks.sequence import SequenceClassification, SequencePredictor

HEAD = "head.safetensors"


class SetFitPredictor(SequencePredictor):
    """Labels and probabilities for texts, from the encoder and the head's tensors."""

    auto_class = AutoModel
    multi_label = False

    def __init__(self, model: Path, *args: Any, **options: Any) -> None:
        Predictor.__init__(self, model, *args, **options)
        self.labels = names_of(self.model.config.to_dict())
        self.pooling = read_pooling(model)
        self.head = {k: v.to(self.device) for k, v in load_file(model / HEAD).items()}

    def probabilities(self, texts: list[list[str]]) -> list[list[float]]:
        encoded = self.tokenizer(*texts, truncation=True, max_length=self.data["max_tokens"])
        order = sorted(range(len(texts[0])), key=lambda i: len(encoded["input_ids"][i]))
        out: list[list[float]] = [[]] * len(order)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            batch = self.tokenizer.pad(
                {k: [v[i] for i in rows] for k, v in encoded.items()}, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state
                embedded = self.pooling(states, batch["attention_mask"])
                logits = F.linear(embedded, self.head["weight"], self.head["bias"])
            for i, p in zip(rows, probabilities(logits, False).tolist(), strict=True):
                out[i] = p
        return out


class SetFit(SequenceClassification):
    """A sentence encoder tuned on all pairs of a batch, and a logistic regression on its output.

    The head is fitted anew before each validation, on the same shots, and lies in the checkpoint
    as tensors: the watched metric is the classifier's.

    Args:
        checkpoint: a model directory.
        labels: the classes' names, C of them.
        max_tokens: of a text.
        shots: texts a class, which the data draws.
        loss: of the embeddings: cosine, supcon, triplet (see `thaw.sentences`).
        learning_rate: at the end of warm-up.
        weight_decay: of all parameters but biases and norms.
        warmup_ratio: share of all steps with a rising learning rate.

    Raises:
        ThawError: the checkpoint lacks weights, or its pooling is not known.
    """

    pipeline = "feature-extraction"
    predictor = SetFitPredictor
    head_weight: Tensor
    head_bias: Tensor

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        max_tokens: int = 128,
        shots: PositiveInt = 16,
        loss: Literal["cosine", "supcon", "triplet"] = "cosine",
        learning_rate: NonNegativeFloat = 2e-5,
        weight_decay: NonNegativeFloat = 0.01,
        warmup_ratio: Share = 0.1,
    ) -> None:
        names: dict[str, Any] = {"id2label": dict(enumerate(labels))}
        names |= {"label2id": {name: i for i, name in enumerate(labels)}}
        model, fresh = load_fresh(AutoModel, checkpoint, **names)
        if lost := [name for name in fresh if "pooler." not in name]:
            raise ThawError(f"{checkpoint} lacks weights of the encoder: {', '.join(lost[:3])}.")
        # Not SequenceClassification's own: what is shared with it is the evaluation.
        EncoderTask.__init__(self, model, learning_rate, weight_decay, warmup_ratio)
        if getattr(model, "pooler", None) is not None:
            model.pooler.requires_grad_(False)  # embeddings do not pass through it
        self.pooling = read_pooling(checkpoint)
        self.pair_loss = LOSSES[loss]
        self.labels = list(labels)
        self.multi_label = False
        self.class_weights = None
        self.max_tokens = max_tokens
        self.scores = classification_metrics(labels, multi_label=False)
        self.per_class = per_class_metrics(labels, multi_label=False)
        width = model.config.hidden_size
        self.register_buffer("head_weight", torch.zeros(len(labels), width))
        self.register_buffer("head_bias", torch.zeros(len(labels)))
        if (Path(checkpoint) / HEAD).exists():
            head = load_file(Path(checkpoint) / HEAD)
            if head["weight"].shape == self.head_weight.shape:
                self.head_weight.copy_(head["weight"])
                self.head_bias.copy_(head["bias"])

    def freeze_with(self, strategy: Callable[[PreTrainedModel], list[nn.Module]]) -> None:
        """Applies a strategy of `thaw.freeze`, which has to leave something of the encoder."""
        super().freeze_with(strategy)
        pooler = getattr(self.model, "pooler", None)
        if pooler is not None:
            pooler.requires_grad_(False)
        if not any(p.requires_grad for p in self.model.parameters()):
            raise ThawError("task=setfit trains the encoder, and all of it is frozen: freeze=none.")

    def embed(self, **inputs: Tensor) -> Tensor:
        """Embeddings (B, D) of encoded texts, in float32."""
        return self.pooling(self.model(**inputs).last_hidden_state, inputs["attention_mask"])

    def forward(self, **inputs: Tensor) -> Tensor:
        """The head's logits (B, C) of encoded texts."""
        return F.linear(self.embed(**inputs), self.head_weight, self.head_bias)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, inputs = split_inputs(batch)
        loss = self.pair_loss(self.embed(**inputs), labels)
        self.log("train/loss", loss, batch_size=len(labels))
        return loss

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.fit_head()

    def on_train_end(self) -> None:
        self.fit_head()  # there may be no validation

    @torch.no_grad()
    def fit_head(self) -> None:
        """Fits the head to the shots, all of them on every rank: the same head everywhere."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        shots = data.encoded["train"].remove_columns("length")
        training = self.training
        self.eval()
        parts, labels = [], []
        for begin in range(0, len(shots), data.eval_batch_size):
            wanted, inputs = split_inputs(data.collate(shots[begin : begin + data.eval_batch_size]))
            parts.append(self.embed(**{k: v.to(self.device) for k, v in inputs.items()}).cpu())
            labels.append(wanted)
        self.train(training)
        weight, bias = logistic_head(torch.cat(parts).numpy(), torch.cat(labels).numpy())
        self.head_weight.copy_(weight)
        self.head_bias.copy_(bias)

    def complete_export(self, directory: Path) -> None:
        """Makes the exported encoder a directory of sentence-transformers and of setfit."""
        import joblib

        head = {"weight": self.head_weight.cpu(), "bias": self.head_bias.cpu()}
        write_pooling(self.pooling, self.head_weight.shape[1], self.max_tokens, directory)
        save_file({k: v.contiguous() for k, v in head.items()}, directory / HEAD)
        setfit = {"labels": self.labels, "normalize_embeddings": False}
        (directory / "config_setfit.json").write_text(json.dumps(setfit), encoding="utf-8")
        # setfit reads its head from a pickle only (setfit/modeling.py); thaw never reads this file.
        joblib.dump(as_sklearn(head["weight"], head["bias"]), directory / "model_head.pkl")


def logistic_head(embeddings: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """scikit-learn's logistic regression, as setfit fits it, with a row a class.

    Args:
        embeddings: (N, D).
        labels: (N,), all of the C classes among them.

    Returns:
        Weights (C, D) and biases (C,) whose softmax is its probabilities.
    """
    fitted = LogisticRegression().fit(embeddings, labels)
    weight, bias = (torch.from_numpy(a).float() for a in (fitted.coef_, fitted.intercept_))
    if len(fitted.classes_) == 2:  # one row, of the second class: the first one's logit is 0
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = torch.cat([torch.zeros_like(bias), bias])
    return weight, bias


def as_sklearn(weight: Tensor, bias: Tensor) -> LogisticRegression:
    """A fitted logistic regression of given weights (C, D) and biases (C,)."""
    head = LogisticRegression()
    two = len(weight) == 2
    head.coef_ = (weight[1:] - weight[:1] if two else weight).numpy().astype(np.float64)
    head.intercept_ = (bias[1:] - bias[:1] if two else bias).numpy().astype(np.float64)
    head.classes_ = np.arange(len(weight))
    head.n_features_in_ = weight.shape[1]
    return head
