"""`model.gradient_checkpointing=true` changes memory, not results."""

import pytest
import torch
from transformers import MPNetConfig
from transformers.models.bert.modeling_bert import BertLayer

from helpers.runs import overrides_of, result
from helpers.tiny import runner, save_tiny
from thaw.errors import ThawError
from thaw.tasks.sequence import SequenceClassification

pytestmark = pytest.mark.no_figures

ON = "model.gradient_checkpointing=true"


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("sequence", []),
        ("sequence", ["freeze=last", "freeze.blocks=1"]),
        ("sequence", ["freeze=gradual", "freeze.every=2"]),
        ("sequence", ["freeze=lora", "freeze.rank=2"]),
        ("ner", []),
        ("mlm", []),
        ("setfit", []),
    ],
    ids=["sequence", "frozen", "gradual", "lora", "ner", "mlm", "setfit"],
)
def test_weights_and_scores_are_the_same_to_the_bit(
    task, options, overrides, ner_overrides, tiny_bert, tmp_path
):
    """With dropout: a block that is computed again draws the same random numbers."""
    words = [*overrides_of(task, overrides, ner_overrides, tiny_bert), *options]
    run = runner(words, tmp_path)
    assert result(run(name="plain")) == result(run(ON, name="checkpointed"))


def test_blocks_are_computed_twice_in_a_step(run, monkeypatch):
    calls = []
    forward = BertLayer.feed_forward_chunk
    monkeypatch.setattr(
        BertLayer, "feed_forward_chunk", lambda *args: calls.append(1) or forward(*args)
    )
    once = ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "data.test=null"]
    run(*once, name="plain")
    plain = len(calls)
    run(*once, ON, name="checkpointed")
    assert len(calls) - plain == 2 * plain


def test_a_model_without_it_is_refused(tmp_path):
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 64}
    mpnet = save_tiny("MPNetModel", MPNetConfig(**sizes), tmp_path / "mpnet")
    with pytest.raises(ThawError, match=r"transformers has none for mpnet; a smaller data.batch"):
        SequenceClassification(mpnet, ["a", "b"], gradient_checkpointing=True)


@pytest.mark.parametrize("option", ["trainer.packed=true", "trainer.compile=true"])
def test_what_does_not_go_with_it_is_refused(run, option):
    with pytest.raises(ThawError, match=f"{option}.*model.gradient_checkpointing=true"):
        run(ON, option)


def test_less_memory_is_kept_for_the_backward_pass(tiny_bert):
    kept = []
    for checkpointed in (False, True):
        task = SequenceClassification(tiny_bert, ["a", "b"], gradient_checkpointing=checkpointed)
        sizes = {}

        def keep(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task(input_ids=torch.randint(5, 60, (8, 60))).sum()
        kept.append(sum(sizes.values()))
        loss.backward()
    assert kept[1] < kept[0] / 2
