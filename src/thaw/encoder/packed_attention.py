"""Runs a batch as one row of its real tokens, without padding between the texts.

The attention knows where each text ends, so that no text attends to another (as ModernBERT trains:
Warner et al. 2024, section 2.1.3). The last state is unpacked to (B, T, H), so heads, poolers, loss
and gradients are those of padded batches.

On CUDA the attention is torch's flash attention with variable lengths and dropout (Dao 2023).
Elsewhere each text is computed by itself, which is exact but slow.

Shapes: B batch, T tokens, N real tokens of the batch, H width, A heads, D width of a head.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from thaw.encoder.bit_dropout import ATTENTION, attend

PACKED = "packed"
# The module that returns the last state, before poolers and heads.
LAST = dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), "encoder")
LAST |= {"distilbert": "transformer", "modernbert": "final_norm"}
AFTER_PADDING = ("camembert", "roberta", "xlm-roberta")  # positions count from pad_token_id + 1
HALF = ("16-mixed", "16-true", "bf16-mixed", "bf16-true")


def why_not_packed(model: PreTrainedModel, device: torch.device, precision: str) -> str:
    """Returns why a model cannot run packed on a device, with the Trainer's precision; "" if it
    can."""
    kind = model.config.model_type
    if kind not in LAST:
        return f"thaw packs {', '.join(sorted(LAST))}, not {kind}"
    if model.config._attn_implementation != ATTENTION:
        return f"the attention is {model.config._attn_implementation}, not sdpa"
    if device.type != "cuda":
        return ""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} has no flash attention (compute capability 8)"
    if precision not in HALF:
        return f"flash attention needs trainer.precision=bf16-mixed, not {precision}"
    width = model.config.hidden_size // model.config.num_attention_heads
    if width % 8 or width > 128:
        return f"flash attention knows no heads of {width}"
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float16
    return flash_attention_error(device, dtype)


class Layout:
    """Where the real tokens of a padded batch are.

    Args:
        real: (B, T), True for real tokens, on the CPU, so that no length is read from a GPU.
        device: device of the encoder.
        after: number that the positions of a text start after; None: a position is a column.
    """

    def __init__(self, real: np.ndarray, device: torch.device, after: int | None = None) -> None:
        self.shape = real.shape
        self.full = bool(real.all())
        positions = np.nonzero(real)[1] if after is None else real.cumsum(1)[real] + after
        lengths = real.sum(1)
        self.longest = int(lengths.max())  # number of tokens of the longest text
        # First token of each text in the row, and the end (B + 1,).
        self.ends = moved(torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32)), device)
        index = np.stack([np.flatnonzero(real), positions])
        # Of the real tokens, within the batch and within their texts: (1, N) each.
        self.index, self.positions = moved(torch.from_numpy(index), device).split(1)

    def pack(self, padded: Tensor) -> Tensor:
        """Returns a padded tensor (B, T, ...) as (1, N, ...)."""
        row = padded.flatten(0, 1)
        return (row if self.full else row.index_select(0, self.index[0]))[None]

    def unpack(self, row: Tensor) -> Tensor:
        """Returns a packed tensor (1, N, H) as (B, T, H), with zeros at padding."""
        if self.full:
            return row.view(*self.shape, -1)
        padded = row.new_zeros(self.shape[0] * self.shape[1], row.shape[2])
        return padded.index_copy(0, self.index[0], row[0]).view(*self.shape, -1)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the CPU on another device, without waiting for it there."""
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the CPU in memory that a GPU copies from while the CPU goes on."""
    return tensor.pin_memory() if device.type == "cuda" and torch.cuda.is_available() else tensor


@contextmanager
def packed(model: PreTrainedModel, real: np.ndarray) -> Iterator[Layout]:
    """Makes a model run one padded batch packed, whose real tokens are True in `real` (B, T)."""
    base, config = model.base_model, model.config
    after = config.pad_token_id if config.model_type in AFTER_PADDING else None
    layout = Layout(real, next(model.parameters()).device, after)

    def pack(module: nn.Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict]:
        inputs = dict(zip(("input_ids", "attention_mask"), args, strict=False)) | inputs
        names = [n for n in ("input_ids", "token_type_ids") if inputs.get(n) is not None]
        inputs |= {name: layout.pack(inputs[name]) for name in names}
        inputs |= {f"cu_seq_lens_{x}": layout.ends for x in "qk"}
        inputs |= {f"max_length_{x}": layout.longest for x in "qk"}
        return (), inputs | {"attention_mask": None, "position_ids": layout.positions}

    def unpack(module: nn.Module, args: tuple, output: Any) -> Any:
        state = output if isinstance(output, Tensor) else output.last_hidden_state
        if state.shape[1] == layout.positions.shape[1]:  # else of first tokens alone: (B, 1, H)
            state = layout.unpack(state)
        if isinstance(output, Tensor):
            return state
        output["last_hidden_state"] = state
        return output

    hooks = [
        base.register_forward_pre_hook(pack, with_kwargs=True),
        base.get_submodule(LAST[config.model_type]).register_forward_hook(unpack),
    ]
    before = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        yield layout
    finally:
        config._attn_implementation = before
        for hook in hooks:
            hook.remove()


def attend_within(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor,
    max_length_q: int,
    max_length_k: int,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes attention within each text of a packed row: (1, Q, A, D).

    The arguments are those of transformers' attention functions: `query` (1, A, Q, D), `key` and
    `value` (1, A, K, D), `cu_seq_lens_*` (B + 1,). A query attends to the keys that are less than
    `sliding_window` tokens away.
    """
    window = None if sliding_window is None else sliding_window - 1
    if query.device.type not in ("cuda", "meta"):  # meta: shapes without numbers
        ends = cu_seq_lens_q, cu_seq_lens_k
        return text_by_text(module, query, key, value, ends, dropout, scaling, window), None
    ends_and_longest = cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k
    return flash(query, key, value, ends_and_longest, dropout, scaling, window), None


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[Tensor, Tensor, int, int],
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Computes torch's flash attention with variable lengths: (1, Q, A, D).

    `torch.nn.attention.varlen` has no dropout.
    """
    rows = (x[0].transpose(0, 1) for x in (query, key, value))
    options = {"scale": scaling, "window_size_left": window, "window_size_right": window}
    forward = torch.ops.aten._flash_attention_forward
    out, *_ = forward(*rows, *lengths, dropout, False, False, **options)
    return out[None]


@cache
def flash_attention_error(device: torch.device, dtype: torch.dtype) -> str:
    """Returns what is wrong with a device's flash attention in a 16-bit type, or "".

    Two texts in a row must have the outputs and gradients that they have apart.
    """
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 1, 2, 5, 64, generator=rng).to(device, dtype).requires_grad_()
    query, key, value = inputs
    ends = torch.tensor([0, 2, 5], dtype=torch.int32, device=device)

    def with_gradients(out: Tensor) -> tuple[Tensor, Tensor]:
        return out, torch.autograd.grad(out.float().square().sum(), inputs)[0]

    try:
        flash(query, key, value, (ends, ends, 3, 3), 0.1, None, None)
        for window in (None, 1):
            found = with_gradients(flash(query, key, value, (ends, ends, 3, 3), 0.0, None, window))
            apart = text_by_text(nn.Module(), query, key, value, (ends, ends), 0.0, None, window)
            for one, two in zip(found, with_gradients(apart), strict=True):
                if (one - two).abs().max() > 0.05 * two.abs().max():  # 16 bits: 1 % at most
                    return f"the flash attention of {device} gives other numbers than sdpa"
    except RuntimeError as error:
        return f"the flash attention of {device} fails: {str(error).splitlines()[0]}"
    return ""


@torch.compiler.disable
def text_by_text(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: tuple[Tensor, Tensor],
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Computes each text's attention by itself: (1, Q, A, D)."""
    out = []
    for (a, b), (c, d) in zip(*(pairwise(e.tolist()) for e in ends), strict=True):
        mask = None
        if window is not None:
            index = torch.arange(d - c, device=key.device)
            mask = (index[: b - a, None] - index).abs()[None, None] <= window
        mine = query[:, :, a:b], key[:, :, c:d], value[:, :, c:d]
        out.append(attend(module, *mine, mask, dropout, scaling, is_causal=False)[0])
    return torch.cat(out, dim=1)


# Without a mask function of that name, transformers makes no mask.
AttentionInterface.register(PACKED, attend_within)
