"""An ONNX export in the place of a model: padded tokens to logits by onnxruntime, on the CPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from thaw.errors import ThawError

FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}  # in <run>/model/onnx, by engine


class OnnxModel:
    """A graph that `thaw.export` wrote, called as a Hugging Face model is.

    Args:
        model: the model's directory.
        engine: onnx, or int8 for the quantized graph.

    Raises:
        ThawError: onnxruntime is not installed, or there is no such export.
    """

    def __init__(self, model: Path, engine: str) -> None:
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
        self.config = AutoConfig.from_pretrained(model, trust_remote_code=False)

    def __call__(self, **inputs: Tensor) -> Any:
        """Returns `logits` of padded tokens (B, T)."""
        given = {name: inputs[name].numpy() for name in self.names}
        [logits] = self.session.run(["logits"], given)
        return SimpleNamespace(logits=torch.from_numpy(logits))
