import copy

import pytest
import torch
from transformers import (
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from helpers.tiny import tiny_config
from thaw.encoder.first_token import first_token_only

ROBERTA = RobertaConfig(
    vocab_size=300,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=66,
)
IDS = torch.randint(5, 300, (4, 12), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(12) < torch.tensor([[12], [9], [5], [3]])).long()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK)], ids=["padded", "unpadded"])
@pytest.mark.parametrize(
    ("model_class", "config"),
    [(BertForSequenceClassification, tiny_config()), (RobertaForSequenceClassification, ROBERTA)],
    ids=["bert", "roberta"],
)
def test_logits_and_gradients_are_those_of_the_whole_block(model_class, config, mask, attention):
    torch.manual_seed(0)
    whole = model_class._from_config(config, attn_implementation=attention).eval()
    short = copy.deepcopy(whole)
    assert first_token_only(short)
    labels = torch.tensor([0, 1, 1, 0])
    for model in (whole, short):
        model(input_ids=IDS, attention_mask=mask, labels=labels).loss.backward()
    with torch.no_grad():
        pair = [m(input_ids=IDS, attention_mask=mask).logits for m in (whole, short)]
    torch.testing.assert_close(*pair)
    for (name, a), b in zip(whole.named_parameters(), short.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_weights_keep_their_names():
    model = BertForSequenceClassification(tiny_config())
    names = list(model.state_dict())
    first_token_only(model)
    assert list(model.state_dict()) == names


def test_an_unknown_block_stays_as_it_was():
    config = DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    model = DistilBertForSequenceClassification(config)
    assert not first_token_only(model)
