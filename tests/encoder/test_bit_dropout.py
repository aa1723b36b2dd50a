import copy

import pytest
import torch
from torch import nn
from transformers import AutoModel, BertForSequenceClassification, BertModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from helpers.architectures import ARCHITECTURES
from helpers.tiny import tiny_config
from thaw.encoder.bit_dropout import ATTENTION, BitDropout, attend, bit_dropout, use_bits


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_fraction_p_is_dropped_and_the_rest_is_scaled_to_keep_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1003)
    y = BitDropout(p)(x)
    assert sorted(y.unique().tolist()) == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=0.002)
    assert y.double().mean().item() == pytest.approx(1, abs=0.005)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (BitDropout(0.5)(torch.ones(1_000_000)) == 0).double()
    for lag in range(1, 9):
        assert torch.corrcoef(torch.stack([dropped[:-lag], dropped[lag:]]))[0, 1].abs() < 0.005


def test_the_gradient_is_that_of_what_was_kept():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)
    y = BitDropout(0.3)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_the_seed_gives_the_same_mask_and_the_next_call_another():
    x = torch.ones(100)
    torch.manual_seed(1)
    one, two = BitDropout(0.5)(x), BitDropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(one, BitDropout(0.5)(x))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropping_nothing_or_everything_equals_torch(p):
    x = torch.randn(9)
    assert torch.equal(BitDropout(p)(x), nn.functional.dropout(x, p))


def test_evaluation_drops_nothing():
    x = torch.randn(9)
    assert torch.equal(BitDropout(0.5).eval()(x), x)


def test_a_model_keeps_its_probabilities():
    model = BertForSequenceClassification(tiny_config())
    before = {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    use_bits(model)
    after = {name: m.p for name, m in model.named_modules() if isinstance(m, BitDropout)}
    assert before == after != {}


@pytest.fixture
def heads():
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 2, 5, 4, requires_grad=True) for _ in range(3))
    mask = torch.ones(3, 1, 5, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    return query, key, value, mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_hardly_any_dropout_is_transformers_own(heads, masked):
    query, key, value, mask = heads
    mask = mask if masked else None
    torch.manual_seed(0)
    ours, _ = attend(nn.Module(), query, key, value, mask, dropout=1 / 2**16, is_causal=False)
    theirs, _ = sdpa_attention_forward(nn.Module(), query, key, value, mask, is_causal=False)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    slope = torch.randn_like(ours)
    found, wanted = (torch.autograd.grad(out, (query, key, value), slope) for out in (ours, theirs))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_attention_drops_probabilities(heads):
    query, key, value, mask = heads
    torch.manual_seed(1)
    ours, _ = attend(nn.Module(), query, key, value, mask, dropout=0.5, scaling=0.3)
    torch.manual_seed(1)
    products = (query @ key.transpose(2, 3) * 0.3).masked_fill(~mask, -torch.inf)
    wanted = (bit_dropout(products.softmax(-1), 0.5) @ value).transpose(1, 2)
    torch.testing.assert_close(ours, wanted)
    slope = torch.randn_like(ours)
    ours, wanted = (torch.autograd.grad(y, (query, key, value), slope) for y in (ours, wanted))
    torch.testing.assert_close(ours, wanted)


def test_attention_of_half_tensors_under_autocast_is_that_of_float32(heads):
    *states, mask = heads
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        halves = [x.detach().bfloat16().to(dtype).requires_grad_() for x in states]
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            out, _ = attend(nn.Module(), *halves, mask, dropout=0.5)
        assert out.dtype == dtype
        out.float().square().sum().backward()
        found.append([out, *(x.grad for x in halves)])
    wanted = [x.bfloat16() for x in found[0]]
    torch.testing.assert_close(found[1], wanted, atol=0.03, rtol=0.02)


def test_a_query_that_attends_to_nothing_does_no_harm(heads):
    query, key, value, mask = heads
    mask[2, :, 4] = False
    attend(nn.Module(), query, key, value, mask, dropout=0.5)[0][:, :4].sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))


def test_a_models_attention_draws_bits_and_is_saved_as_it_was(tmp_path):
    model = BertForSequenceClassification(tiny_config())
    use_bits(model)
    assert model.bert.encoder.layer[0].attention.self.config._attn_implementation == ATTENTION
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_encoder_trains_as_with_its_eager_attention(name, monkeypatch):
    torch.manual_seed(0)
    ours = AutoModel.from_config(ARCHITECTURES[name]).train()
    eager = copy.deepcopy(ours)
    for model in (ours, eager):
        use_bits(model)
    eager.set_attn_implementation("eager")
    ids = torch.randint(5, 300, (3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [6], [3]])).long()
    slope = torch.randn(3, 9, 32) * mask[..., None]
    torch.manual_seed(1)
    states = ours(input_ids=ids, attention_mask=mask).last_hidden_state
    with monkeypatch.context() as patch:
        # p=0: bit_dropout itself asks torch's.
        patch.setattr(
            nn.functional, "dropout", lambda x, p, training=True: bit_dropout(x, p) if p else x
        )
        torch.manual_seed(1)
        wanted = eager(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(states * slope, wanted * slope, atol=1e-5, rtol=1e-4)
    for y in (states, wanted):
        (y * slope).sum().backward()
    for (key, a), b in zip(ours.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-3, msg=key)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_compiled_block_trains_with_dropout(attention):
    config = tiny_config(hidden_dropout_prob=0.5)
    config._attn_implementation = attention
    model = BertModel(config, add_pooling_layer=False).train()
    use_bits(model)
    model.encoder.layer[0].compile(dynamic=True, backend="aot_eager")
    for length in (5, 9):
        ids = torch.randint(5, 20, (3, length))
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.sum().backward()
    weight = model.encoder.layer[0].output.dense.weight
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    model.eval()
    whole = [model(input_ids=ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*whole)
