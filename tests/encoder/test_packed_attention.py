"""Packed batches: the numbers of padded ones, no text that sees another, no wait for a GPU."""

import copy
import importlib
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from helpers.architectures import ARCHITECTURES, SIZE
from helpers.tiny import save_tiny, tiny_config
from thaw.encoder.bit_dropout import ATTENTION, use_bits
from thaw.encoder.first_token import FirstTokenLayer, first_token_only
from thaw.encoder.packed_attention import (
    HALF,
    LAST,
    PACKED,
    Layout,
    attend_within,
    flash_attention_error,
    packed,
    text_by_text,
    why_not_packed,
)
from thaw.errors import ThawError
from thaw.tasks.base import EncoderTask
from thaw.tasks.mlm import MaskedLanguageModel
from thaw.tasks.ner import TokenClassification
from thaw.tasks.sequence import SequenceClassification
from thaw.tasks.setfit import SetFit
from thaw.training.callbacks import timer, word_embedding
from thaw.training.callbacks.nonfinite_guard import NonFiniteGuard
from thaw.training.callbacks.timer import TrainingTimer

pytestmark = pytest.mark.no_figures

# THAW_TEST_GPU=1 python -m pytest tests/encoder/test_packed_attention.py
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with flash attention")
CONFIGS = ARCHITECTURES | {
    "camembert": transformers.CamembertConfig(**SIZE),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZE),
}
CLASSES = {
    "bert": "Bert",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "modernbert": "ModernBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
LENGTHS = np.array([[12], [7], [4], [4], [2]])
RIGHT = np.arange(12) < LENGTHS
LEFT = RIGHT[:, ::-1].copy()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A random encoder of each architecture, whose attention is far from uniform."""
    root = tmp_path_factory.mktemp("packed")
    for name, kind in CLASSES.items():
        config = copy.deepcopy(CONFIGS[name])
        config.pad_token_id, config.initializer_range = 0, 0.3
        save_tiny(f"{kind}Model", config, root / name)
    return root


def make(objective, checkpoint, **options):
    """A task outside of a Trainer."""
    torch.manual_seed(0)
    if objective == "mlm":
        task = MaskedLanguageModel(checkpoint, **options)
    elif objective == "ner":
        task = TokenClassification(checkpoint, ["O", "B-PER", "I-PER"], **options)
    elif objective == "setfit":
        task = SetFit(checkpoint, ["neg", "pos"], **options)
    else:
        task = SequenceClassification(checkpoint, ["neg", "pos"], **options)
    task.log = lambda *args, **options: None
    state = SimpleNamespace(fn="fit")
    task._trainer = SimpleNamespace(world_size=1, state=state, optimizers=[])
    return task


def batch_of(objective, real=RIGHT):
    """A padded batch, as the data gives it."""
    random = torch.Generator().manual_seed(0)
    mask = torch.from_numpy(real).long()
    ids = torch.randint(5, 300, real.shape, generator=random) * mask
    batch = {"input_ids": ids, "attention_mask": mask, "row": torch.arange(len(real))}
    if objective == "mlm":
        return batch | {"words": torch.arange(real.shape[1]).where(mask.bool(), -1)}
    if objective == "ner":
        labels = torch.randint(0, 3, real.shape, generator=random)
        return batch | {"labels": labels.where(mask.bool(), -100), "word": ids}
    return batch | {"labels": torch.arange(len(real)) % 2}


def step(task, batch, packs, device="cpu"):
    """A training step's loss, with the gradients in the task."""
    task.packs = packs
    if isinstance(task, MaskedLanguageModel):
        batch = task.mask(batch, seed=0, epoch=0)
    batch = EncoderTask.on_before_batch_transfer(task, dict(batch), 0)
    assert ("real" in batch) == (packs or device != "cpu")
    moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    task.zero_grad()
    loss = task.training_step(moved, 0)
    loss.backward()
    return loss


def same_step(task, batch):
    task.eval()  # no dropout
    losses, grads = [], []
    for packs in (False, True):
        losses.append(step(task, batch, packs))
        grads.append({n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0], atol=1e-6, rtol=1e-5)
    assert grads[0].keys() == grads[1].keys()
    assert max(g.abs().max() for g in grads[0].values()) > 1e-3
    for name, wanted in grads[0].items():
        torch.testing.assert_close(grads[1][name], wanted, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("objective", ["sequence", "ner", "mlm", "setfit"])
@pytest.mark.parametrize("name", CLASSES)
def test_loss_and_gradients_are_those_of_a_padded_batch(name, objective, checkpoints):
    task = make(objective, checkpoints / name)
    if objective == "sequence":  # its last block computes the first token alone, where it can
        last = task.model.base_model.get_submodule(LAST[name])
        short = isinstance(last.layer[-1], FirstTokenLayer) if hasattr(last, "layer") else False
        assert short == (name in ("bert", "roberta"))
    same_step(task, batch_of(objective))


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_classifier_whose_last_block_is_whole_is_the_same_packed(name, checkpoints, monkeypatch):
    monkeypatch.setattr("thaw.tasks.sequence.first_token_only", lambda model: False)
    same_step(make("sequence", checkpoints / name), batch_of("sequence"))


def test_windows_of_texts_run_packed_in_chunks(checkpoints):
    task = make("sequence", checkpoints / "bert", window_stride=2, windows_at_once=2)
    labels = {"labels": torch.tensor([1, 0]), "windows": torch.tensor([3, 2])}
    same_step(task, batch_of("sequence") | labels)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("real", [LEFT, np.ones_like(RIGHT)], ids=["left", "none"])
def test_padding_may_be_on_the_left_or_nowhere(name, real, checkpoints):
    same_step(make("ner", checkpoints / name), batch_of("ner", real))


def test_unpacking_restores_what_was_packed():
    layout = Layout(RIGHT, torch.device("cpu"))
    padded = torch.randn(5, 12, 3) * torch.from_numpy(RIGHT)[..., None]
    row = layout.pack(padded)
    assert row.shape == (1, LENGTHS.sum(), 3)
    assert torch.equal(layout.unpack(row), padded)
    assert layout.ends.tolist() == [0, 12, 19, 23, 27, 29]
    assert layout.ends.dtype == torch.int32
    assert layout.positions[0, 12:19].tolist() == list(range(7))
    assert Layout(LEFT, torch.device("cpu"), 1).positions[0, 12:19].tolist() == list(range(2, 9))


def saw_others(model):
    """Whether a text's output changes with the others, or its gradient reaches their tokens."""
    ids = torch.arange(5 * 12).view(5, 12) + 10  # no two texts share a token
    changed = ids.clone()
    changed[[0, 2, 3, 4]] += 100

    def row(ids):
        with packed(model, RIGHT):
            return model(input_ids=ids, attention_mask=torch.from_numpy(RIGHT).long()).logits[1]

    model.zero_grad()
    out = row(ids)
    out.sum().backward()
    moved = model.get_input_embeddings().weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert set(ids[1, :7].tolist()) <= set(moved)
    return not torch.equal(out, row(changed)) or set(moved) > set(ids[1, :7].tolist())


def leak(module, query, key, value, attention_mask, **options):
    """Packed rows in an attention that does not know of lengths."""
    return sdpa_attention_forward(module, query, key, value, None, is_causal=False)


@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_no_text_attends_to_another(name, shortened, checkpoints, monkeypatch):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoints / name)
    use_bits(model.eval())
    if shortened and not first_token_only(model):
        pytest.skip("its last block is always whole")
    assert not saw_others(model)
    monkeypatch.setitem(AttentionInterface._global_mapping, PACKED, leak)
    assert saw_others(model)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_fraction_p_of_the_attention_is_dropped(p, device):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 8000, 10, 8).to(device, torch.bfloat16)
    ends = torch.arange(11, dtype=torch.int32, device=device)
    # Texts of one token: their weights are 1.
    out, _ = attend_within(
        nn.Module(),
        query,
        key,
        torch.ones_like(key),
        None,
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=1,
        max_length_k=1,
        dropout=p,
    )
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=0.005)
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=5e-3)


@pytest.mark.parametrize("objective", ["sequence", "ner", "mlm", "setfit"])
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("name", CLASSES)
def test_nothing_in_a_step_waits_for_the_device(name, packs, objective, checkpoints, monkeypatch):
    """On `meta` a tensor has a shape and no numbers: what would wait for a GPU to say one fails.
    The flash attention's own shapes are checked, too, forward and backward."""
    task = make(objective, checkpoints / name)
    # Autocast does not know the device.
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: torch.enable_grad())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: True)
    loss = step(task.to(torch.bfloat16).to("meta"), batch_of(objective), packs, "meta")
    assert loss.shape == ()
    grads = [p.grad for n, p in task.named_parameters() if ".layer" in n]
    assert len(grads) > 10
    assert all(grad is not None for grad in grads)


def test_a_wait_for_the_device_is_noticed(checkpoints, monkeypatch):
    task = make("ner", checkpoints / "bert").to("meta")
    monkeypatch.setitem(transformers.AttentionMaskInterface._global_mapping, ATTENTION, sdpa_mask)
    with pytest.raises(RuntimeError, match="meta"):
        step(task, batch_of("ner"), False, "meta")


class Asked(TorchDispatchMode):
    """Counts operations; the names in `WAITS` hand a tensor's numbers to Python."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", ["sequence", "mlm", "setfit"])
def test_no_part_of_a_training_batch_asks_for_a_number(run, objective, monkeypatch):
    """Logging, clipping and the optimizer included, apart from the steps that log."""
    asked = Asked()

    class Watched(TrainingTimer):
        def on_train_batch_start(self, *args):
            asked.__enter__()

        def on_train_batch_end(self, *args):
            asked.__exit__(None, None, None)
            super().on_train_batch_end(*args)

    importlib.import_module("thaw.train")  # else it would keep the class that it finds
    monkeypatch.setattr(timer, "TrainingTimer", Watched)
    # On a CPU these look at every step: nothing waits there.
    monkeypatch.setattr(NonFiniteGuard, "on_train_batch_end", lambda *args: None)
    monkeypatch.setattr(word_embedding, "train_rows", lambda *args: None)
    run(
        f"task={objective}",
        "trainer.packed=true",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1000",
        "trainer.enable_progress_bar=false",
        "callbacks.checkpoint=null",
    )
    assert asked.seen["addmm"] > 50
    assert not {name: asked.seen[name] for name in Asked.WAITS if asked.seen[name]}


@pytest.fixture(scope="session")
def no_dropout(tmp_path_factory):
    """A random BERT without dropout: what is left of randomness is the order of batches."""
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return save_tiny("BertModel", config, tmp_path_factory.mktemp("packed") / "no-dropout")


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


def same_metrics(one, two):
    one, two = metrics_of(one), metrics_of(two)
    names = [name for name in one if name.startswith(("val/", "test/"))]
    assert len(names) > 3
    for name in names:
        assert one[name] == pytest.approx(two[name], abs=1e-4), name


@pytest.mark.parametrize("freeze", ["none", "last"])
def test_a_packed_run_predicts_what_a_padded_one_does(run, no_dropout, freeze, caplog):
    overrides = [f"model.checkpoint={no_dropout}", f"freeze={freeze}", "trainer.max_epochs=1"]
    with caplog.at_level("INFO"):
        one = run(*overrides, "trainer.packed=true", name="packed")
        assert "batches are packed" in caplog.text
        assert ("run once" in caplog.text) == (freeze == "last")
        two = run(*overrides, name="padded")
    assert "batches are padded: on cpu batches of similar length are faster" in caplog.text
    same_metrics(one, two)
    rows = [pq.read_table(d / "predictions.parquet").to_pylist() for d in (one, two)]
    for ours, theirs in zip(*rows, strict=True):
        assert ours["text"] == theirs["text"]
        assert ours["probability/pos"] == pytest.approx(theirs["probability/pos"], abs=1e-4)


def test_a_packed_run_tags_what_a_padded_one_does(run_ner, no_dropout):
    overrides = [f"model.checkpoint={no_dropout}", "trainer.max_epochs=1"]
    overrides += ["data.max_tokens=16"]  # long sentences are cut into windows
    one = run_ner(*overrides, "trainer.packed=true", name="packed")
    two = run_ner(*overrides, "trainer.packed=false", name="padded")
    same_metrics(one, two)
    ours, theirs = ((d / "predictions.jsonl").read_text() for d in (one, two))
    assert ours == theirs


def test_a_model_that_cannot_run_packed_says_why(run, tmp_path):
    config = copy.deepcopy(ARCHITECTURES["mpnet"])
    directory = save_tiny("MPNetModel", config, tmp_path / "mpnet")
    with pytest.raises(
        ThawError,
        match=r"trainer\.packed=true: thaw packs bert, .*, not mpnet\. "
        r"trainer\.packed=auto packs where it can\.",
    ):
        run(f"model.checkpoint={directory}", "trainer.packed=true")


def test_each_architecture_that_packs_is_tested_here():
    assert CLASSES.keys() == LAST.keys()


def test_flash_attention_wants_a_recent_gpu_half_precision_and_usual_heads(monkeypatch):
    model = transformers.BertForSequenceClassification(tiny_config())
    use_bits(model)
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(
        "thaw.encoder.packed_attention.flash_attention_error", lambda device, dtype: ""
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "Tesla T4 has no flash attention" in why_not_packed(model, cuda, "16-mixed")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert "trainer.precision=bf16-mixed, not 32-true" in why_not_packed(model, cuda, "32-true")
    assert [why_not_packed(model, cuda, precision) for precision in HALF] == [""] * 4
    model.config.num_attention_heads = 16
    assert "no heads of 2" in why_not_packed(model, cuda, "bf16-mixed")
    model.set_attn_implementation("eager")
    assert "the attention is eager, not sdpa" in why_not_packed(model, cuda, "bf16-mixed")


def test_flash_attention_is_tried_before_it_is_used(monkeypatch):
    def right(query, key, value, lengths, dropout, scaling, window):
        return text_by_text(nn.Module(), query, key, value, lengths[:2], 0.0, scaling, window)

    def mixing(query, key, value, lengths, dropout, scaling, window):
        return right(query, key, value, (torch.tensor([0, 5]),) * 2, 0.0, scaling, window)

    def blind(query, key, value, lengths, dropout, scaling, window):
        return right(query, key, value, lengths, dropout, scaling, None)

    def stuck(query, key, value, lengths, dropout, scaling, window):
        return right(query, key.detach(), value, lengths, dropout, scaling, window) + 0 * key.sum()

    def absent(*args):
        raise NotImplementedError("no kernel\nand a page of advice")

    said = {}
    for kernel in (right, mixing, blind, stuck, absent):
        flash_attention_error.cache_clear()
        monkeypatch.setattr("thaw.encoder.packed_attention.flash", kernel)
        said[kernel.__name__] = flash_attention_error(torch.device("cpu"), torch.bfloat16)
    flash_attention_error.cache_clear()
    other = "the flash attention of cpu gives other numbers than sdpa"
    assert said == {
        "right": "",
        "mixing": other,
        "blind": other,
        "stuck": other,
        "absent": "the flash attention of cpu fails: no kernel",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [[], ["trainer.packed=true"], ["freeze=last"], ["freeze=lora", "freeze.dropout=0.0"]],
    ids=["whole", "packed", "frozen", "lora"],
)
def test_a_compiled_run_predicts_what_another_does(run, no_dropout, options):
    options = [f"model.checkpoint={no_dropout}", *options]
    torch._dynamo.utils.counters.clear()
    one = run(*options, "trainer.compile=true", name="one")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    same_metrics(one, run(*options, name="two"))


def test_only_blocks_that_thaw_knows_are_compiled(run, tmp_path):
    config = transformers.AlbertConfig(**SIZE, embedding_size=16)
    directory = save_tiny("AlbertModel", config, tmp_path / "albert")
    with pytest.raises(ThawError, match=r"trainer\.compile=true compiles block by block: .*albert"):
        run(f"model.checkpoint={directory}", "trainer.compile=true")


@gpu
@pytest.mark.parametrize("name", CLASSES)
def test_flash_attention_gives_the_numbers_of_a_padded_batch(name, checkpoints):
    """Loss and gradients in bfloat16 on CUDA, and no wait for it in a step."""
    config = copy.deepcopy(CONFIGS[name])
    config.hidden_size, config.num_attention_heads, config.pad_token_id = 64, 4, 0
    torch.manual_seed(0)
    model = transformers.AutoModelForTokenClassification.from_config(config).cuda().eval()
    use_bits(model)
    mask = torch.from_numpy(RIGHT).cuda()
    ids = torch.randint(5, 300, mask.shape, device="cuda") * mask
    found = []
    for packs in (False, True):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            if packs:
                torch.cuda.set_sync_debug_mode("error")
                with packed(model, RIGHT):
                    logits = model(input_ids=ids, attention_mask=mask.long()).logits
            else:
                logits = model(input_ids=ids, attention_mask=mask.long()).logits
        ((logits.float() * mask[..., None]) ** 2).sum().backward()
        torch.cuda.set_sync_debug_mode("default")
        found.append([logits.float() * mask[..., None], *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=3e-2, rtol=3e-2)
