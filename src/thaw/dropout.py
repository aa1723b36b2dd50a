"""Dropout whose random numbers cost a CPU less.

On a CPU, torch draws a Bernoulli variable an element: 80 % of the time of a dropout, and two thirds
of that of an attention with dropout. Sixteen random bits an element say as much.

Shapes: B batch, N heads, Q queries, K keys, D width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LEVELS = 2**16
ATTENTION = "sdpa_bit_dropout"


def use_bits(model: PreTrainedModel) -> None:
    """Makes a model's dropout draw bits, in its modules and in scaled dot-product attention."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = BitDropout
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ATTENTION)


def bit_dropout(input: Tensor, p: float) -> Tensor:
    """Dropout (Srivastava et al. 2014), with `p` rounded to 1/65536 on a CPU.

    Args:
        input: of any shape.
        p: the probability of a 0.
    """
    dropped = round(p * LEVELS)
    if input.device.type != "cpu" or not 0 < dropped < LEVELS:
        return nn.functional.dropout(input, p)
    return BitMask.apply(input, dropped)


class BitDropout(nn.Dropout):
    """`nn.Dropout` with `bit_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return bit_dropout(input, self.p) if self.training else input


class BitMask(torch.autograd.Function):
    """`dropped` of 65536 elements become 0; the others grow, so that the mean stays."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, dropped: int) -> Tensor:
        bits = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        drawn = bits.view(torch.int16)[: input.numel()].view(input.shape)
        mask = torch.empty(input.shape, dtype=input.dtype)
        torch.ge(drawn, dropped - LEVELS // 2, out=mask)
        mask *= LEVELS / (LEVELS - dropped)
        ctx.save_for_backward(mask)
        return input * mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


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
    """transformers' sdpa attention; with dropout on a CPU, the same in single operations.

    Args:
        module: the attention.
        query: (B, N, Q, D)
        key: (B, N, K, D)
        value: (B, N, K, D)
        attention_mask: (B, 1, Q, K), True where a query attends to a key; None: everywhere.
        dropout: of the attention's probabilities.
        scaling: of the products; None: 1 / sqrt(D).
        kwargs: what else transformers' function takes.

    Returns:
        (B, Q, N, D)
    """
    plain = key.shape == value.shape and key.shape[1] == query.shape[1]
    boolean = attention_mask is None or attention_mask.dtype == torch.bool
    biased = kwargs.get("position_bias") is not None
    if not dropout or query.device.type != "cpu" or not plain or not boolean or biased:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    products = (query * scaling) @ key.transpose(-1, -2)
    if attention_mask is not None:
        # Not -inf: a padded query may attend to nothing.
        products = products.masked_fill(~attention_mask, torch.finfo(products.dtype).min)
    found = bit_dropout(products.softmax(-1), dropout) @ value
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
