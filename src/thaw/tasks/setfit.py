"""Few-shot classification (SetFit; Tunstall et al. 2022): an encoder tuned on pairs, then a head.

Shapes: B batch, T tokens, C labels, D width, P pairs, N texts of train.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveFloat
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel

from thaw.encoder.linear_heads import differentiable_head, logistic_head
from thaw.encoder.sentence_modules import read_sentence_modules
from thaw.errors import ThawError
from thaw.report.setfit_dir import complete_setfit
from thaw.tasks.contrastive import LOSSES, all_pairs, pair_loss, shared_labels
from thaw.tasks.deciding import require_several_labels
from thaw.tasks.losses import labels_and_inputs, scale_for_ddp
from thaw.tasks.optimized_module import Fraction
from thaw.tasks.predictors.setfit import SetFitPredictor
from thaw.tasks.predictors.torch_model import HEAD
from thaw.tasks.text_classifier import TextClassifier, load_classifier
from thaw.training.optim import decayed

log = logging.getLogger(__name__)

PART = 8  # texts that a CPU encodes together in training


class SetFit(TextClassifier):
    """A sentence encoder tuned on pairs of texts, and a linear head on its embeddings.

    Before each validation the head is fitted to the embeddings of train, so that the watched metric
    and the best checkpoint are those of the classifier. Checkpoints hold the head as tensors. If
    the whole encoder is frozen, only the head is fitted. The modules after the encoder are those of
    the checkpoint; their weights train wherever the encoder has some that do.

    Args:
        checkpoint: model directory of sentence-transformers, or of any encoder (mean pooling).
        labels: names of the C classes.
        multi_label: whether a text has several labels: a pair is then positive if it has one in
            common, and the head decides for each label on its own.
        max_tokens: largest number of tokens of a text.
        pairs: whether a batch has all pairs of its texts, or those that the data samples; with
            those, the loss is cosine.
        loss: loss of the embeddings; see `thaw.tasks.contrastive`.
        head: logistic, fitted by scikit-learn; differentiable, fitted by gradient.
        joint_ratio: fraction of the steps, the last ones, that train a differentiable head and the
            encoder together by cross-entropy.
        head_learning_rate: learning rate of a differentiable head.
        options: options of `OptimizedModule`.

    Raises:
        ThawError: the checkpoint lacks weights, its modules are not known, or options do not fit.
    """

    library = "setfit"
    not_averaged = "task=setfit fits its head to the weights of the moment before each validation"
    predictor = SetFitPredictor
    fewest_steps = 0

    def __init__(
        self,
        checkpoint: str | Path,
        labels: Sequence[str],
        multi_label: bool = False,
        max_tokens: int = 128,
        pairs: Literal["all", "sampled"] = "all",
        loss: Literal["cosine", "supcon", "triplet"] = "cosine",
        head: Literal["logistic", "differentiable"] = "logistic",
        joint_ratio: Fraction = 0.0,
        head_learning_rate: PositiveFloat = 1e-2,
        **options: Any,
    ) -> None:
        if pairs == "sampled" and loss != "cosine":
            raise ThawError(f"task.loss={loss} is over all pairs: leave task.pairs=sampled out.")
        if joint_ratio and head != "differentiable":
            raise ThawError("task.joint_ratio needs task.head=differentiable.")
        require_several_labels(multi_label, options.get("thresholds"))  # before a model is read
        model = load_classifier(AutoModel, checkpoint, labels, multi_label)
        super().__init__(model, labels, multi_label, **options)
        if multi_label:
            self.pipeline_options["multi_target_strategy"] = "one-vs-rest"
        self.pair_loss = LOSSES[loss]
        self.head_kind = head
        self.joint_ratio = joint_ratio
        self.head_learning_rate = head_learning_rate
        self.max_tokens = max_tokens
        if (pooler := getattr(model, "pooler", None)) is not None:
            pooler.requires_grad_(False)  # embeddings do not pass it
        self.pooling = read_sentence_modules(checkpoint, model.config.hidden_size)
        self.pooling.requires_grad_(any(p.requires_grad for p in model.parameters()))
        self.head = nn.Linear(self.pooling.width, len(labels))
        if (Path(checkpoint) / HEAD).exists():
            tensors = load_file(Path(checkpoint) / HEAD)
            if tensors["weight"].shape == self.head.weight.shape:
                self.head.load_state_dict(tensors)
        elif (Path(checkpoint) / "config_setfit.json").exists():
            log.info(
                "the head of %s is left out and fitted anew: setfit stores it as a pickle, which "
                "can run code",
                checkpoint,
            )

    def configure_model(self) -> None:
        if self._device_mesh is not None:
            raise ThawError("task=setfit fits its head to the whole encoder: trainer=ddp.")

    def head_groups(self) -> list[dict[str, Any]]:
        """Returns the optimizer's groups of the head, and of the modules after the encoder."""
        decay = self.weight_decay if self.joint_ratio else 0.0
        weights = {"name": "head", "params": [self.head.weight], "weight_decay": decay}
        biases = {"name": "head, no decay", "params": [self.head.bias], "weight_decay": 0.0}
        head = [group | {"lr": self.head_learning_rate} for group in (weights, biases)]
        names = decayed(self.pooling)
        trained = [(n, p) for n, p in self.pooling.named_parameters() if p.requires_grad]
        modules = [
            {
                "name": "sentence modules" + ("" if with_decay else ", no decay"),
                "params": [p for n, p in trained if (n in names) == with_decay],
                "weight_decay": self.weight_decay if with_decay else 0.0,
                "lr": self.learning_rate,
            }
            for with_decay in (True, False)
        ]
        return [*head, *(modules if trained else [])]

    def embed(self, **inputs: Tensor) -> Tensor:
        """Returns the embeddings (B, D) of encoded texts, in float32."""
        return self.pooling(self.encode(**inputs).last_hidden_state, inputs["attention_mask"])

    def embed_by_length(self, **inputs: Tensor) -> Tensor:
        """Returns what `embed` does; a CPU computes parts of similar length, which have less
        padding, in two thirds of the time."""
        mask = inputs["attention_mask"]
        if self.packs or mask.device.type != "cpu" or not mask[:, 0].all():  # padded on the left
            return self.embed(**inputs)
        lengths = mask.sum(1)
        order = lengths.argsort()
        parts = [
            self.embed(**{k: v[rows, : int(lengths[rows[-1]])] for k, v in inputs.items()})
            for rows in order.split(PART)
        ]
        return torch.cat(parts)[order.argsort()]

    def forward(self, **inputs: Tensor) -> Tensor:
        """Returns the head's logits (B, C) of encoded texts."""
        return self.head(self.embed(**inputs).to(self.head.weight.dtype))

    def joint_from(self) -> int:
        """Returns the number of the first step that trains head and encoder together."""
        return round((1 - self.joint_ratio) * int(self.trainer.estimated_stepping_batches))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.joint_ratio and self.global_step == self.joint_from():
            self.fit_head()
            self.switch_optimizers("train")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        pairs = batch.pop("pairs", None)
        labels, inputs = labels_and_inputs(batch)
        # DDP waits for a gradient of each parameter.
        loss = 0.0 * (self.head.weight.sum() + self.head.bias.sum())
        if self.joint_ratio and self.global_step >= self.joint_from():
            loss = loss + scale_for_ddp(self.loss(self(**inputs), labels), len(labels))
        elif any(p.requires_grad for p in self.model.parameters()):
            loss = loss + self.embedding_loss(self.embed_by_length(**inputs), labels, pairs)
        self.log("train/loss", loss, batch_size=len(labels))
        return loss

    def embedding_loss(self, embeddings: Tensor, labels: Tensor, pairs: Tensor | None) -> Tensor:
        """Computes the loss of pairs (P, 2), two rows of the batch each, or of all pairs of the
        texts of all processes, given embeddings (B, D) and labels, (B,) or (B, C), of this one."""
        with torch.autocast(self.device.type, enabled=False):  # sums in float32
            if pairs is not None:
                same = shared_labels(labels[pairs[:, 0]], labels[pairs[:, 1]])
                return scale_for_ddp(pair_loss(embeddings, pairs, same), len(pairs))
            if self.trainer.world_size > 1:
                embeddings, labels = self.everywhere(embeddings), self.everywhere(labels)
            return self.pair_loss(embeddings, all_pairs(labels))

    def everywhere(self, tensor: Tensor) -> Tensor:
        """Returns the tensors (B, ...) of all processes as one, with gradients to each of them.

        The gradients are summed over processes, and DDP takes the mean: together they are those of
        one process with all the texts.
        """
        sizes: Any = self.all_gather(torch.tensor([len(tensor)], device=tensor.device))
        counts = sizes.reshape(-1).tolist()
        lacking = max(counts) - len(tensor)
        padded = torch.cat([tensor, tensor.new_zeros(lacking, *tensor.shape[1:])])
        parts: Any = self.all_gather(padded, sync_grads=padded.requires_grad)
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit":
            self.fit_unless_joint()

    def fit_unless_joint(self) -> None:
        """Fits the head, unless it already trains with the encoder."""
        if not self.joint_ratio or self.global_step <= self.joint_from():
            self.fit_head()

    on_train_epoch_end = fit_unless_joint  # there may have been no validation

    @torch.no_grad()
    def fit_head(self) -> None:
        """Fits the head to all of train, in every process, so that all have the same head."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        rows = data.encoded["train"]
        training = self.training
        self.eval()
        embedded, labels = [], []
        for begin in range(0, len(rows), data.eval_batch_size):
            batch = data.collate(rows[begin : begin + data.eval_batch_size])
            wanted, inputs = labels_and_inputs(self.on_before_batch_transfer(batch, 0))
            with self.trainer.precision_plugin.forward_context():
                inputs = self.transfer_batch_to_device(inputs, self.device, 0)
                embedded.append(self.embed_by_length(**inputs))
            labels.append(wanted)
        self.train(training)
        x, y = torch.cat(embedded).float().cpu(), torch.cat(labels)
        if self.head_kind == "logistic":
            head = logistic_head(x, y, self.labels)
        else:
            head = differentiable_head(x, y, self.labels, self.head_learning_rate)
        self.head.load_state_dict(head.state_dict())

    def last_layer(self) -> nn.Linear:
        return self.head

    def complete_export(self, directory: Path) -> None:
        """Adds the files that sentence-transformers and setfit read, and the head's tensors."""
        super().complete_export(directory)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.head.state_dict().items()}
        save_file(tensors, directory / HEAD)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        strategy = self.pipeline_options.get("multi_target_strategy")
        complete_setfit(directory, self.pooling, self.head, self.labels, strategy, data.name)
