"""Makes embeddings of token states with the modules of a sentence-transformers directory, which are
that library's own classes.

Shapes: B batch, T tokens, D width of the encoder, E width of an embedding.
"""

import json
import logging
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer

from thaw.data.encode.positions import default_prompt, sentence_config
from thaw.errors import ThawError

log = logging.getLogger(__name__)

KNOWN = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
OPTIONS = ("prompts", "default_prompt_name", "similarity_fn_name")
FAULTS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError)


class SentenceModules(nn.Module):
    """The modules after the encoder, which make one embedding of a text's token states.

    Args:
        modules: modules of sentence-transformers, in their order.
        width: width D of the token states.
        prompt_tokens: number of a text's first tokens that a pooling leaves out.
        options: what else a `SentenceTransformer` of these modules is made with, such as prompts.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        width: int,
        prompt_tokens: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.chain = nn.Sequential(*modules)
        self.prompt_tokens = prompt_tokens
        self.options = dict(options or {})
        length = prompt_tokens + 1
        with torch.no_grad():
            found = self(torch.zeros(1, length, width), torch.ones(1, length, dtype=torch.long))
        self.width = found.shape[-1]  # E

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Returns the embeddings (B, E), in float32, of the last block's output (B, T, D) with its
        attention mask (B, T), 1 for real tokens."""
        features: dict[str, Any] = {"token_embeddings": states.float(), "attention_mask": mask}
        if self.prompt_tokens:
            features["prompt_length"] = self.prompt_tokens
        return self.chain(features)["sentence_embedding"].float()


def read_sentence_modules(checkpoint: str | Path, width: int) -> SentenceModules:
    """Returns the modules after the encoder, of width D, of a model directory, which `modules.json`
    lists; of a plain encoder the mean over tokens. Raises ThawError if a module is none of `KNOWN`,
    or cannot be read."""
    directory = Path(checkpoint)
    with settings_kept():
        from sentence_transformers.sentence_transformer.modules import Pooling
    if not (directory / "modules.json").exists():
        return SentenceModules([Pooling(width, "mean")], width)
    try:
        entries = json.loads((directory / "modules.json").read_text("utf-8"))[1:]
        modules = [load_module(directory, str(e["type"]), str(e["path"])) for e in entries]
        skips = any(not getattr(module, "include_prompt", True) for module in modules)
        config = sentence_config(directory)
        options = {name: config[name] for name in OPTIONS if name in config}
        return SentenceModules(modules, width, prompt_tokens(directory) if skips else 0, options)
    except (*FAULTS, pickle.UnpicklingError, SafetensorError) as error:
        raise ThawError(f"{directory}/modules.json cannot be followed: {error}") from error


def load_module(directory: Path, kind: str, path: str) -> nn.Module:
    """Returns a module of sentence-transformers of a class, `kind`, at a `path` within a model
    directory; no other code is imported, nothing is unpickled. Raises ThawError if the class is
    none of `KNOWN`, or an activation none of torch's."""
    from sentence_transformers.sentence_transformer import modules

    package, _, name = kind.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or name not in KNOWN:
        raise ThawError(
            f"{directory}/modules.json has a module {kind}; task=setfit knows "
            f"{', '.join(KNOWN)} of sentence_transformers. Choose another model.checkpoint."
        )
    made: Any = getattr(modules, name)
    config = made.load_config(str(directory), subfolder=path)
    activation = str(config.get("activation_function", "torch.nn."))
    if not activation.startswith("torch.nn."):
        raise ThawError(
            f"{directory / path}: the activation is {activation}; expected one of torch.nn."
        )
    return made.load(str(directory), subfolder=path, local_files_only=True)


def keep_sentence_files(checkpoint: str | Path, directory: Path) -> None:
    """Copies the modules after the encoder of a sentence-transformers checkpoint into an export of
    its encoder, of which the log says so where it cannot."""
    root = Path(checkpoint).resolve()
    if not (root / "modules.json").exists():
        return
    try:
        entries = json.loads((root / "modules.json").read_text("utf-8"))
        for number, entry in enumerate(entries[1:], start=1):
            source = (root / entry["path"]).resolve()
            if not source.is_relative_to(root):
                raise ValueError(f"{entry['path']} is not in the directory")
            entry["path"] = f"{number}_{entry['type'].rpartition('.')[2]}"
            if source.exists():  # published checkpoints have no directory of Normalize
                shutil.copytree(source, directory / entry["path"], dirs_exist_ok=True)
    except FAULTS as error:
        log.warning(
            "the export is no sentence-transformers directory: %s/modules.json: %s", root, error
        )
        return
    entries[0]["path"] = ""
    (directory / "modules.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
    for path in root.glob("*sentence*.json"):  # its prompts and its limit
        shutil.copy(path, directory / path.name)


def prompt_tokens(model: Path) -> int:
    """Returns the number of tokens of the default prompt, with the special ones before it."""
    if not (prompt := default_prompt(model)):
        return 0
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Puts back what importing sentence-transformers and setfit changes: filters of warnings, and
    the level and handlers of setfit's logger. What it prints goes to stderr: transformers speaks of
    WANDB_MODE=offline, and stdout may be where predictions go."""
    logger = logging.getLogger("setfit")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers[:]
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers
