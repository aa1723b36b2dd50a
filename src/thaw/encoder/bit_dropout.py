"""Dropout that draws sixteen random bits for each element on a CPU.

torch draws a Bernoulli variable, which takes 80 % of the time of a dropout and two thirds of that
of an attention with dropout.

Shapes: B batch, N heads, Q queries, K keys, D width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LEVELS = 2**16
ATTENTION = "sdpa_bit_dropout"


def use_bits(model: PreTrainedModel) -> None:
    """Makes a model's dropout draw bits, in its modules and in scaled dot-product attention."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.Dropout:
            model.set_submodule(name, BitDropout(module.p).train(module.training))
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ATTENTION)


def bit_dropout(input: Tensor, p: float) -> Tensor:
    """Applies dropout (Srivastava et al. 2014), with `p` rounded to 1/65536 on a CPU."""
    dropped = round(p * LEVELS)
    if not draws_bits(input, dropped):
        return nn.functional.dropout(input, p)
    return BitMask.apply(input, dropped)


def draws_bits(input: Tensor, dropped: int) -> bool:
    """Returns whether dropout draws bits. Under torch.compile it does not: a view of int64 as int16
    ends there in an error (setStorage ... out of bounds), and inductor fuses torch's dropout."""
    return input.device.type == "cpu" and 0 < dropped < LEVELS and not is_compiling()


class BitDropout(nn.Dropout):
    """`nn.Dropout` with `bit_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return bit_dropout(input, self.p) if self.training else input


def draw(shape: torch.Size) -> Tensor:
    """Returns sixteen random bits for each element."""
    bits = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[: shape.numel()].view(shape)


def factors(drawn: Tensor, dropped: int, dtype: torch.dtype) -> Tensor:
    """Returns dropout's factors: 0 for `dropped` of 65536 numbers, else what keeps the mean."""
    out = torch.empty(drawn.shape, dtype=dtype)
    torch.ge(drawn, dropped - LEVELS // 2, out=out)
    return out.mul_(LEVELS / (LEVELS - dropped))


class BitMask(torch.autograd.Function):
    """Dropout of `dropped` of 65536 elements; for the backward pass it keeps the drawn bits."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dropped: int) -> Tensor:
        drawn = draw(input.shape)
        ctx.save_for_backward(drawn)
        ctx.dropped = dropped
        return input * factors(drawn, dropped, input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * factors(ctx.saved_tensors[0], ctx.dropped, grad.dtype), None


class BitAttention(torch.autograd.Function):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with dropout of its probabilities.

    It keeps one tensor of B * N * Q * K floats and the drawn bits, where single operations would
    keep three.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropped: int,
        scaling: float,
    ) -> Tensor:
        products = (query @ key.transpose(-1, -2)).mul_(scaling)
        if mask is not None:
            # Not -inf: a padded query may attend to nothing.
            products.masked_fill_(~mask, torch.finfo(products.dtype).min)
        weights = products.softmax(-1)
        drawn = draw(weights.shape)
        ctx.save_for_backward(query, key, value, weights, drawn)
        ctx.dropped, ctx.scaling = dropped, scaling
        return factors(drawn, dropped, weights.dtype).mul_(weights) @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, drawn = ctx.saved_tensors
        kept = factors(drawn, ctx.dropped, weights.dtype)
        slope = (grad @ value.transpose(-1, -2)).mul_(kept)
        of_value = kept.mul_(weights).transpose(-1, -2) @ grad
        slope = torch._softmax_backward_data(slope, weights, -1, weights.dtype).mul_(ctx.scaling)
        return slope @ key, slope.transpose(-1, -2) @ query, of_value, None, None, None


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes transformers' sdpa attention (B, Q, N, D); with dropout on a CPU, `BitAttention`.

    The arguments are those of transformers' attention functions: `query` (B, N, Q, D), `key` and
    `value` (B, N, K, D), and `attention_mask` (B, 1, Q, K), True where a query attends to a key.
    """
    dropped = round(dropout * LEVELS)
    known = key.shape == value.shape and key.shape[1] == query.shape[1]
    known &= attention_mask is None or attention_mask.dtype == torch.bool
    known &= kwargs.get("position_bias") is None
    if not draws_bits(query, dropped) or not known:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):  # of half tensors in float32, as torch's own does
        wide = [x if x.dtype.itemsize > 2 else x.float() for x in (query, key, value)]
        found = BitAttention.apply(*wide, attention_mask, dropped, scaling).to(query.dtype)
    return found.transpose(1, 2).contiguous(), None


def mask(*args: Any, **options: Any) -> Tensor | None:
    """Returns transformers' sdpa mask; on a GPU without checking for padding, which would wait for
    the GPU in every pass."""
    padding, device = options.get("attention_mask"), torch.device(options.get("device", "cpu"))
    if padding is not None and device.type != "cpu":
        options["allow_is_bidirectional_skip"] = False
    return sdpa_mask(*args, **options)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, mask)
