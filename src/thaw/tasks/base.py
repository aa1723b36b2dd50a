"""What every objective shares: a Hugging Face model, its optimizer, and modes that are right."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from transformers import PreTrainedModel

from thaw.data.base import EncoderData
from thaw.encoder.bit_dropout import use_bits
from thaw.encoder.blocks import factors_of, find, names_of_parts, table
from thaw.encoder.freeze import Nothing, freeze, frozen_modules, interval
from thaw.encoder.frozen_prefix import Prefix, add_test, prefix_of
from thaw.encoder.packed_attention import obstacle, packed, pinned
from thaw.encoder.prefix_cache import Cache
from thaw.encoder.sharding import shard, sharded
from thaw.errors import ThawError
from thaw.report.sections import Section
from thaw.tasks.metrics import WeightedMean
from thaw.tasks.predictor import Predictor
from thaw.training.optim import adamw, clip_in_step, gradient_norm, linear_schedule
from thaw.training.trainer import Trainer

log = logging.getLogger(__name__)

Decay = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class EncoderTask(LightningModule):
    """An encoder with a head, trained with AdamW and a linear schedule.

    Args:
        model: a Hugging Face model with its head.
        learning_rate: at the end of warm-up.
        weight_decay: of all parameters but biases and norms.
        warmup_ratio: share of all steps with a rising learning rate.
        layer_decay: what a block's learning rate is of that of the block above; see
            `thaw.encoder.blocks.rate_factors`.

    Attributes:
        library: that loads the export, see `thaw.report.model_dir.LOADING`.
        pipeline: what the export does, in the words of `transformers.pipeline`.
        pipeline_options: what loading takes besides the directory.
        predictor: what `python -m thaw.predict` uses.
        examples: words that `python -m thaw.predict` and `python -m thaw.evaluate` may take.
        metrics: which value of each metric of validation is better, "max" or "min", by name; what
            the data decides on is left out by `logged_metrics`. Empty: not known.
        validates_first: whether the weights are validated before the first step, too.
        inputs_change: why a text is not the same in every epoch, if so.
        run_seed: of dropout.
    """

    library: ClassVar[str] = "transformers"
    pipeline: ClassVar[str]
    predictor: ClassVar[type[Predictor]]
    examples: ClassVar[tuple[str, str]] = (
        "input=new.csv output=out.csv",
        "data=files data.test=other.csv",
    )
    metrics: ClassVar[Mapping[str, str]] = {}
    validates_first: ClassVar[bool] = False
    inputs_change: ClassVar[str] = ""

    def __init__(
        self,
        model: PreTrainedModel,
        learning_rate: float,
        weight_decay: float,
        warmup_ratio: float,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        use_bits(model)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.layer_decay = layer_decay
        self.pipeline_options: dict[str, str] = {}
        self.frozen: list[nn.Module] = []
        self.stages: list[list[nn.Module]] = []
        self.every, self.opened, self.gated = 1.0, 0, False
        self.cache: Cache | None = None
        self.prefix: Prefix | None = None
        self.packs = False
        self.eval_loss = WeightedMean()
        self.tested: list[Any] = []
        self.validated: dict[str, float] = {}
        self.run_seed = 0
        # from_pretrained leaves eval mode, and Lightning keeps the mode it finds (lightning#20105).
        self.train()

    def freeze_with(self, strategy: Nothing) -> None:
        """Applies a strategy of `thaw.encoder.freeze`."""
        strategy(self.model)
        self.frozen = frozen_modules(self.model)
        self.stages, self.every = strategy.stages, strategy.every
        self.cache = strategy.cache
        self.opened, self.gated = 0, False
        self.train(self.training)
        log.info("%s", table(self))

    def train(self, mode: bool = True) -> "EncoderTask":
        """Sets training mode; frozen modules stay in eval mode, without dropout."""
        super().train(mode)
        for module in [*self.frozen, *self.closed()]:
            module.eval()
        return self

    def closed(self) -> list[nn.Module]:
        """What gradual unfreezing has not reached yet."""
        return [module for stage in self.stages[self.opened :] for module in stage]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds dropout, and opens what is due.

        Both follow from seed, epoch and batch alone, so a run that goes on has them right.
        """
        place = (self.run_seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
        if not self.stages:
            return
        every = interval(self.every, int(self.trainer.estimated_stepping_batches))
        due = min(self.global_step // every, len(self.stages))
        if due == self.opened and self.gated:
            return
        self.opened, self.gated = due, True
        # DDP counts on a gradient of all that it found when it wrapped the model.
        if self.trainer.world_size == 1:
            for number, stage in enumerate(self.stages):
                freeze(stage, frozen=number >= due)
        self.train()
        log.info("step %d: %d of %d stages train", self.global_step, due, len(self.stages))

    def on_after_backward(self) -> None:
        """Drops gradients of what is closed: AdamW then leaves weights and moments as they are."""
        for module in self.closed():
            for parameter in module.parameters():
                parameter.grad = None

    def configure_model(self) -> None:
        """Shares the weights out among processes under `trainer=fsdp`."""
        if self._device_mesh is not None:
            shard(self)

    def configure_optimizers(self) -> Any:
        factors = factors_of(self.model, self.layer_decay)
        parts = names_of_parts(self.model) if factors else None
        optimizer = adamw(
            self.model, self.learning_rate, self.weight_decay, factors, self.head_groups(), parts
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = linear_schedule(optimizer, steps, self.warmup_ratio)
        # Logged as lr/<name of the group>.
        scheduler = {"scheduler": schedule, "interval": "step", "name": "lr"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def head_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters that are not the Hugging Face model's."""
        return []

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        in_step = self.device.type == "cpu" or scaler is not None  # Lightning refuses the latter
        in_step = in_step and not sharded(self)  # a norm over all shares
        if gradient_clip_val and gradient_clip_algorithm == "norm" and in_step:
            norm = clip_in_step(optimizer, gradient_clip_val, scaler)
        else:
            norm = gradient_norm(optimizer)  # before they are clipped
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        if isinstance(self.trainer, Trainer):
            step = self.global_step + 1
            self.trainer.nonfinite.judge(step, optimizer, norm if scaler is None else None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the validation metrics of these weights."""
        checkpoint["val_metrics"] = self.val_metrics

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, EncoderData):  # before weights of other classes are loaded
            data.require_same(checkpoint)
        self.validated = checkpoint["val_metrics"]

    @property
    def val_metrics(self) -> dict[str, float]:
        """The last validation's metrics, of this process or of the one that it goes on from."""
        metrics = self.trainer.callback_metrics
        return self.validated | {k: float(v) for k, v in metrics.items() if k[:4] == "val/"}

    def forward(self, **inputs: Tensor) -> Tensor:
        """The head's logits of encoded texts; see `encode`."""
        return self.encode(**inputs).logits

    def encode(self, **inputs: Any) -> Any:
        """The model's output for encoded texts, or for their `states` after the frozen blocks."""
        with self.arranged(inputs) as arranged:
            return self.model(**arranged)

    @contextmanager
    def arranged(self, inputs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The model's inputs of a batch; while they are used, the model runs packed, or starts from
        states, where it can.

        Args:
            inputs: padded; `real` and `states` as `on_before_batch_transfer` adds them.
        """
        inputs = dict(inputs)
        states, real = inputs.pop("states", None), inputs.pop("real", None)
        if real is not None and real.all():
            inputs.pop("attention_mask", None)  # an attention without a mask is faster
        if states is not None and states.shape[1] != inputs["input_ids"].shape[1]:
            real = None  # the first token's state alone
        with ExitStack() as stack:
            if self.packs and real is not None:
                layout = stack.enter_context(packed(self.model, real))
                states = None if states is None else layout.pack(states)
            if states is not None and self.prefix is not None:
                stack.enter_context(self.prefix.skipped(states))
            yield inputs

    def setup(self, stage: str) -> None:
        """Decides whether the model runs packed; raises ThawError where it must and cannot."""
        asked, device = getattr(self.trainer, "packed", False), self.trainer.strategy.root_device
        why = obstacle(self.model, device, str(self.trainer.precision))
        if asked is True and why:
            raise ThawError(f"trainer.packed=true: {why}. trainer.packed=auto packs where it can.")
        if asked == "auto" and device.type != "cuda":
            why = f"on {device.type} batches of similar length are faster"
        self.packs = bool(asked) and not why
        if asked and stage == "fit":
            log.info("%s", f"batches are padded: {why}" if why else "batches are packed")

    def on_fit_start(self) -> None:
        """Computes what frozen blocks give for every text, or finds it; compiles the others."""
        self.prefix = prefix_of(self)
        if getattr(self.trainer, "compile", False):
            try:
                blocks = find(self.model).blocks
            except ThawError as error:
                raise ThawError(f"trainer.compile=true compiles block by block: {error}") from error
            for block in blocks[self.prefix.depth if self.prefix else 0 :]:
                block[0].compile(dynamic=True)  # lengths differ from batch to batch

    def on_test_start(self) -> None:
        """The same for the test, where training had it."""
        add_test(self)

    def on_before_batch_transfer(
        self, batch: dict[str, Any], dataloader_idx: int
    ) -> dict[str, Any]:
        """Adds what is to be known on the CPU, and lets a GPU copy the rest while the CPU goes on.

        That is `states` (B, T, H) of the frozen blocks; and `real` (B, T), which tokens are no
        padding, of numpy: it stays on the CPU.
        """
        if self.prefix is not None and (states := self.prefix.states(batch)) is not None:
            batch = batch | {"states": states}
        if self.packs or self.device.type != "cpu":
            mask = batch.get("attention_mask")
            real = torch.ones_like(batch["input_ids"]) if mask is None else mask
            batch = batch | {"real": real.numpy().astype(bool)}
        return {k: pinned(v, self.device) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def share(self, loss: Tensor, weight: Tensor | float) -> Tensor:
        """A rank's mean loss as its share of the mean over the global batch.

        DDP takes the mean of the ranks' gradients; ranks have different numbers of texts, labelled
        tokens or masks.

        Args:
            loss: a mean.
            weight: of all that it is the mean of.
        """
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return loss
        own = torch.zeros((), device=loss.device) + weight  # a copy to a GPU would wait for it
        total = own.clone()
        torch.distributed.all_reduce(total)
        return loss * (own * torch.distributed.get_world_size() / total.clamp(min=1e-12))

    def log_scores(self, stage: str, metrics: Metric | MetricCollection) -> dict[str, Any]:
        """Logs an evaluation's numbers, reduced over ranks, and its mean loss, and starts anew.

        Args:
            stage: val or test: `f1` is logged as `val/f1`.
            metrics: which compute a dictionary.

        Returns:
            What they computed, logged or not.
        """
        values = metrics.compute()
        numbers = {k: v for k, v in values.items() if isinstance(v, Tensor)}
        numbers["loss"] = self.eval_loss.compute()
        self.log_dict({f"{stage}/{k}": v for k, v in numbers.items()})
        metrics.reset()
        self.eval_loss.reset()
        return values

    def gather_tested(self) -> list[Any]:
        """What test steps kept in `tested`, of all ranks: call it on every rank."""
        parts, self.tested = self.tested, []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, parts)
            return [part for rank in gathered for part in rank]
        return parts

    def logged_metrics(self) -> dict[str, str]:
        """Returns those of `metrics` that a validation of this data gives."""
        return dict(self.metrics)

    def test_results(self) -> dict[str, Any]:
        """What the test gave, after `trainer.test`: call it on every rank.

        Returns:
            `metrics`, flat names to numbers, to go into metrics.json; and what `write_test` needs.
        """
        raise NotImplementedError

    def complete_export(self, directory: Path) -> None:
        """Adds files to the exported model, before it appears under its name."""

    def finish(self, run_dir: Path) -> dict[str, float]:
        """Says and writes what there is to the final weights, test or not: in rank 0 only.

        Args:
            run_dir: of the run.

        Returns:
            More of metrics.json.
        """
        if self.prefix is None:
            return {}
        return {
            "prefix_blocks": self.prefix.depth,
            "prefix_seconds": round(self.prefix.seconds, 2),
            "prefix_mib": round(self.prefix.bytes / 2**20, 2),
        }

    def write_test(self, run_dir: Path, data: Any, results: Mapping[str, Any]) -> None:
        """Writes predictions and figures of the test into a run directory.

        Args:
            run_dir: of the run.
            data: the datamodule.
            results: of `test_results`.
        """
        raise NotImplementedError

    def findings(
        self, data: Any, metrics: Mapping[str, float], results: Mapping[str, Any] | None
    ) -> list[Section]:
        """What the report shows besides the scores, the errors above all.

        Args:
            data: the datamodule.
            metrics: what metrics.json holds.
            results: of `test_results`, if there was a test.
        """
        return []


def split_inputs(batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Labels, and what the model takes."""
    return batch["labels"], {k: v for k, v in batch.items() if k not in ("labels", "row", "word")}


def weigh(
    class_weights: str | Sequence[float] | None, labels: Sequence[str], counts: Sequence[int]
) -> Tensor | None:
    """The loss's weights (C,): n / (C * count) of each class when balanced, as in scikit-learn.

    A class that does not occur gets the weight 0. Without counts, as where a finished run is
    evaluated, balanced weights are None.

    Raises:
        ThawError: neither "balanced" nor one number a label.
    """
    if class_weights is None or (class_weights == "balanced" and not counts):
        return None
    if class_weights == "balanced":
        count = torch.tensor(counts, dtype=torch.float32)
        return torch.where(count > 0, count.sum() / (len(labels) * count.clamp(min=1)), 0.0)
    weights = [] if isinstance(class_weights, str) else list(class_weights)
    if len(weights) != len(labels) or min(weights) < 0 or not any(weights):
        raise ThawError(
            f"task.class_weights={class_weights}: expected balanced, or {len(labels)} numbers "
            f"from 0, not all 0, in the order of {', '.join(labels)}."
        )
    return torch.tensor(weights, dtype=torch.float32)
