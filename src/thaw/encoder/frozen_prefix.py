"""What frozen blocks give for a text, computed once.

The state after the last of the leading frozen blocks is kept on disk, text by text without padding,
memory-mapped. A batch then starts from these states: embeddings and frozen blocks are passed over.
Texts are found by the hash of what the tokenizer made of them, so epochs, validation, test, windows
of long sentences and other runs share what is there.

Shapes: B batch, T tokens, H width, M texts, N tokens of all texts.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from filelock import FileLock
from torch import Tensor, nn
from transformers import PreTrainedModel

from thaw.encoder.blocks import encoder_parts
from thaw.encoder.prefix_cache import Cache, PrefixUnavailable, gib
from thaw.encoder.sharding import sharded
from thaw.errors import ThawError, is_disk_error
from thaw.storage.files import put

log = logging.getLogger(__name__)

TOKENS = 8192  # of a batch of the pass that fills the cache
VERSION = 2  # of what is kept
DIGEST = 16  # bytes of a text's hash
INPUTS = ("input_ids", "token_type_ids")  # what a text is to an encoder
TUPLES = {"mpnet": 1, "deberta": 2, "deberta-v2": 2}  # blocks that give a tuple, of how many


class Prefix:
    """The leading frozen blocks of a model, and what they give.

    Args:
        model: frozen as it stays.
        cache: where states are kept.
        precision: of the pass, part of the key.

    Attributes:
        depth: how many leading blocks are frozen.
        seconds: what filling the cache took; 0 where all was there.
        bytes: of the states in use.
    """

    def __init__(self, model: PreTrainedModel, cache: Cache, precision: str) -> None:
        self.model = model
        self.cache = cache
        self.parts = encoder_parts(model)
        if getattr(getattr(model.base_model, "encoder", None), "conv", None) is not None:
            raise PrefixUnavailable("this encoder has a convolution beside its blocks")
        frozen = [not any(trains(m) for m in block) for block in self.parts.blocks]
        self.depth = 0 if any(map(trains, self.parts.embeddings)) else (*frozen, False).index(False)
        self.precision = precision
        # Where the last block computes the first token alone, there is one state a text.
        self.short = self.depth == len(frozen) and "forward" in vars(self.parts.blocks[-1][0])
        self.seconds = 0.0
        self.bytes = 0
        self.places: dict[bytes, tuple[int, int, int]] = {}  # shelf, first row, one past the last
        self.shelves: list[Tensor] = []

    def fill(self, splits: Mapping[str, Any], forward: Callable[[], Any]) -> None:
        """Has the states of all texts of some splits at hand.

        Args:
            splits: encoded rows by name.
            forward: a context that sets the precision of the pass.

        Raises:
            PrefixUnavailable: they do not fit, or cannot be written.
        """
        try:
            self.fill_shelves(splits, forward)
        except OSError as error:
            if not is_disk_error(error):
                raise
            raise PrefixUnavailable(f"{self.cache.root}: {error.strerror}") from error

    def fill_shelves(self, splits: Mapping[str, Any], forward: Callable[[], Any]) -> None:
        """The states of each split, found or computed."""
        keys = self.keys()
        self.cache.root.mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            texts = {digest(list(text.values())): text for text in inputs(rows)}
            data = hashlib.sha256(b"".join(sorted(texts))).hexdigest()
            place = self.cache.root / f"{shelf_name(keys[self.depth], data)}.states"
            with FileLock(place.with_suffix(".lock")):
                if not whole(place):
                    began = time.monotonic()
                    start = self.shallower(keys, data)
                    self.write(place, texts, start, forward)
                    self.seconds += time.monotonic() - began
                    log.info(
                        "frozen blocks: %d texts of %s computed in %.1f s, from block %d on",
                        len(texts),
                        split,
                        time.monotonic() - began,
                        start.depth if start else 0,
                    )
                self.take(place)

    def keys(self) -> list[str]:
        """A hash of all that decides the state after 0, 1, ..., `depth` blocks, but the text."""
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
                state.update(b"first token" if "forward" in vars(module) else b"")
            found.append(state.hexdigest())
        return found

    def shallower(self, keys: Sequence[str], data: str) -> "Prefix | None":
        """The deepest kept states of the same texts after fewer blocks, to start from."""
        for number in range(self.depth - 1, 0, -1):
            place = self.cache.root / f"{shelf_name(keys[number], data)}.states"
            with FileLock(place.with_suffix(".lock")) if place.exists() else nullcontext():
                if whole(place):
                    found = Prefix(self.model, self.cache, self.precision)
                    found.depth, found.short = number, False
                    found.take(place)
                    return found
        return None

    def write(
        self,
        place: Path,
        texts: Mapping[bytes, Mapping[str, Sequence[int]]],
        start: "Prefix | None",
        forward: Callable[[], Any],
    ) -> None:
        """Computes the states of texts and puts them at a place, whole or not at all."""
        order = sorted(texts, key=lambda d: -len(texts[d]["input_ids"]))
        lengths = [1 if self.short else len(texts[d]["input_ids"]) for d in order]
        aside = place.with_suffix(".partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        states = torch.empty(0)
        try:
            with open(aside / "states.bin", "wb") as file:
                for batch in batches(order, texts):
                    with torch.no_grad(), forward():
                        states = self.compute(pad([texts[d] for d in batch]), start).cpu()
                    if file.tell() == 0:
                        self.room(sum(lengths) * states.shape[2] * states.element_size())
                    for text, state in zip(batch, states, strict=True):
                        kept = state[: len(texts[text]["input_ids"])].contiguous()
                        file.write(kept.view(torch.uint8).numpy().tobytes())
            np.save(aside / "ends.npy", np.cumsum([0, *lengths]))
            np.save(aside / "digests.npy", np.frombuffer(b"".join(order), dtype=np.uint8))
            about = {
                "dtype": str(states.dtype).removeprefix("torch."),
                "width": states.shape[2],
                "bytes": {p.name: p.stat().st_size for p in aside.iterdir()},
            }
            (aside / "about.json").write_text(json.dumps(about), encoding="utf-8")
            put(aside, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def room(self, size: int) -> None:
        """Makes room for so many bytes; one process at a time."""
        with FileLock(self.cache.root / "room.lock"):
            self.cache.make_room(size)

    def compute(self, padded: Mapping[str, Tensor], start: "Prefix | None") -> Tensor:
        """The state after `depth` blocks: (B, T, H), or (B, 1, H) if `short`. Sets eval mode."""
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
                stack.enter_context(replaced({m: self.passed_on for m in rest}))
                if start is not None and states is not None:
                    stack.enter_context(start.skipped(states.to(device)))
                self.model.base_model(**inputs)
        finally:
            hook.remove()
        return seen[-1]

    def take(self, place: Path) -> None:
        """Maps kept states into memory and marks them as used."""
        about = json.loads((place / "about.json").read_text(encoding="utf-8"))
        ends = np.load(place / "ends.npy").tolist()
        raw = np.load(place / "digests.npy").tobytes()
        file, width = place / "states.bin", about["width"]
        shelf = torch.from_file(
            str(file), shared=False, size=ends[-1] * width, dtype=getattr(torch, about["dtype"])
        )
        for row, (begin, end) in enumerate(pairwise(ends)):
            text = raw[row * DIGEST : (row + 1) * DIGEST]
            self.places[text] = (len(self.shelves), begin, end)
        self.shelves.append(shelf.view(-1, width))
        self.bytes += file.stat().st_size
        os.utime(place)

    def states(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The states of a padded batch: (B, T, H), or (B, 1, H) if `short`; zeros at padding.

        Args:
            batch: `attention_mask` and the encoder's inputs, each (B, T), on the CPU.

        Returns:
            None if a text is not there.
        """
        mask = batch["attention_mask"].numpy().astype(bool)
        columns = [batch[key].numpy() for key in INPUTS if key in batch]
        found = []
        for row, real in enumerate(mask):
            place = self.places.get(digest([column[row][real] for column in columns]))
            if place is None:
                return None
            found.append(place)
        shelf = self.shelves[found[0][0]]
        out = shelf.new_zeros(len(found), 1 if self.short else mask.shape[1], shelf.shape[1])
        for row, (number, begin, end) in enumerate(found):
            at = 0 if self.short else int(mask[row].argmax())
            out[row, at : at + end - begin] = self.shelves[number][begin:end]
        return out

    @contextmanager
    def skipped(self, states: Tensor) -> Iterator[None]:
        """The model's forward starts from states: its embeddings give them, and frozen blocks pass
        them on."""
        base: Any = self.model.base_model
        frozen = [module for block in self.parts.blocks[: self.depth] for module in block]
        passing = [m for name, m in base.named_children() if name == "embeddings_project"]
        forwards: dict[nn.Module, Callable] = {m: self.passed_on for m in frozen}
        forwards |= {m: same for m in passing}
        forwards[base.embeddings] = lambda *args, **options: states
        with replaced(forwards):
            yield

    def passed_on(self, states: Tensor, *args: object, **options: object) -> Any:
        """What a block gives that does nothing."""
        count = TUPLES.get(self.model.config.model_type)
        return states if count is None else (states, None)[:count]


def whole(place: Path) -> bool:
    """Whether states are kept at a place; what was damaged is gone then."""
    if not place.exists():
        return False
    try:
        noted = json.loads((place / "about.json").read_text(encoding="utf-8"))["bytes"]
        sizes = {p.name: p.stat().st_size for p in place.iterdir() if p.name != "about.json"}
        if sizes == noted:
            return True
        why = f"files have {sizes} bytes, not {noted}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error)
    log.warning("kept states of frozen blocks are damaged and made anew: %s: %s", place, why)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    return False


def same(states: Tensor) -> Tensor:
    """What it gets."""
    return states


def trains(module: nn.Module) -> bool:
    """Whether a module has a parameter that trains."""
    return any(p.requires_grad for p in module.parameters())


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """Gives modules another forward for a while, that is not compiled."""
    before = {m: (vars(m).get("forward"), m._compiled_call_impl) for m in forwards}
    for module, forward in forwards.items():
        vars(module)["forward"], module._compiled_call_impl = forward, None
    try:
        yield
    finally:
        for module, (own, compiled) in before.items():
            vars(module).pop("forward", None)
            module._compiled_call_impl = compiled
            if own is not None:
                vars(module)["forward"] = own


def inputs(rows: Any) -> Iterator[dict[str, Sequence[int]]]:
    """What the encoder gets of each text of a split, windows one by one."""
    keys = [key for key in INPUTS if key in rows.column_names]
    for row in zip(*(rows[key] for key in keys), strict=True):
        nested = isinstance(row[0][0], list)
        for text in zip(*row, strict=True) if nested else [row]:
            yield dict(zip(keys, text, strict=True))


def digest(columns: Sequence[Any]) -> bytes:
    """The hash of a text's token ids, and types where it has them."""
    parts = (np.asarray(column, dtype=np.int64).tobytes() for column in columns)
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST).digest()


def shelf_name(key: str, data: str) -> str:
    """The name of what is kept of a model's prefix and some texts."""
    return hashlib.sha256(f"{VERSION} {key} {data}".encode()).hexdigest()[:32]


def batches(
    order: Sequence[bytes], texts: Mapping[bytes, Mapping[str, Sequence[int]]]
) -> Iterator[list[bytes]]:
    """Texts, longest first, in batches of about `TOKENS` tokens."""
    begin = 0
    while begin < len(order):
        count = max(1, TOKENS // len(texts[order[begin]]["input_ids"]))
        yield list(order[begin : begin + count])
        begin += count


def pad(texts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
    """A batch of texts, padded on the right."""
    width = max(len(text["input_ids"]) for text in texts)
    out = {
        key: torch.tensor([[*text[key], *[0] * (width - len(text[key]))] for text in texts])
        for key in texts[0]
    }
    lengths = torch.tensor([len(text["input_ids"]) for text in texts])
    return out | {"attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def prefix_of(task: Any) -> Prefix | None:
    """The states of a task's frozen blocks, or None with the reason in the log.

    Args:
        task: attached to its trainer, its weights on their device.
    """
    if not task.frozen:
        return None
    try:
        splits = covered(task)
        prefix = Prefix(task.model, task.cache, str(task.trainer.precision))
        if prefix.depth == 0:
            return None
        prefix.fill(splits, task.trainer.precision_plugin.forward_context)
    except (PrefixUnavailable, ThawError) as error:
        log.info("frozen blocks run in every step: %s", error)
        return None
    finally:
        task.train(task.training)
    log.info("frozen blocks: %d run once, their states take %s", prefix.depth, gib(prefix.bytes))
    return prefix


def add_test(task: Any) -> None:
    """Has the states of the test at hand, too, where those of training are."""
    rows, trainer = task.trainer.datamodule.encoded.get("test"), task.trainer
    if task.prefix is None or rows is None or trainer.limit_test_batches != 1.0:
        return
    try:
        task.prefix.fill({"test": rows}, trainer.precision_plugin.forward_context)
    except PrefixUnavailable as error:
        log.info("frozen blocks run in the test: %s", error)
    finally:
        task.train(task.training)


def covered(task: Any) -> dict[str, Any]:
    """The encoded rows of train, and of validation if all of it is read.

    Raises:
        PrefixUnavailable: the inputs differ from epoch to epoch, or training reads a part of them.
    """
    trainer, data = task.trainer, task.trainer.datamodule
    if task.cache is None:
        raise PrefixUnavailable("freeze.cache=false")
    if task.inputs_change:
        raise PrefixUnavailable(task.inputs_change)
    if sharded(task):
        raise PrefixUnavailable("trainer=fsdp keeps no block whole")
    if trainer.overfit_batches or trainer.limit_train_batches != 1.0:
        raise PrefixUnavailable("the run trains on a part of the data")
    steps = -(-len(data.encoded["train"]) // (data.batch_size * trainer.world_size))
    if 0 <= trainer.max_steps < steps:
        raise PrefixUnavailable(f"trainer.max_steps={trainer.max_steps} is less than an epoch")
    whole = ["train"] + (["validation"] if trainer.limit_val_batches == 1.0 else [])
    return {split: data.encoded[split] for split in whole if split in data.encoded}
