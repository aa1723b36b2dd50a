"""The states of frozen blocks on disk: options of the cache, the files of an entry, and the texts
that it is of.

The states of all texts lie in one file, one text after the other and without padding, and are
memory-mapped. A text is found by the hash of its tokens.

Shapes: B batch, H width, M texts, N tokens of all texts, T tokens.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thaw.storage.cache import DiskCache, NoRoom, cache_dir, gib

VERSION = 3  # of the format, part of the key
TOKENS = 8192  # of a batch
DIGEST = 16  # bytes of a text's hash
INPUTS = ("input_ids", "token_type_ids")  # all that decides a text's states


class PrefixUnavailable(Exception):
    """The states of frozen blocks are not cached; the message says why."""


@dataclass(frozen=True)
class Cache:
    """Options of the cache of states."""

    budget_gib: float = 8.0  # of all states together; the least recently used are deleted first
    path: str | None = None  # directory of the cache; None: `prefix/` of thaw's cache

    @property
    def disk(self) -> DiskCache:
        root = Path(self.path).expanduser() if self.path else cache_dir() / "prefix"
        return DiskCache(root, int(self.budget_gib * 2**30))

    def reserve(self, size: int) -> None:
        """Deletes the least recently used states until `size` bytes fit; raises PrefixUnavailable
        if they cannot."""
        disk = self.disk
        assert disk.budget is not None
        if size > disk.budget:
            raise PrefixUnavailable(
                f"it takes {gib(size)}, freeze.cache.budget_gib is {self.budget_gib}"
            )
        try:
            disk.make_room(size)
        except NoRoom as error:
            raise PrefixUnavailable(f"it takes {gib(size)}, and {error}") from error


@dataclass(frozen=True)
class MappedStates:
    """The states of texts, mapped into memory."""

    states: Tensor  # (N, H) of all texts
    rows: dict[bytes, tuple[int, int]]  # first row and one past the last of each text, by digest
    bytes: int  # size of the file


def map_states(directory: Path) -> MappedStates:
    """Maps the states of an entry into memory."""
    about = json.loads((directory / "about.json").read_text(encoding="utf-8"))
    ends = np.load(directory / "ends.npy").tolist()
    digests = np.load(directory / "digests.npy").tobytes()
    file, width = directory / "states.bin", about["width"]
    states = torch.from_file(
        str(file), shared=False, size=ends[-1] * width, dtype=getattr(torch, about["dtype"])
    )
    rows = {
        digests[text * DIGEST : (text + 1) * DIGEST]: span
        for text, span in enumerate(pairwise(ends))
    }
    return MappedStates(states.view(-1, width), rows, file.stat().st_size)


def write_states(
    directory: Path,
    digests: Sequence[bytes],
    lengths: Sequence[int],
    batches: Iterable[Tensor],
    reserve: Callable[[int], None],
) -> None:
    """Writes the states of an entry.

    Args:
        directory: of the entry.
        digests: the M texts.
        lengths: number of states of each text.
        batches: their states in the same order, padded on the right: (B, T, H) each.
        reserve: makes room for as many bytes as it is called with.
    """
    left = iter(lengths)
    states = torch.empty(0)
    with open(directory / "states.bin", "wb") as file:
        for states in batches:
            if file.tell() == 0:
                reserve(sum(lengths) * states.shape[2] * states.element_size())
            for state in states:
                kept = state[: next(left)].contiguous()
                file.write(kept.view(torch.uint8).numpy().tobytes())
    np.save(directory / "ends.npy", np.cumsum([0, *lengths]))
    np.save(directory / "digests.npy", np.frombuffer(b"".join(digests), dtype=np.uint8))
    about = {"dtype": str(states.dtype).removeprefix("torch."), "width": states.shape[2]}
    (directory / "about.json").write_text(json.dumps(about), encoding="utf-8")


def entry_key(prefix: str, texts: Mapping[bytes, Any]) -> str:
    """Returns the key of the states of some texts."""
    data = hashlib.sha256(b"".join(sorted(texts))).hexdigest()
    return hashlib.sha256(f"{VERSION} {prefix} {data}".encode()).hexdigest()[:32]


def digest(columns: Iterable[Any]) -> bytes:
    """Returns the hash of a text's token ids, and of its token types where it has them."""
    parts = (np.asarray(column, dtype=np.int64).tobytes() for column in columns)
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST).digest()


def encoder_inputs(rows: Any) -> Iterator[dict[str, Sequence[int]]]:
    """Yields the encoder's inputs for each text of a split, windows one by one."""
    keys = [key for key in INPUTS if key in rows.column_names]
    for row in zip(*(rows[key] for key in keys), strict=True):
        nested = isinstance(row[0][0], list)
        for text in zip(*row, strict=True) if nested else [row]:
            yield dict(zip(keys, text, strict=True))


def batches(
    order: Sequence[bytes], texts: Mapping[bytes, Mapping[str, Sequence[int]]]
) -> Iterator[list[bytes]]:
    """Yields texts, longest first, in batches of about `TOKENS` tokens."""
    begin = 0
    while begin < len(order):
        count = max(1, TOKENS // len(texts[order[begin]]["input_ids"]))
        yield list(order[begin : begin + count])
        begin += count


def pad(texts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Returns a batch of texts, padded on the right: (B, T) each."""
    width = max(len(text["input_ids"]) for text in texts)
    out = {
        key: torch.tensor([[*text[key], *[0] * (width - len(text[key]))] for text in texts])
        for key in texts[0]
    }
    lengths = torch.tensor([len(text["input_ids"]) for text in texts])
    return out | {"attention_mask": (torch.arange(width) < lengths[:, None]).long()}
