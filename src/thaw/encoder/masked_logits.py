"""Computes logits at masked positions alone, and never all of them at once.

A head of 30,522 logits takes MiniLM more than half of a step, although six of seven are never read.
Heads of transformers work position by position, so only the last hidden states at masked positions
are passed to the head. The loss computes the decoder in pieces and keeps gradients, not logits.

Shapes: B batch, T tokens, H width, N masked tokens, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thaw.encoder.replaced_forwards import replaced_forwards
from thaw.errors import ThawError

MASK = "[MASK]"  # how a mask is written in texts, whatever the tokenizer's own
PIECE = 256  # positions: 31 MB of logits with BERT's vocabulary
TOP = 5  # tokens that fill a mask


def masked_logits(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], positions: Tensor
) -> Tensor:
    """Returns the logits (N, V) of a head for masked language modelling at some positions (N,) of
    the flattened batch, B * T; `inputs` are `input_ids` (B, T) and what else the model takes."""

    def cut(encoder: nn.Module, arguments: tuple, output: Any) -> Any:
        # (B, T, H) to (1, N, H)
        state = output.last_hidden_state.flatten(0, 1).index_select(0, positions)
        output["last_hidden_state"] = state[None]
        return output

    hook = model.base_model.register_forward_hook(cut)
    try:
        return model(**inputs).logits[0]
    finally:
        hook.remove()


def masked_loss(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], positions: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the sum of the cross-entropies at some positions, whose tokens are `labels` (N,), and
    the number of right guesses; for the other arguments see `masked_logits`."""
    decoder = model.get_output_embeddings()
    reached = []

    def passed_on(states: Tensor) -> Tensor:
        reached.append(True)
        return states

    # Autocast chooses types operation by operation, which a function of our own would hide.
    by_hand = type(decoder) is nn.Linear and not torch.is_autocast_enabled(labels.device.type)
    with replaced_forwards({decoder: passed_on} if by_hand else {}):
        states = masked_logits(model, inputs, positions)
    if reached:  # else the head multiplies with the decoder's weight by itself
        return DecoderLoss.apply(states, decoder.weight, decoder.bias, labels)
    logits = states.float()
    return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(-1) == labels).sum()


class DecoderLoss(torch.autograd.Function):
    """Computes the cross-entropy of a linear decoder and its gradients in one pass, piece by piece.

    It takes as many operations as two passes, and keeps no N * V logits between them. torch 2.13
    has `F.linear_cross_entropy`, which takes more memory: at width 384 and 192 positions of BERT's
    vocabulary (one thread, float32), chunks of 256 take 0.95 of the time but 152 instead of 60 MiB,
    and the chunks it chooses itself take 7 times as long. In bf16-mixed, chunks take 2.3 times as
    long as the plain decoder and loss. It does not count right guesses.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        needs = ctx.needs_input_grad
        grads = [
            torch.zeros_like(x) if x is not None and need else None
            for x, need in zip((states, weight, bias), needs, strict=False)
        ]
        total = states.new_zeros(())
        right = torch.zeros((), dtype=torch.int64, device=states.device)
        for begin in range(0, len(states), PIECE):
            part, wanted = states[begin : begin + PIECE], labels[begin : begin + PIECE, None]
            logits = F.linear(part, weight, bias)
            norm = logits.logsumexp(1, keepdim=True)
            total += (norm - logits.gather(1, wanted)).sum()
            right += (logits.argmax(1, keepdim=True) == wanted).sum()
            if any(needs):
                # d loss / d logits: the softmax, less 1 at the label.
                slope = logits.sub_(norm).exp_()
                slope.scatter_add_(1, wanted, torch.full_like(norm, -1))
                if grads[0] is not None:
                    grads[0][begin : begin + PIECE] = slope @ weight
                if grads[1] is not None:
                    grads[1].addmm_(slope.t(), part)
                if grads[2] is not None:
                    grads[2] += slope.sum(0)
        ctx.grads = grads
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g * slope for g in ctx.grads), None


def tie_head(model: PreTrainedModel, fresh: Sequence[str]) -> bool:
    """Ties a fresh head's decoder to the embeddings, and returns whether the head is fresh."""
    decoder = model.get_output_embeddings()
    names = {id(p): name for name, p in model.named_parameters(remove_duplicate=False)}
    head = [name for name in fresh if not name.startswith(f"{model.base_model_prefix}.")]
    if decoder is not None and names.get(id(decoder.weight)) in head:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return bool(head)


def with_mask(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Returns a text with the tokenizer's own mask token where [MASK] is written; raises ThawError
    if there is none."""
    own = str(tokenizer.mask_token)
    text = text.replace(MASK, own)
    if own not in text:
        raise ThawError(f"{text!r} has no {MASK}: put it where a word is to be filled in.")
    return text


def fill(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
) -> list[list[list[tuple[str, float]]]]:
    """Returns the likeliest tokens for every mask: for each text, for each of its masks, `TOP`
    pairs of token and probability.

    Args:
        model: in eval mode.
        tokenizer: the model's.
        texts: with the tokenizer's mask token in them, see `with_mask`.
        max_tokens: a longer text is cut.

    Raises:
        ThawError: a text's mask lies beyond `max_tokens`.
    """
    batch = tokenizer(
        list(texts), truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
    )
    is_mask = batch["input_ids"].flatten() == tokenizer.mask_token_id
    counts = is_mask.view(len(texts), -1).sum(1).tolist()
    for text, count in zip(texts, counts, strict=True):
        if not count:
            raise ThawError(
                f"{text[:60]!r}...: its {MASK} comes after the first {max_tokens} tokens."
            )
    with torch.inference_mode():
        logits = masked_logits(
            model, batch.to(model.device), is_mask.nonzero()[:, 0].to(model.device)
        )
        values, ids = logits.float().softmax(-1).topk(TOP)
    found = [
        [(str(tokenizer.decode([i])).strip(), p) for i, p in zip(row, ps, strict=True)]
        for row, ps in zip(ids.tolist(), values.tolist(), strict=True)
    ]
    ends = torch.tensor([0, *counts]).cumsum(0).tolist()
    return [found[a:b] for a, b in pairwise(ends)]
