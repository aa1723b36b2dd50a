"""Computes the states after the leading frozen blocks once for each text.

They are cached on disk, and a batch starts from them, without embeddings and frozen blocks. A text
is identified by the hash of its tokens, so epochs, windows and other runs use the same states.

Shapes: B batch, T tokens, H width.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from thaw.data.read.rows import number_of
from thaw.encoder.blocks import encoder_parts
from thaw.encoder.first_token import FirstTokenLayer
from thaw.encoder.frozen_prefix.cache import (
    INPUTS,
    Cache,
    MappedStates,
    PrefixUnavailable,
    batches,
    digest,
    encoder_inputs,
    entry_key,
    map_states,
    pad,
    write_states,
)
from thaw.encoder.replaced_forwards import replaced_forwards
from thaw.errors import is_disk_error

log = logging.getLogger(__name__)

# Length of the tuple that a block returns, None for a tensor.
OUTPUTS: dict[str, int | None] = {"mpnet": 1, "deberta": 2, "deberta-v2": 2}
OUTPUTS |= dict.fromkeys(("bert", "camembert", "distilbert", "electra", "eurobert", "gte"))
OUTPUTS |= dict.fromkeys(("modernbert", "nomic_bert", "roberta", "xlm-roberta"))


class Prefix:
    """The leading frozen blocks of a model, and the states after them.

    Args:
        model: frozen as it stays.
        cache: cache that keeps the states.
        precision: precision of the pass that computes them, part of the key.
        depth: number of blocks to skip; None: all leading frozen ones.
    """

    def __init__(
        self, model: PreTrainedModel, cache: Cache, precision: str, depth: int | None = None
    ) -> None:
        self.model = model
        self.cache = cache
        self.parts = encoder_parts(model)
        if model.config.model_type not in OUTPUTS:
            raise PrefixUnavailable(f"thaw cannot start {model.config.model_type} at a block")
        if getattr(getattr(model.base_model, "encoder", None), "conv", None) is not None:
            raise PrefixUnavailable("this encoder has a convolution beside its blocks")
        frozen = [not any(trains(m) for m in block) for block in self.parts.blocks]
        leading = 0 if any(map(trains, self.parts.embeddings)) else (*frozen, False).index(False)
        self.depth = leading if depth is None else depth
        self.precision = precision
        # Where the last block computes the first token alone, a text has one state.
        last = self.parts.blocks[-1][0]
        self.short = self.depth == len(frozen) and isinstance(last, FirstTokenLayer)
        self.seconds = 0.0  # that computing states took; 0 where all were cached
        self.bytes = 0  # of the states in use
        self.files: list[Tensor] = []
        self.index: dict[bytes, tuple[int, int, int]] = {}  # file, first row, one past the last

    def fill(self, splits: Mapping[str, Any], forward: Callable[[], Any]) -> None:
        """Loads or computes the cached states of all texts in `splits`, encoded rows by name, in
        the context `forward`, which sets the precision; raises PrefixUnavailable if they do not
        fit, or cannot be written."""
        disk, keys = self.cache.disk, self.keys()
        try:
            for split, rows in splits.items():
                texts = {digest(text.values()): text for text in encoder_inputs(rows)}
                compute = partial(self.write, split=split, texts=texts, keys=keys, forward=forward)
                self.add(disk.get(entry_key(keys[self.depth], texts), compute, map_states))
        except OSError as error:
            if not is_disk_error(error):
                raise
            raise PrefixUnavailable(f"{disk.root}: {error.strerror}") from error

    def keys(self) -> list[str]:
        """Returns a hash of all that decides the state after 0, 1, ..., `depth` blocks, but the
        text."""
        config = {
            k: v
            for k, v in self.model.config.to_dict().items()
            if k not in ("id2label", "label2id", "problem_type", "architectures", "_name_or_path")
        }
        about = [
            config,
            self.precision,
            transformers.__version__,
            torch.__version__,
            self.model.config._attn_implementation,
            next(self.model.parameters()).device.type,
            torch.get_float32_matmul_precision(),
        ]
        state = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
        found = []
        for modules in [self.parts.embeddings, *self.parts.blocks[: self.depth]]:
            for module in modules:
                for name, tensor in module.state_dict().items():
                    state.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
                    state.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
                state.update(b"first token" if isinstance(module, FirstTokenLayer) else b"")
            found.append(state.hexdigest())
        return found

    def shallower(self, keys: Sequence[str], texts: Mapping[bytes, Any]) -> "Prefix | None":
        """Returns the deepest cached states of the same texts after fewer blocks, to start from."""
        for depth in range(self.depth - 1, 0, -1):
            mapped = self.cache.disk.find(entry_key(keys[depth], texts), map_states)
            if mapped is not None:
                found = Prefix(self.model, self.cache, self.precision, depth)
                found.add(mapped)
                return found
        return None

    def write(
        self,
        directory: Path,
        split: str,
        texts: Mapping[bytes, Mapping[str, Sequence[int]]],
        keys: Sequence[str],
        forward: Callable[[], Any],
    ) -> None:
        """Computes the states of texts and writes them into the directory of their entry."""
        began = time.monotonic()
        start = self.shallower(keys, texts)
        order = sorted(texts, key=lambda d: -len(texts[d]["input_ids"]))
        lengths = [1 if self.short else len(texts[d]["input_ids"]) for d in order]

        def computed() -> Iterator[Tensor]:
            for batch in batches(order, texts):
                with torch.no_grad(), forward():
                    yield self.compute(pad([texts[d] for d in batch]), start).cpu()

        write_states(directory, order, lengths, computed(), self.cache.reserve)
        seconds = time.monotonic() - began
        self.seconds += seconds
        log.info(
            "frozen blocks: %s of %s computed in %.1f s, from block %d on",
            number_of(len(texts), "texts"),
            split,
            seconds,
            start.depth if start else 0,
        )

    def compute(self, padded: Mapping[str, Tensor], start: "Prefix | None") -> Tensor:
        """Returns the state after `depth` blocks: (B, T, H), or (B, 1, H) if `short`. Sets eval
        mode."""
        device = next(self.model.parameters()).device
        inputs = {key: value.to(device) for key, value in padded.items()}
        seen: list[Tensor] = []
        hook = self.parts.blocks[self.depth - 1][-1].register_forward_hook(
            lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        rest = [module for block in self.parts.blocks[self.depth :] for module in block]
        states = start.states(padded) if start else None
        self.model.eval()
        try:
            with ExitStack() as stack:
                stack.enter_context(replaced_forwards({m: self.passed_on for m in rest}))
                if start is not None and states is not None:
                    stack.enter_context(start.skipped(states.to(device)))
                self.model.base_model(**inputs)
        finally:
            hook.remove()
        return seen[-1]

    def add(self, mapped: MappedStates) -> None:
        """Adds the states of more texts."""
        for text, (begin, end) in mapped.rows.items():
            self.index[text] = (len(self.files), begin, end)
        self.files.append(mapped.states)
        self.bytes += mapped.bytes

    def states(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Returns the states of a padded batch, whose encoder's inputs and `attention_mask` (B, T)
        are on the CPU: (B, T, H), or (B, 1, H) if `short`; None if a text has none. Padding has
        zeros."""
        mask = batch["attention_mask"].numpy().astype(bool)
        columns = [batch[key].numpy() for key in INPUTS if key in batch]
        found = []
        for row, real in enumerate(mask):
            span = self.index.get(digest(column[row][real] for column in columns))
            if span is None:
                return None
            found.append(span)
        first = self.files[found[0][0]]
        out = first.new_zeros(len(found), 1 if self.short else mask.shape[1], first.shape[1])
        for row, (file, begin, end) in enumerate(found):
            at = 0 if self.short else int(mask[row].argmax())
            out[row, at : at + end - begin] = self.files[file][begin:end]
        return out

    @contextmanager
    def skipped(self, states: Tensor) -> Iterator[None]:
        """Makes the model's forward start from `states`.

        Its embeddings return them, and frozen blocks pass them on.
        """
        base: Any = self.model.base_model
        frozen = [module for block in self.parts.blocks[: self.depth] for module in block]
        project = [m for name, m in base.named_children() if name == "embeddings_project"]
        forwards: dict[nn.Module, Callable] = {m: self.passed_on for m in frozen}
        forwards |= {m: lambda states: states for m in project}
        embeddings = getattr(base, "embeddings", None) or base.embed_tokens
        forwards[embeddings] = lambda *args, **options: states
        with replaced_forwards(forwards):
            yield

    def passed_on(self, states: Tensor, *args: object, **options: object) -> Any:
        """Returns `states` as a block returns them that does nothing."""
        count = OUTPUTS[self.model.config.model_type]
        return states if count is None else (states, None)[:count]


def trains(module: nn.Module) -> bool:
    """Returns whether a module has a parameter that trains."""
    return any(p.requires_grad for p in module.parameters())
