"""Writes a run's `model/`: a plain Hugging Face directory that loads without thaw."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw.storage.files import atomic, read_json

STRATEGIES = {  # the name of a strategy's file in conf/freeze, by its class
    "NoFreezing": "none",
    "HeadOnly": "head",
    "LastBlocks": "last",
    "GradualUnfreezing": "gradual",
    "ByName": "names",
    "LoRA": "lora",
}
HERE = "<this directory>"  # where a model card says that the model lies, until it is pushed
LOADING = {
    "transformers": """from transformers import pipeline

pipeline("{pipeline}", model={place}{options})""",
    "setfit": """from setfit import SetFitModel

SetFitModel.from_pretrained({place}{options})""",
}


def loading_code(task: Any, data: Any, place: str = HERE) -> str:
    """Returns Python that loads the exported model of a task from a directory without thaw, and
    takes texts of any length."""
    options = task.pipeline_options | data.pipeline_options
    shown = "".join(f", {key}={code(value)}" for key, value in options.items())
    return LOADING[task.library].format(pipeline=task.pipeline, options=shown, place=code(place))


def code(value: Any) -> str:
    """Returns a value as Python has it, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def export(task: Any, data: Any, card: str, run_dir: Path) -> None:
    """Writes `model/` of a run, whole or not at all: weights as safetensors, config with the label
    names, tokenizer, the model card `card`, and the task's own files."""
    model = task.strategy.exported(task.model, run_dir)
    with atomic(run_dir / "model") as partial:
        model.save_pretrained(partial)
        data.tokenizer.save_pretrained(partial)
        # Where other libraries truncate, they cut where texts were cut in training.
        path = partial / "tokenizer_config.json"
        config = read_json(path) | {"model_max_length": data.max_tokens}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(card, encoding="utf-8")
        task.complete_export(partial)
        for file in partial.rglob("*.safetensors"):  # written for their owner alone
            shutil.copymode(partial / "README.md", file)


def freeze_text(freeze: Mapping[str, Any]) -> str:
    """Returns a strategy and its options in words that a user types, such as "last, blocks 2"."""
    options = [f"{k} {v}" for k, v in freeze.items() if k not in ("_target_", "cache")]
    name = freeze["_target_"].rsplit(".", 1)[-1]
    return ", ".join([STRATEGIES.get(name, name.lower()), *options])
