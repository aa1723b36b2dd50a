"""Pools token states into sentence embeddings, as a sentence-transformers directory says, without
that package.

Shapes: B batch, T tokens, D width.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from thaw.errors import ThawError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pooling:
    """Pools the token states of a text into one embedding.

    Attributes:
        mode: "mean" over real tokens, or "cls", the first token.
        normalize: whether embeddings are scaled to length 1.
    """

    mode: str = "mean"
    normalize: bool = False

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        """Returns the embeddings (B, D), in float32.

        Args:
            states: output of the last block (B, T, D).
            mask: attention mask (B, T), 1 for real tokens.
        """
        states = states.float()
        if self.mode == "cls":
            pooled = states[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return F.normalize(pooled, dim=-1) if self.normalize else pooled


def read_pooling(checkpoint: str | Path) -> Pooling:
    """Returns the pooling of a sentence-transformers directory, "mean" for a plain encoder.

    Raises:
        ThawError: the directory has a module, or a pooling, other than mean, cls and Normalize.
    """
    directory = Path(checkpoint)
    if not (directory / "modules.json").exists():
        return Pooling()
    modules = json.loads((directory / "modules.json").read_text("utf-8"))
    mode, normalize = "mean", False
    for module in modules[1:]:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Normalize":
            normalize = True
        elif kind == "Pooling":
            path = directory / module["path"] / "config.json"
            mode = pooling_mode(json.loads(path.read_text("utf-8")), path)
        else:
            raise ThawError(
                f"{directory}/modules.json has a module {kind}; task=setfit knows Pooling and "
                "Normalize. Choose another model.checkpoint."
            )
    return Pooling(mode, normalize)


def pooling_mode(config: Mapping[str, Any], path: Path) -> str:
    """Returns the mode in a Pooling module's config, which is a name or a set of switches.

    Raises:
        ThawError: there are several modes, or another one than mean and cls.
    """
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or [])
    if not modes:
        switches = [k for k, v in config.items() if k.startswith("pooling_mode_") and v]
        modes = [k.removeprefix("pooling_mode_").removesuffix("_tokens") for k in switches]
        modes = [m.removesuffix("_token") for m in modes]
    if len(modes) != 1 or modes[0] not in ("mean", "cls"):
        raise ThawError(f"{path} pools by {' and '.join(modes)}; task=setfit knows mean and cls.")
    return modes[0]


def write_pooling(pooling: Pooling, width: int, max_tokens: int, directory: Path) -> None:
    """Writes the files that make an exported encoder a sentence-transformers directory."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds += [("2_Normalize", "Normalize")] if pooling.normalize else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    switches = {
        "pooling_mode_cls_token": pooling.mode == "cls",
        "pooling_mode_mean_tokens": pooling.mode == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    for path, _ in kinds[1:]:
        (directory / path).mkdir()
    files: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": width, **switches},
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def keep_pooling(checkpoint: str | Path, width: int, max_tokens: int, directory: Path) -> None:
    """Writes the pooling of a sentence-transformers checkpoint into an export of its encoder; the
    log says so where it cannot."""
    if not (Path(checkpoint) / "modules.json").exists():
        return
    try:
        write_pooling(read_pooling(checkpoint), width, max_tokens, directory)
    except ThawError as error:
        log.warning("the export is no sentence-transformers directory: %s", error)
