"""Exports a finished run as an ONNX graph, for programs without torch: `python -m thaw.export`.

Shapes: B batch, T tokens, C labels.
"""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from thaw.errors import ThawError
from thaw.storage.files import atomic

NEEDS = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # of 2023, which runtimes of phones and browsers support
PROBES = (  # texts of different lengths that the graph is checked with
    "A warm, funny film.",
    "Not bad.",
    "Maarten Grootendorst of Tilburg wrote that the second half of it is as dull as the first "
    "one was lovely, and went to Oslo in 2024.",
    "x",
)


class Graph(nn.Module):
    """The exported graph, from padded tokens to logits and probabilities.

    Args:
        model: model from tokens to logits, see `thaw.tasks.predictors.base.Predictor.graph`.
        activation: function from logits to probabilities, softmax or sigmoid; empty: logits alone.
    """

    def __init__(self, model: nn.Module, activation: str = "") -> None:
        super().__init__()
        self.model = model
        self.activation = activation

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Returns logits (B, C), or (B, T, C) for tokens, and probabilities of the same shape.

        All arguments are (B, T) of int64; only models with segments take `token_type_ids`.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        logits = self.model(**inputs)
        if not self.activation:
            return logits
        return logits, (logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(-1))


def export_onnx(
    predictor: Any, model: Path, directory: Path, max_tokens: int, tolerance: float
) -> float:
    """Writes `model.onnx`, checked against torch, with the tokenizer beside it.

    Args:
        predictor: predictor of the task, a subclass of `thaw.tasks.predictors.base.Predictor`.
        model: exported Hugging Face directory.
        directory: directory to write, which appears whole or not at all.
        max_tokens: largest number of tokens of a text.
        tolerance: largest allowed difference of a logit to torch's y, as a fraction of 1 + |y|.

    Returns:
        The largest absolute difference of a logit to torch's.

    Raises:
        ThawError: the `onnx` extra is not installed, the model cannot be exported, or its graph
            gives other logits.
    """
    if lacking := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        raise ThawError(f"format=onnx needs {', '.join(lacking)}: pip install -e '.[onnx]'.")
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    config = json.loads((model / "config.json").read_text("utf-8"))
    batches = probes(tokenizer, max_tokens)
    # Eager attention is plain products, which every exporter and runtime supports.
    plain, reference = predictor.graph(model, "eager").eval(), predictor.graph(model, None).eval()
    about = describe(config, logits_of(reference, batches[0]).shape[-1], tokenizer, max_tokens)
    with atomic(directory) as partial:
        partial.mkdir(parents=True)
        write_graph(Graph(plain, about.get("activation", "")), batches[0], about, partial)
        difference = compare(partial / "model.onnx", reference, batches, tolerance)
        tokenizer.save_pretrained(partial)
    return difference


def probes(tokenizer: Any, max_tokens: int) -> list[dict[str, Tensor]]:
    """Returns batches of several lengths and sizes, each with tensors (B, T) by name."""
    long = " ".join(PROBES[2:3] * max_tokens)
    found = []
    for texts in (PROBES[:3], PROBES[1:2], [*PROBES, long], PROBES[3:]):
        batch = tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in batch]
        found.append({name: batch[name] for name in names})
    return found


def describe(
    config: Mapping[str, Any], width: int, tokenizer: Any, max_tokens: int
) -> dict[str, str]:
    """Returns the metadata of the file: what a program needs besides the graph."""
    about = {
        "max_tokens": str(max_tokens),
        "pad_token": str(tokenizer.pad_token),
        "pad_token_id": str(tokenizer.pad_token_id),
    }
    names = config.get("id2label") or {}
    if len(names) == width and config.get("problem_type") != "regression":
        several = config.get("problem_type") == "multi_label_classification"
        about["labels"] = json.dumps([names[key] for key in sorted(names, key=int)])
        about["activation"] = "sigmoid" if several else "softmax"
    return about


def logits_of(model: nn.Module, batch: Mapping[str, Tensor]) -> np.ndarray:
    """Returns torch's logits of a batch."""
    with torch.inference_mode():
        return model(**batch).numpy()


def write_graph(
    graph: Graph, batch: Mapping[str, Tensor], about: Mapping[str, str], directory: Path
) -> None:
    """Writes `model.onnx`, traced with a batch, for batches of any size and length."""
    outputs = ["logits", "probabilities"] if graph.activation else ["logits"]
    with silence():
        try:
            program = torch.onnx.export(
                graph,
                tuple(batch.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(batch),
                output_names=outputs,
                dynamic_shapes=tuple({0: "batch", 1: "tokens"} for _ in batch),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            first = str(error).strip().splitlines()[0]
            raise ThawError(f"format=onnx: torch cannot export this model: {first}") from error
        assert program is not None
        program.model.metadata_props.update(about)
        program.save(directory / "model.onnx", external_data=False)


def compare(
    path: Path, reference: nn.Module, batches: list[dict[str, Tensor]], tolerance: float
) -> float:
    """Returns the largest difference of a real token's logit between onnxruntime and torch.

    Raises:
        ThawError: the difference is larger than `tolerance` allows.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest, worst = 0.0, 0.0
    for batch in batches:
        given = {name: tensor.numpy() for name, tensor in batch.items()}
        [logits] = session.run(["logits"], given)
        wanted = logits_of(reference, batch)
        real = given["attention_mask"] == 1 if wanted.ndim == 3 else ...
        difference = np.abs(logits - wanted)[real]
        largest = max(largest, float(difference.max()))
        worst = max(worst, float((difference / (1 + np.abs(wanted[real]))).max()))
    if not worst <= tolerance:  # NaN, too
        raise ThawError(
            f"format=onnx: a logit of onnxruntime differs from torch's by {largest:.2g}, and by "
            f"{worst:.2g} of its size; expected {tolerance:g} at most. Nothing was written."
        )
    return largest


def quantize(directory: Path, in_blocks: bool = False) -> Path:
    """Writes `model_int8.onnx` beside `model.onnx`, and returns its path: onnxruntime's dynamic
    quantization, whose weights are 8-bit integers with a scale for each channel.

    The inputs of a layer share one scale, which their largest decides; `in_blocks`, those of the
    feed-forward layers have one for each 32, which is slower and nearer to float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, matmul_nbits_quantizer, quantize_dynamic

    path, whole = directory / "model_int8.onnx", directory / "model.onnx"
    (directory / "int8.json").unlink(missing_ok=True)  # scores of an earlier graph
    excluded = feed_forward(onnx.load(whole).graph) if in_blocks else []
    with atomic(path) as partial, silence():
        quantize_dynamic(
            whole,
            partial,
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded,
        )
        if excluded:
            config = matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig(
                block_size=32, is_symmetric=True, bits=8, accuracy_level=4
            )
            rest = matmul_nbits_quantizer.MatMulNBitsQuantizer(
                onnx.load(partial), algo_config=config
            )
            rest.process()
            rest.model.save_model_to_file(str(partial))
    return path


def feed_forward(graph: Any) -> list[str]:
    """Returns the names of the products with a weight that is not square."""
    shapes = {weight.name: list(weight.dims) for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    return [n.name for n in products if len(set(shapes.get(n.input[1], []))) == 2]


@contextmanager
def silence() -> Iterator[None]:
    """Silences the exporter's warnings about its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
