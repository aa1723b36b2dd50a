"""A word embedding of which only the rows that training texts have are trained.

The other rows get no gradient, but an optimizer reads and writes them, their gradients and their
moments in every step: the word embedding is half of MiniLM, and more of a multilingual model.

Shapes: V size of the vocabulary, R number of trained rows, H width.
"""

from typing import Any

import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel


class TrainedRows(nn.Module):
    """Stands in for a word embedding while it trains.

    Its state dictionary is that of the embedding, with the whole weight (V, H).

    Args:
        embedding: the word embedding.
        tokens: ids of the tokens (R) whose rows train.
    """

    def __init__(self, embedding: nn.Embedding, tokens: Tensor) -> None:
        super().__init__()
        self.held = [embedding]  # in a list: its weight is no parameter of this module
        self.tokens = tokens
        self.weight = nn.Parameter(embedding.weight.detach()[tokens])
        self.places = torch.full((embedding.num_embeddings,), -1)
        self.places[tokens] = torch.arange(len(tokens))
        pad = embedding.padding_idx
        self.pad = None if pad is None else int(self.places[pad])

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the rows (..., H) of tokens (...).

        Raises:
            RuntimeError: a token in training has no row that trains.
        """
        places = self.places[ids]
        rows = F.embedding(places.clamp(min=0), self.weight, self.pad)
        if not (unknown := places < 0).any():
            return rows
        if torch.is_grad_enabled():
            raise RuntimeError(f"tokens {ids[unknown].unique().tolist()} are in no training text")
        return torch.where(unknown[..., None], self.held[0].weight[ids].to(rows.dtype), rows)

    def whole(self) -> nn.Embedding:
        """Returns the embedding with the trained rows in their places."""
        embedding = self.held[0].to(self.weight.dtype)
        with torch.no_grad():
            embedding.weight[self.tokens] = self.weight
        return embedding

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.whole().weight.detach().clone()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.held[0]._load_from_state_dict(state_dict, prefix, *rest)
        with torch.no_grad():
            self.weight.copy_(self.held[0].weight[self.tokens])

    def spread(self, values: Any) -> Any:
        """Returns an optimizer's moments of the weight as those of the whole weight; of anything
        else, the same."""
        if not isinstance(values, Tensor) or values.shape != self.weight.shape:
            return values
        return values.new_zeros(self.held[0].weight.shape).index_copy(0, self.tokens, values)

    def gather(self, values: Any) -> Any:
        """Returns the reverse of `spread`."""
        if not isinstance(values, Tensor) or values.shape != self.held[0].weight.shape:
            return values
        return values[self.tokens]


def train_rows(model: PreTrainedModel, texts: Dataset, special: list[int]) -> TrainedRows | None:
    """Puts `TrainedRows` in the place of a model's word embedding and returns it, if the embedding
    trains and nothing else has its weight, such as the decoder of pretraining.

    Args:
        model: model with its head.
        texts: encoded training texts, with the column `input_ids`.
        special: ids of the tokens that a batch may have besides, such as padding.
    """
    embedding: Any = model.get_input_embeddings()
    users = [m for m in model.modules() if getattr(m, "weight", None) is embedding.weight]
    plain = type(embedding) is nn.Embedding and embedding.max_norm is None
    if not plain or len(users) > 1 or not embedding.weight.requires_grad:
        return None
    found = pc.unique(pc.list_flatten(texts.data.column("input_ids"), recursive=True))
    pad = [] if embedding.padding_idx is None else [embedding.padding_idx]
    tokens = torch.tensor([*found.to_pylist(), *special, *pad]).unique()
    model.set_input_embeddings(rows := TrainedRows(embedding, tokens))
    return rows
