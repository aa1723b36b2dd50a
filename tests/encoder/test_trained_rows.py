import copy

import pytest
import torch
from datasets import Dataset
from transformers import BertForMaskedLM, BertForSequenceClassification

from helpers.tiny import tiny_config
from thaw.encoder.trained_rows import train_rows

TEXTS = [[2, 7, 9, 3], [2, 11, 3]]
OTHER = torch.tensor([[2, 8, 7, 3]])


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return BertForSequenceClassification(tiny_config())


@pytest.fixture
def thin(plain):
    model = copy.deepcopy(plain)
    train_rows(model, Dataset.from_dict({"input_ids": TEXTS}), [0, 4])
    return model


def train(model, steps=3):
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0
    )
    ids = torch.tensor([TEXTS[0], [*TEXTS[1], 0]])
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        loss = model(
            input_ids=ids, attention_mask=(ids > 0).long(), labels=torch.tensor([0, 1])
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_losses_and_weights_are_those_of_the_whole_embedding(plain, thin):
    assert train(plain) == pytest.approx(train(thin), abs=1e-6)
    torch.testing.assert_close(dict(thin.state_dict()), dict(plain.state_dict()))


def test_rows_of_training_texts_padding_and_special_tokens_train_alone(plain, thin):
    assert thin.get_input_embeddings().tokens.tolist() == [0, 2, 3, 4, 7, 9, 11]
    assert sum(p.numel() for p in thin.parameters()) < sum(p.numel() for p in plain.parameters())


def test_tokens_that_no_training_text_has_are_predicted_with_their_own_rows(plain, thin):
    for model in (plain, thin):
        train(model)
        model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(thin(OTHER).logits, plain(OTHER).logits)


def test_a_token_that_would_train_without_a_row_is_an_error(thin):
    with pytest.raises(RuntimeError, match=r"tokens \[8\] are in no training text"):
        thin(OTHER)


def test_a_state_dictionary_is_that_of_the_embedding(plain, thin):
    train(plain)
    thin.load_state_dict(plain.state_dict())
    assert thin.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(dict(thin.state_dict()), dict(plain.state_dict()), atol=0, rtol=0)
    thin.set_input_embeddings(thin.get_input_embeddings().whole())
    torch.testing.assert_close(dict(thin.state_dict()), dict(plain.state_dict()), atol=0, rtol=0)


def test_moments_of_the_rows_are_spread_over_the_whole_weight_and_gathered_again(thin):
    moments = torch.rand(thin.get_input_embeddings().weight.shape)
    whole = thin.get_input_embeddings().spread(moments)
    assert whole.shape == (thin.config.vocab_size, thin.config.hidden_size)
    assert whole.sum() == pytest.approx(moments.sum().item(), rel=1e-5)
    assert torch.equal(thin.get_input_embeddings().gather(whole), moments)
    assert thin.get_input_embeddings().spread(step := torch.tensor(3.0)) is step


def test_a_frozen_embedding_and_one_that_decodes_too_stay_as_they_are(plain):
    texts = Dataset.from_dict({"input_ids": TEXTS})
    plain.get_input_embeddings().requires_grad_(False)
    assert train_rows(plain, texts, []) is None
    assert train_rows(BertForMaskedLM(tiny_config()), texts, []) is None
