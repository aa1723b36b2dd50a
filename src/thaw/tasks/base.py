"""The base class of all tasks: a Hugging Face model and its scores."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from thaw.data.base import EncoderData
from thaw.encoder.sharding import whole_model
from thaw.report.sections import Section, TestResults
from thaw.tasks.losses import WeightedMean
from thaw.tasks.optimized_module import OptimizedModule
from thaw.tasks.predictors.base import Predictor

log = logging.getLogger(__name__)

Smoothing = Annotated[float, Field(ge=0, lt=1)]


class EncoderTask(OptimizedModule):
    """An encoder with a head and its scores.

    Args:
        model: Hugging Face model with its head.
        options: options of `OptimizedModule`.
    """

    library: ClassVar[str] = "transformers"  # what loads the export, see `model_dir.LOADING`
    pipeline: ClassVar[str]  # name of the export's `transformers.pipeline`
    predictor: ClassVar[type[Predictor]]  # class that `python -m thaw.predict` uses
    # Arguments that `python -m thaw.predict` and `python -m thaw.evaluate` may take.
    examples: ClassVar[tuple[str, str]] = (
        "input=new.csv output=out.csv",
        "data=files data.test=other.csv",
    )
    # Whether "max" or "min" is better of each metric that a validation may have; empty: not known.
    metrics: ClassVar[Mapping[str, str]] = {}
    validates_first: ClassVar[bool] = False  # whether weights are validated before the first step
    fewest_steps: ClassVar[int] = 50  # number of optimizer steps below which a run is warned
    for_few_texts: ClassVar[str] = ""  # what the warning adds
    inputs_change: ClassVar[str] = ""  # why a text differs between epochs; "" if it does not
    not_averaged: ClassVar[str] = ""  # why an average of its weights is of no use; "" if it is

    def __init__(self, model: PreTrainedModel, **options: Any) -> None:
        super().__init__(model, **options)
        self.pipeline_options: dict[str, Any] = {}  # further options of loading the export
        self.eval_loss = WeightedMean()
        self.scores: Any  # metrics that `evaluate` updates
        self.test_scores: Mapping[str, Any] = {}
        self.test_outputs: list[Any] = []
        # Of the validation before the first step, as `start/<name>`.
        self.start_metrics: dict[str, float] = {}
        self.resumed_val_metrics: dict[str, float] = {}

    def on_validation_end(self) -> None:
        """Keeps the metrics of the validation before the first step."""
        if self.trainer.state.fn == "validate" and not self.trainer.global_step:
            found = self.trainer.callback_metrics
            self.start_metrics = {k.replace("val/", "start/"): float(v) for k, v in found.items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the validation metrics of these weights, and those before the first step."""
        checkpoint["val_metrics"] = self.val_metrics
        checkpoint["start_metrics"] = self.start_metrics

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, EncoderData):  # before weights of other classes are loaded
            data.require_same(checkpoint)
        self.resumed_val_metrics = checkpoint["val_metrics"]
        # Runs of thaw 0.1 have them in the state of their checkpoint callback.
        older = checkpoint.get("callbacks", {}).get("Checkpoint", {}).get("start", {})
        self.start_metrics = checkpoint.get("start_metrics", older)

    @property
    def val_metrics(self) -> dict[str, float]:
        """Metrics of the last validation, of this process or of the one that it resumes."""
        metrics = self.trainer.callback_metrics
        own = {k: float(v) for k, v in metrics.items() if k.startswith("val/")}
        return self.resumed_val_metrics | own

    def log_scores(self, stage: str, metrics: Any) -> dict[str, Any]:
        """Logs and resets the metrics of an evaluation, reduced over processes, and its mean loss;
        returns all values that the metrics compute, logged or not. The stage, val or test, begins
        their names: `f1` is logged as `val/f1`."""
        values = metrics.compute()
        numbers = {k: v for k, v in values.items() if isinstance(v, Tensor)}
        numbers["loss"] = self.eval_loss.compute()
        self.log_dict({f"{stage}/{k}": v for k, v in numbers.items()})
        metrics.reset()
        self.eval_loss.reset()
        return values

    def evaluate(self, batch: dict[str, Tensor]) -> Any:
        """Adds a batch to `eval_loss` and `scores`; returns what the model predicts for it."""
        raise NotImplementedError

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.evaluate(batch)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.scores)

    def on_test_epoch_end(self) -> None:
        self.test_scores = self.log_scores("test", self.scores)

    def average_with(self, others: Sequence["EncoderTask"]) -> None:
        """Makes this task evaluate the mean of its probabilities and of those of other tasks."""
        self.others = nn.ModuleList(others)
        self.register_forward_hook(self.mean_logits, with_kwargs=True)

    def mean_logits(self, _: Any, args: Any, inputs: dict[str, Any], own: Tensor) -> Tensor:
        """Returns logits (..., C) whose probabilities are the mean of those of all tasks."""
        logits = torch.stack([own, *(other(**inputs) for other in self.others)]).float()
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))

    def gather_test_outputs(self) -> list[Any]:
        """Returns the `test_outputs` of all processes and clears them; call it on every process."""
        parts, self.test_outputs = self.test_outputs, []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, parts)
            return [part for rank in gathered for part in rank]
        return parts

    def logged_metrics(self) -> dict[str, str]:
        """Returns those of `metrics` that a validation of this data logs."""
        return dict(self.metrics)

    def test_results(self) -> TestResults:
        """Returns the results of `trainer.test` that it did not log; call it on every process."""
        raise NotImplementedError

    def gather_weights(self) -> None:
        """Gathers the whole model in the first process under `trainer=fsdp`; call it on every
        one."""
        self.model = whole_model(self)

    def require_data(self, data: Any, validates: bool) -> None:
        """Raises ThawError, before training, if the data, which has been read, lacks what the
        task's options need, such as a validation."""

    def decide(self, data: Any) -> dict[str, float]:
        """Finds, with the final weights, what the task decides by, and returns further metrics of
        metrics.json; call it on every process."""
        return {}

    def complete_export(self, directory: Path) -> None:
        """Adds files to the exported model, before it appears under its name."""

    def read_export(self, directory: Path) -> None:
        """Reads what `complete_export` added, to evaluate an exported model."""

    def finish(self, run_dir: Path) -> dict[str, float]:
        """Writes a task's own files into a run directory, in the first process; returns further
        metrics of metrics.json."""
        return {}

    def write_test(self, run_dir: Path, data: Any, test: TestResults) -> list[Section]:
        """Writes predictions of the test into a run directory, and returns sections of the report,
        such as the errors; the caller writes figures among them."""
        raise NotImplementedError

    def findings(self, metrics: Mapping[str, float]) -> list[Section]:
        """Returns further sections of the report, from the content of metrics.json."""
        return []
