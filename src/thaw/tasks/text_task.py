"""The base class of tasks whose model returns some numbers for a whole text.

Shapes: B batch, T tokens, W windows, C numbers a text.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from thaw.data.write import RowWriter
from thaw.errors import ThawError
from thaw.report.sections import TestResults
from thaw.tasks.base import EncoderTask
from thaw.tasks.losses import labels_and_inputs, scale_for_ddp
from thaw.tasks.predictors.texts import column_names

Pooling = Literal["mean", "max"]


class TextTask(EncoderTask):
    """A task whose model returns C numbers for each text, and for one in windows their mean or
    maximum over windows."""

    pipeline = "text-classification"
    window_pooling: Pooling = "mean"  # how the numbers of a text's windows become the text's
    windows_at_once: int = 32  # most windows whose states are in memory together

    def read_windows(self, stride: int | None, pooling: Pooling, at_once: int) -> None:
        """Sets how texts in windows, which share `stride` tokens, are read, and writes it into the
        model's config, from which a prediction knows it; None: there are no windows."""
        self.window_pooling, self.windows_at_once = pooling, at_once
        if stride is not None:
            self.model.config.text_windows = {"stride": stride, "pooling": pooling}
        elif hasattr(self.model.config, "text_windows"):
            del self.model.config.text_windows

    def configure_model(self) -> None:
        if self._device_mesh is not None and hasattr(self.model.config, "text_windows"):
            raise ThawError("data.long=windows computes windows twice: trainer=ddp.")
        super().configure_model()

    def forward(self, **inputs: Any) -> Tensor:
        """Returns the numbers (B, C) of encoded texts, or of windows (W, T) with `windows` (B,)."""
        windows = inputs.pop("windows", None)
        if windows is None:
            return super().forward(**inputs)
        logits = in_chunks(super().forward, inputs, self.windows_at_once)
        # The first axis becomes texts, with the mean or the maximum of each one's windows.
        return torch.segment_reduce(
            logits.float(), self.window_pooling, lengths=windows, unsafe=True
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Computes the mean loss of a batch from its logits (B, C) and labels."""
        raise NotImplementedError

    def loss_weight(self, labels: Tensor) -> Tensor | float:
        """Returns the total weight of the labels that `loss` is the mean over."""
        return len(labels)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        labels, inputs = labels_and_inputs(batch)
        loss = self.loss(self(**inputs), labels)
        self.log("train/loss", loss, batch_size=len(labels))
        return scale_for_ddp(loss, self.loss_weight(labels))

    def gathered(self) -> list[Tensor]:
        """Returns what `test_step` kept of all texts: a tensor for each part, the rows first, in
        their order, the same on every process; call it on every process."""
        parts = [torch.cat(part) for part in zip(*self.gather_test_outputs(), strict=True)]
        order = parts[0].argsort()
        return [part[order] for part in parts]

    def outputs_by_row(self) -> dict[int, Any]:
        """Returns the first part that `test_step` kept of each text, by row; see `gathered`."""
        rows, found, *_ = (part.tolist() for part in self.gathered())
        return dict(zip(rows, found, strict=True))

    def write_predictions(
        self, run_dir: Path, data: Any, test: TestResults, columns: Callable[[Any], dict[str, Any]]
    ) -> list[Any]:
        """Writes `predictions.parquet`: a text, its label, and what was predicted; returns the
        value of the column `prediction` of each row. `columns` makes the columns of a prediction of
        what the test found."""
        texts, found = data.rows["test"], []
        names = column_names(data.columns.text)
        count = data.encoded["test"]["windows"][:] if data.stride is not None else None
        with RowWriter(run_dir / "predictions.parquet") as writer:
            for row, numbers in test.outputs.items():
                made = columns(numbers)
                windows = {} if count is None else {"windows": count[row]}
                text = dict(zip(names, texts.texts[row], strict=True))
                writer.write(text | {"label": texts.labels[row]} | made | windows)
                found.append(made["prediction"])
        return found


def in_chunks(forward: Callable[..., Tensor], inputs: Mapping[str, Any], size: int) -> Tensor:
    """Returns the logits (W, C) of windows, of which `size` at most are computed together.

    Where there are more, the backward pass computes each chunk again, so that the states of one
    chunk are in memory at a time (Chen et al. 2016); with the same dropout.
    """
    count = len(inputs["input_ids"])
    if count <= size:
        return forward(**inputs)
    chunks = (
        {k: v[begin : begin + size] for k, v in inputs.items()} for begin in range(0, count, size)
    )
    if not torch.is_grad_enabled():
        return torch.cat([forward(**chunk) for chunk in chunks])
    return torch.cat([checkpoint(forward, use_reentrant=False, **chunk) for chunk in chunks])
