"""An ONNX export in the place where predictors compute, on the CPU by onnxruntime. No torch here.

Shapes: B batch, T tokens, C labels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from thaw.errors import ThawError
from thaw.storage.files import read_json

FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}  # in <run>/model/onnx, by engine


class OnnxModel:
    """A graph that `thaw.export` wrote, called with arrays.

    Args:
        model: the model's directory.
        engine: onnx, or int8 for the quantized graph.
        accelerator: auto or cpu.

    Attributes:
        batch_tokens: most padded tokens of a batch. The states of more leave the processor's cache:
            MiniLM takes 0.85 to 0.88 of the time that it takes with 64 reviews together.
        precision: precision that is computed in.
        config: options of the model.

    Raises:
        ThawError: onnxruntime is not installed, there is no such export, or other hardware than
            the CPU is asked for.
    """

    batch_tokens: ClassVar[float] = 1024

    def __init__(self, model: Path, engine: str, accelerator: str) -> None:
        if accelerator not in ("auto", "cpu"):
            raise ThawError(f"accelerator={accelerator}: engine={engine} computes on the CPU.")
        path = model / "onnx" / FILES[engine]
        if not path.is_file():
            quantize = " quantize=int8" if engine == "int8" else ""
            raise ThawError(
                f"engine={engine}: there is no {path}. Export it: python -m thaw.export "
                f"run={model.parent}{quantize}"
            )
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ThawError(
                f"engine={engine} needs onnxruntime: pip install -e '.[onnx]'."
            ) from error
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]
        self.precision = "32-true" if engine == "onnx" else "int8"
        # transformers does not write names that are its own.
        self.config: dict[str, Any] = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
        self.config |= read_json(model / "config.json")

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the logits (B, C), or of tokens (B, T, C), of padded tokens (B, T) of int64."""
        [logits] = self.session.run(["logits"], {name: inputs[name] for name in self.names})
        return logits
