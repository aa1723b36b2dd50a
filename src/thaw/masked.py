"""Logits at masked positions alone.

A head of 30,522 logits costs MiniLM more than half of a step, and its memory, although six of seven
are never read. Every encoder of transformers hands its head the last hidden state, and every head
works position by position; so the state is cut down to the masked positions on its way there.

Shapes: B batch, T tokens, H width, N masked tokens, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thaw.errors import ThawError

MASK = "[MASK]"  # how a mask is written in texts, whatever the tokenizer's own


def masked_logits(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], positions: Tensor
) -> Tensor:
    """The head's logits at some positions: (N, V).

    Args:
        model: with a head for masked language modelling.
        inputs: `input_ids` (B, T) and what else the model takes.
        positions: (N,) in the flattened batch, B * T.
    """

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


def tie_head(model: PreTrainedModel, fresh: Sequence[str]) -> bool:
    """Ties a fresh head's decoder to the embeddings.

    Args:
        model: as loaded.
        fresh: names of the parameters that the checkpoint lacks.

    Returns:
        Whether the head is fresh.
    """
    decoder = model.get_output_embeddings()
    names = {id(p): name for name, p in model.named_parameters(remove_duplicate=False)}
    head = [name for name in fresh if not name.startswith(f"{model.base_model_prefix}.")]
    if decoder is not None and names.get(id(decoder.weight)) in head:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    return bool(head)


def with_mask(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A text with the tokenizer's own mask token where [MASK] is written.

    Raises:
        ThawError: there is none.
    """
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
    top: int = 5,
) -> list[list[list[tuple[str, float]]]]:
    """The likeliest tokens for every mask.

    Args:
        model: in eval mode.
        tokenizer: the model's.
        texts: with the tokenizer's mask token in them, see `with_mask`.
        max_tokens: a longer text is cut.
        top: how many tokens.

    Returns:
        For each text, for each of its masks, `top` pairs of token and probability.

    Raises:
        ThawError: a text's mask lies beyond `max_tokens`.
    """
    batch = tokenizer(
        list(texts), truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
    )
    places = batch["input_ids"].flatten() == tokenizer.mask_token_id
    counts = places.view(len(texts), -1).sum(1).tolist()
    for text, count in zip(texts, counts, strict=True):
        if not count:
            raise ThawError(
                f"{text[:60]!r}...: its {MASK} comes after the first {max_tokens} tokens."
            )
    with torch.inference_mode():
        logits = masked_logits(
            model, batch.to(model.device), places.nonzero()[:, 0].to(model.device)
        )
        values, ids = logits.float().softmax(-1).topk(top)
    found = [
        [(str(tokenizer.decode([i])).strip(), p) for i, p in zip(row, ps, strict=True)]
        for row, ps in zip(ids.tolist(), values.tolist(), strict=True)
    ]
    ends = torch.tensor([0, *counts]).cumsum(0).tolist()
    return [found[a:b] for a, b in pairwise(ends)]
