"""Adapters of low rank: peft's numbers, small checkpoints, exports that need no peft."""

import json
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from helpers.encoders import EVERY, make
from helpers.runs import curve, metrics_of, result, resumed, typed
from helpers.tiny import save_tiny, tiny_config
from thaw.encoder.blocks import learning_rate_factors
from thaw.encoder.freeze import frozen_modules
from thaw.encoder.lora import LoRA, adapted_layers
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict
from thaw.tasks.sequence import SequenceClassification

pytestmark = pytest.mark.no_figures

WORDS = ["freeze=lora", "freeze.rank=2", "trainer.max_epochs=1"]


def adapters(model):
    """Parameters of adapters by name, and a second matrix that is not zero."""
    found = {n: p for n, p in model.named_parameters() if ".lora_" in n}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in found.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return found


def test_loss_and_gradients_are_those_of_peft(tiny_bert):
    task = SequenceClassification(tiny_bert, ["a", "b"], freeze=LoRA(rank=4, alpha=8)).eval()
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=2)
    reference = get_peft_model(
        plain, LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, modules_to_save=["pooler"])
    ).eval()
    ours, theirs = adapters(task.model), adapters(reference)
    assert [f"base_model.model.{n}" for n in ours] == list(theirs)
    for head in ("classifier", "bert.pooler"):
        wrapped = reference.base_model.model.get_submodule(head).modules_to_save["default"]
        wrapped.load_state_dict(task.model.get_submodule(head).state_dict())
    ids = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = torch.tensor([0, 1, 1, 0])
    loss, wanted = task.loss(task(**batch), labels), reference(**batch, labels=labels).loss
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    wanted.backward()
    trained = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
    assert set(trained) - set(ours) == {
        f"{head}.{kind}"
        for head in ("classifier", "bert.pooler.dense")
        for kind in ("weight", "bias")
    }
    for name, parameter in ours.items():
        other = theirs[f"base_model.model.{name}"].grad
        torch.testing.assert_close(parameter.grad, other, atol=1e-6, rtol=1e-4, msg=name)
    other = reference.base_model.model.classifier.modules_to_save["default"].weight.grad
    torch.testing.assert_close(task.model.classifier.weight.grad, other)


@pytest.mark.parametrize("name", EVERY)
def test_queries_and_values_are_found_in_each_architecture(name):
    model = make(name)
    found = adapted_layers(model, None)
    assert found
    assert not [n for n in found if "classifier" in n or "pooler" in n]
    if default := PEFT.get(model.config.model_type):
        assert {n.rpartition(".")[2] for n in found} == set(default)
    LoRA(rank=2)(model)
    model(input_ids=torch.tensor([[2, 7, 8, 3]])).logits.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if ".lora_" in n)


def test_all_linear_layers_of_the_encoder_and_no_other_are_adapted_if_asked():
    found = adapted_layers(make("bert"), "all-linear")
    assert len(found) == 3 * 6
    assert all(".layer." in n for n in found)
    assert adapted_layers(make("bert"), ["dense"]) == [n for n in found if n.endswith("dense")]


def test_a_layer_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(
        ThawError, match=r"no linear layer 'q_proj'.*\[query,key,value,dense\].*all-"
    ):
        LoRA(target_modules=["query", "q_proj"])(make("bert"))


def test_dropout_stays_on_as_under_peft(tiny_bert):
    task = SequenceClassification(tiny_bert, ["a", "b"], freeze=LoRA())
    assert frozen_modules(task.model)
    assert all(module.training for module in task.model.modules())


def test_checkpoints_hold_adapters_and_head_alone(run, tiny_bert, caplog):
    with caplog.at_level("INFO"):
        directory = run(*WORDS)
    assert "4 linear layers (query, value) have adapters. No output of frozen" in caplog.text
    for name in ("last.ckpt", "best.ckpt"):
        state = torch.load(directory / "checkpoints" / name, weights_only=True)["state_dict"]
        model = [n for n in state if n.startswith("model.")]
        assert model
        assert all(".lora_" in n or "pooler" in n or "classifier" in n for n in model)
    size = (directory / "checkpoints" / "best.ckpt").stat().st_size
    assert size < (tiny_bert / "model.safetensors").stat().st_size / 2
    assert "block 1" in (directory / "report.html").read_text()


def logits(model):
    model.eval()
    ids = torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


OWN = {
    "mlm": ["task=mlm", "task.probes=[]"],
    "setfit": ["task=setfit", "task.shots=8", "task.steps=4"],
}
AUTO = {
    "sequence": AutoModelForSequenceClassification,
    "ner": AutoModelForTokenClassification,
    "mlm": AutoModelForMaskedLM,
    "setfit": AutoModel,
}


@pytest.mark.parametrize("task", AUTO)
def test_an_export_loads_without_peft_and_the_adapter_with_it(task, run, run_ner, tiny_bert):
    directory = (run_ner if task == "ner" else run)(*WORDS, *OWN.get(task, []))
    merged, report = AUTO[task].from_pretrained(directory / "model", output_loading_info=True)
    assert not report["missing_keys"]
    kept = {name for name in report["unexpected_keys"] if ".pooler." not in name}
    assert not kept, "task=mlm keeps the pooler, which its own model has not"
    assert not [n for n in load_file(directory / "model" / "model.safetensors") if "lora" in n]
    base = AUTO[task].from_pretrained(tiny_bert, num_labels=getattr(merged, "num_labels", 2))
    assert not torch.allclose(logits(base), logits(merged), atol=1e-4)
    adapted = PeftModel.from_pretrained(base, directory / "adapter")
    torch.testing.assert_close(logits(adapted), logits(merged), atol=1e-5, rtol=1e-4)
    about = json.loads((directory / "adapter" / "adapter_config.json").read_text())
    assert about["r"] == 2


def test_the_encoder_without_its_adapters_is_the_checkpoint(run, tiny_bert):
    directory = run(*WORDS, "freeze.target_modules=all-linear")
    before = load_file(tiny_bert / "model.safetensors")
    after = load_file(directory / "model" / "model.safetensors")
    moved = {n for n, w in before.items() if not torch.equal(w, after[f"bert.{n}"])}
    assert moved == {n for n in before if "pooler" in n or ("layer." in n and before[n].dim() == 2)}


def test_predict_and_evaluate_take_the_run(run, reviews, tmp_path):
    directory = run(*WORDS)
    metrics = evaluate([f"run={directory}"])
    assert metrics["test/f1"] == pytest.approx(metrics_of(directory)["test/f1"])
    out = tmp_path / "out.csv"
    assert predict([f"run={directory}", f"input={reviews / 'test.csv'}", f"output={out}"]) == 22


def test_a_resumed_run_equals_one_that_was_not_stopped(run, monkeypatch):
    whole = run(*WORDS, name="whole")
    on = resumed(run, monkeypatch, *WORDS)
    assert (result(on), curve(on)) == (result(whole), curve(whole))


def test_adapters_of_other_weights_are_refused(tiny_bert, tmp_path):
    tasks = []
    for seed, checkpoint in enumerate((tiny_bert, tmp_path / "other")):
        if seed:
            save_tiny("BertModel", tiny_config(initializer_range=0.1), checkpoint)
        tasks.append(SequenceClassification(checkpoint, ["a", "b"], freeze=LoRA()))
    state = tasks[0].state_dict()
    tasks[0].load_state_dict(state)
    with pytest.raises(ThawError, match=r"trained on other weights than those that model\.check"):
        tasks[1].load_state_dict(state)


def test_sharding_is_refused(tiny_bert):
    task = SequenceClassification(tiny_bert, ["a", "b"], freeze=LoRA())
    task._device_mesh = object()
    with pytest.raises(ThawError, match=r"trainer=fsdp: freeze=lora .*Set trainer=ddp"):
        task.configure_model()


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ThawError, match=r"pip install -e '\.\[lora\]'"):
        LoRA()(make("bert"))


def test_packed_batches_have_the_same_logits(tiny_bert):
    task = SequenceClassification(tiny_bert, ["a", "b"], freeze=LoRA()).eval()
    adapters(task.model)
    ids = torch.randint(5, 60, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5])
    wanted = task(input_ids=ids, attention_mask=mask)
    task.packs = True
    ours = task(input_ids=ids, attention_mask=mask, real=mask.numpy().astype(bool))
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-4)


def test_the_rate_of_adapters_falls_by_layer(tiny_bert):
    task = SequenceClassification(tiny_bert, ["a", "b"], freeze=LoRA())
    factors = learning_rate_factors(task.model, 0.5)
    for block, factor in ((1, 0.5), (0, 0.25)):
        own = {f for n, f in factors.items() if f"layer.{block}." in n and ".lora_" in n}
        assert own == {factor}


def test_an_option_of_depths_is_refused(run):
    with pytest.raises(ThawError, match=r"freeze\.blocks"):
        run(*WORDS, "freeze.blocks=2")


@pytest.mark.slow
def test_two_processes_train_adapters(overrides, tmp_path):
    words = [*overrides, *WORDS, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4"]
    done = typed(words, tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert metrics_of(tmp_path / "run")["steps"] == 8
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
