"""task=mlm: the objective against transformers, runs, and what they leave."""

import copy
import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
import transformers
from safetensors.torch import load_file, safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    pipeline,
)

from helpers.tiny import REPOSITORY, save_tiny, tiny_config, write_csv
from thaw.data.mlm import MaskedLanguageModelData
from thaw.encoder.freeze import HeadOnly
from thaw.encoder.load import load_fresh
from thaw.encoder.masked_logits import masked_logits
from thaw.encoder.sentence_modules import read_sentence_modules
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict
from thaw.tasks.mlm import MaskedLanguageModel

pytestmark = pytest.mark.no_figures

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
ARCHITECTURES = {
    "bert": tiny_config(),
    "roberta": transformers.RobertaConfig(**SIZE, max_position_embeddings=66),
    "mpnet": transformers.MPNetConfig(**SIZE, max_position_embeddings=66),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZE,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    ),
    "deberta": transformers.DebertaV2Config(**SIZE, max_position_embeddings=64),
    "mobilebert": transformers.MobileBertConfig(  # its head does not call its decoder
        **SIZE,
        embedding_size=16,
        true_hidden_size=16,
        intra_bottleneck_size=16,
        max_position_embeddings=64,
    ),
    "electra": transformers.ElectraConfig(**SIZE, embedding_size=16, max_position_embeddings=64),
}
PROBE = "task.probes=['What a horrible [MASK]!']"


def make_data(checkpoint, **options):
    defaults = {"name": "files", "train": "train.csv", "validation": 0.25, "max_tokens": 64}
    data = MaskedLanguageModelData(tokenizer=checkpoint, **defaults | options)
    data.read()
    return data


def make_task(checkpoint, **options):
    torch.manual_seed(0)
    return MaskedLanguageModel(checkpoint, max_tokens=64, **options)


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory):
    """A random BERT with a head for masks."""
    return save_tiny("BertForMaskedLM", tiny_config(), tmp_path_factory.mktemp("mlm") / "tiny")


MLM = ("task=mlm", "trainer.val_check_interval=1.0")


@pytest.fixture
def overrides(overrides):
    return [*overrides, *MLM]


@pytest.mark.parametrize("piece", [2, 256])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradients_equal_all_logits(name, piece, tiny_mlm, monkeypatch):
    monkeypatch.setattr("thaw.encoder.masked_logits.PIECE", piece)
    torch.manual_seed(0)
    whole = AutoModelForMaskedLM.from_config(ARCHITECTURES[name]).eval()
    ours = make_task(tiny_mlm).eval()
    ours.model = copy.deepcopy(whole)
    ids = torch.randint(5, 300, (4, 12), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(12) < torch.tensor([[12], [9], [5], [3]])).long()
    batch = {
        "input_ids": ids,
        "words": torch.where(mask > 0, torch.arange(12), -1),
        "row": torch.arange(4),
    }
    batch = ours.mask(batch, seed=0, epoch=0) | {"attention_mask": mask}
    loss, right = ours.loss(batch)
    labels = torch.full((48,), -100)
    labels[batch["positions"]] = batch["labels"]
    assert 0 < len(batch["labels"]) < 10
    labels = labels.view(4, 12)
    result = whole(input_ids=batch["input_ids"], attention_mask=mask, labels=labels)
    expected = result.loss
    torch.testing.assert_close(loss, expected)
    assert right == (result.logits.argmax(-1) == labels).sum()
    loss.backward()
    expected.backward()
    for (key, a), b in zip(ours.model.named_parameters(), whole.parameters(), strict=True):
        if b.grad is None:
            assert a.grad is None
            continue
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4, msg=key)


def test_distillation_is_the_mean_distance_from_the_states_of_the_unmasked_text(tiny_bert):
    torch.manual_seed(0)
    teacher = AutoModel.from_pretrained(tiny_bert).eval()
    task = make_task(tiny_bert, distill=3.0).eval()
    for weight in task.model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    task.log, logged = lambda name, value, **_: logged.update({name: value}), {}
    ids = torch.randint(5, 300, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9) < torch.tensor([[9], [7], [4]])).long()
    words = torch.where(mask > 0, torch.arange(9), -1)
    clean = {"input_ids": ids, "words": words, "row": torch.arange(3), "attention_mask": mask}
    batch = task.mask(clean, seed=0, epoch=0)
    total = task.training_step(batch, 0)
    distances = []
    for row, length in enumerate((9, 7, 4)):  # text by text, without padding
        with torch.no_grad():
            wanted = teacher(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        seen = batch["input_ids"][row : row + 1, :length]
        got = task.model.base_model(input_ids=seen).last_hidden_state[0]
        distances += [
            1 - torch.cosine_similarity(a, b, 0) for a, b in zip(got, wanted, strict=True)
        ]
    expected = torch.stack(distances).mean()
    assert expected > 0.01
    torch.testing.assert_close(logged["train/distance"], expected)
    torch.testing.assert_close(total, task.loss(batch)[0] + 3 * expected)
    grads = torch.autograd.grad(total, task.model.get_input_embeddings().weight, retain_graph=True)
    assert grads[0].any()
    assert not any("teacher" in name for name, _ in task.named_parameters())


def test_the_head_sees_masked_positions_only_and_the_model_is_left_as_it_was(tiny_mlm):
    model = make_task(tiny_mlm).eval().model
    ids = torch.randint(5, 300, (2, 7))
    seen = []
    hook = model.cls.register_forward_hook(lambda m, inputs, out: seen.append(out.shape))
    logits = masked_logits(model, {"input_ids": ids}, torch.tensor([1, 9, 13]))
    hook.remove()
    assert seen == [(1, 3, 300)]
    whole = model(input_ids=ids).logits
    assert whole.shape == (2, 7, 300)
    torch.testing.assert_close(logits, whole.view(14, 300)[[1, 9, 13]])


def test_mixed_precision_gives_nearly_the_same_loss(tiny_mlm):
    task = make_task(tiny_mlm).eval()
    ids = torch.randint(5, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "words": torch.arange(20).expand(2, -1), "row": torch.arange(2)}
    batch = task.mask(batch, 0, 0)
    full, _ = task.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = task.loss(batch)
    half.backward()
    torch.testing.assert_close(half, full, atol=0.02, rtol=0)
    assert task.model.get_output_embeddings().weight.grad.any()


def test_a_batch_without_a_mask_has_loss_and_gradients_of_zero(tiny_mlm):
    task = make_task(tiny_mlm)
    batch = {
        "input_ids": torch.tensor([[2, 3]]),
        "words": torch.tensor([[-1, -1]]),
        "row": torch.tensor([0]),
    }
    loss, _ = task.loss(task.mask(batch, 0, 0))
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())


def test_a_checkpoint_without_a_head_gets_one_tied_to_its_embeddings(tiny_bert, tmp_path, caplog):
    with caplog.at_level("INFO"):
        task = make_task(tiny_bert)
    assert "a fresh one, tied to its embeddings" in caplog.text
    model = task.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "cls.predictions.decoder.weight" not in file.keys()  # noqa: SIM118
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    for (name, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_fresh_decoder_is_tied_even_where_the_config_unties(tmp_path):
    directory = save_tiny("BertModel", tiny_config(tie_word_embeddings=False), tmp_path)
    model = make_task(directory).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_a_head_in_the_checkpoint_is_kept(tiny_mlm, caplog):
    with caplog.at_level("INFO"):
        task = make_task(tiny_mlm)
    assert "fresh" not in caplog.text
    saved = load_file(tiny_mlm / "model.safetensors")
    dense = task.model.cls.predictions.transform.dense.weight
    assert torch.equal(dense, saved["cls.predictions.transform.dense.weight"])


def test_a_frozen_encoder_keeps_its_embeddings_and_the_tied_decoder_with_them(tiny_mlm):
    task = make_task(tiny_mlm, freeze=HeadOnly())
    trained = {name for name, p in task.model.named_parameters() if p.requires_grad}
    assert trained == {
        "cls.predictions.bias",
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
    }


def test_a_run_lowers_the_loss_and_shows_where_it_began(run):
    directory = run("trainer.max_epochs=8", PROBE, "callbacks.early_stopping=null")
    metrics = metrics_of(directory)
    for part in ("start", "val", "test"):
        assert {f"{part}/{n}" for n in ("loss", "perplexity", "accuracy")} <= set(metrics)
    assert metrics["val/loss"] < metrics["start/loss"] - 1
    assert metrics["val/accuracy"] > metrics["start/accuracy"]
    perplexity = torch.tensor(metrics["val/loss"]).exp().item()
    assert metrics["val/perplexity"] == pytest.approx(perplexity, rel=1e-5)
    assert all(isinstance(value, int | float) for value in metrics.values())
    lines = (directory / "metrics.csv").read_text().splitlines()
    assert lines[0].count("val/loss") == 1
    assert not (directory / "predictions.parquet").exists()


def test_probes_are_filled_after_each_epoch_and_do_not_change_training(run, finished, capsys):
    directory = run(PROBE)
    shown = capsys.readouterr().out
    asked = json.loads((directory / "probes.json").read_text())
    stages = ["start", "epoch 1", "epoch 2", "end"]
    assert [row["stage"] for row in asked] == stages
    assert all(f"probes, {stage}" in shown for stage in stages)
    metrics = metrics_of(directory)
    fill = pipeline("fill-mask", model=str(directory / "model"), device="cpu")
    for word, got in zip(asked[-1]["top"], fill("What a horrible [MASK]!"), strict=True):
        assert word["token"] == got["token_str"]
        assert word["probability"] == pytest.approx(got["score"], abs=1e-5)
        key = f"probe/end/What a horrible [MASK]!/1/{word['token']}"
        assert metrics[key] == word["probability"]
    without = finished(*MLM, "task.probes=[]")
    weights = [load_file(d / "model" / "model.safetensors") for d in (directory, without)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert json.loads((without / "probes.json").read_text()) == []


def test_a_probe_without_a_mask_is_refused(tiny_mlm):
    with pytest.raises(ThawError, match=r"'A bad film.' has no \[MASK\]: put it where a word"):
        make_task(tiny_mlm, probes=["A bad film."])


def test_probes_are_a_table_in_wandb(run):
    directory = run(PROBE, "logger=wandb", "trainer.max_epochs=1")
    assert list(directory.glob("wandb/offline-run-*/files/media/table/probes_*.table.json"))


def test_mask_is_replaced_by_the_models_own_mask_token(tiny_mlm, tmp_path):
    from thaw.encoder.masked_logits import with_mask

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_mlm)
    tokenizer.mask_token = "<mask>"
    assert with_mask("a [MASK] film", tokenizer) == "a <mask> film"
    assert with_mask("a <mask> film", tokenizer) == "a <mask> film"


def test_the_model_feeds_a_classifier(run, finished):
    directory = finished(*MLM, "task.probes=[]")
    classified = run(
        "task=sequence",
        f"model.checkpoint={directory / 'model'}",
        "trainer.max_steps=1",
        "task.learning_rate=0",
        name="then",
    )
    before = load_file(directory / "model" / "model.safetensors")
    after = load_file(classified / "model" / "model.safetensors")
    encoder = [name for name in before if name.startswith("bert.")]
    assert len(encoder) > 20
    assert all(torch.equal(before[name], after[name]) for name in encoder)


def test_the_export_keeps_the_pooler_and_the_pooling_of_the_checkpoint(run, tiny_bert, tmp_path):
    checkpoint = shutil.copytree(tiny_bert, tmp_path / "sentences")
    encoder = Transformer(str(checkpoint))
    SentenceTransformer(modules=[encoder, Pooling(32, "cls"), Normalize()]).save(str(checkpoint))
    shutil.rmtree(checkpoint / "2_Normalize")  # once empty, so that published ones have none
    directory = run(f"model.checkpoint={checkpoint}", "trainer.max_epochs=1", PROBE) / "model"
    pooler = load_file(tiny_bert / "model.safetensors")["pooler.dense.weight"]
    classifier, fresh = load_fresh(AutoModelForSequenceClassification, directory)
    assert torch.equal(classifier.bert.pooler.dense.weight, pooler)
    assert fresh == ["classifier.bias", "classifier.weight"]
    pooling, normalize = read_sentence_modules(directory, 32).chain
    assert pooling.get_config_dict()["pooling_mode"] == "cls"
    assert isinstance(normalize, Normalize)
    assert SentenceTransformer(str(directory)).encode(["a film"]).shape == (1, 32)
    again = make_task(directory, freeze=HeadOnly())
    again.model.save_pretrained(tmp_path)
    again.complete_export(tmp_path)  # from a checkpoint with a head
    assert torch.equal(
        load_file(tmp_path / "model.safetensors")["bert.pooler.dense.weight"], pooler
    )


def test_whole_words_and_frozen_encoders_train(run, tiny_bert):
    directory = run("task.masking=whole_word", "freeze=head", "trainer.max_epochs=1")
    after = load_file(directory / "model" / "model.safetensors")
    for name, weight in load_file(tiny_bert / "model.safetensors").items():
        assert torch.equal(weight, after[f"bert.{name}"])


def test_masks_change_with_the_epoch_and_stay_for_validation(run, monkeypatch):
    seen: dict[str, list] = {"training": [], "validation": []}

    def spy(name, step):
        def wrapped(self, batch, batch_idx):
            rows = zip(batch["row"].tolist(), batch["input_ids"].tolist(), strict=True)
            seen[name].append({row: [t for t in ids if t] for row, ids in rows})
            return step(self, batch, batch_idx)

        monkeypatch.setattr(MaskedLanguageModel, f"{name}_step", wrapped)

    spy("training", MaskedLanguageModel.training_step)
    spy("validation", MaskedLanguageModel.validation_step)
    run("data.num_workers=1")
    first, second = (
        {k: v for part in seen["training"][i : i + 8] for k, v in part.items()} for i in (0, 8)
    )
    assert len(first) == len(second) == 64
    assert sum(first[k] != second[k] for k in first) > 50
    assert seen["validation"][0] == seen["validation"][1] == seen["validation"][2]


def test_two_seeds_are_validated_on_the_same_masks(run, tiny_mlm):
    one, two = (
        run(f"model.checkpoint={tiny_mlm}", "trainer.max_epochs=1", f"seed={seed}", name=f"{seed}")
        for seed in (1, 2)
    )
    assert metrics_of(one)["start/loss"] == metrics_of(two)["start/loss"]
    assert metrics_of(one)["val/loss"] != metrics_of(two)["val/loss"]


def test_prediction_fills_masks_in(finished, tmp_path):
    directory = finished(*MLM, "task.probes=[]")
    path = write_csv(
        tmp_path / "new.csv", [("a [MASK] film", 1), ("[MASK] and [MASK]", 2)], ["text", "id"]
    )
    predict(
        [
            f"run={directory}",
            f"input={path}",
            f"output={tmp_path / 'out.parquet'}",
            "accelerator=cpu",
        ]
    )
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [len(row["masks"]) for row in rows] == [1, 2]
    assert all(len(top) == 5 for row in rows for top in row["masks"])
    assert rows[0]["prediction"] == f"a {rows[0]['masks'][0][0]['token']} film"
    assert "[MASK]" not in rows[1]["prediction"]
    assert rows[1]["id"] == "2"
    path = write_csv(tmp_path / "bad.csv", [("a film",)], ["text"])
    with pytest.raises(ThawError, match=r"'a film' has no \[MASK\]"):
        predict([f"run={directory}", f"input={path}", "accelerator=cpu"])


def test_evaluation_gives_the_scores_of_the_run_again(finished):
    directory = finished(*MLM, "task.probes=[]")
    got = evaluate([f"run={directory}", "trainer.accelerator=cpu"])
    for name in ("test/loss", "test/perplexity", "test/accuracy"):
        assert got[name] == pytest.approx(metrics_of(directory)[name], rel=1e-5), name


def test_a_run_without_validation_fills_its_probes_too(run):
    directory = run("data.validation=null", "data.test=null", "trainer.max_epochs=1", PROBE)
    asked = json.loads((directory / "probes.json").read_text())
    assert [row["stage"] for row in asked] == ["start", "epoch 1", "end"]


def test_options_of_classification_are_refused(run):
    from thaw.cli.check import leave_unread
    from thaw.cli.compose import compose

    with pytest.raises(ThawError, match=r"this task does not read data\.label"):
        leave_unread(compose(["task=mlm", "run_dir=."]), ["data.label=stars"])


def test_a_tokenizer_without_a_mask_token_is_refused(tiny_bert, tmp_path):
    directory = shutil.copytree(tiny_bert, tmp_path / "model")
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config.pop("mask_token")
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ThawError, match=r"without a mask token; task=mlm needs one.*model=minilm"):
        make_data(directory)


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(overrides, tmp_path):
    directory = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable,
            "train.py",
            *overrides,
            "trainer=ddp",
            "trainer.accelerator=cpu",
            "trainer.devices=2",
            "data.eval_batch_size=4",
            "data.streaming=true",
            "trainer.max_steps=4",
            "trainer.val_check_interval=2",
            f"hydra.run.dir={directory}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    two = metrics_of(directory)
    one = evaluate(
        [
            f"run={directory}",
            "trainer.strategy=auto",
            "trainer.devices=1",
            "trainer.accelerator=cpu",
        ]
    )
    assert {"test/loss", "test/perplexity", "test/accuracy"} <= set(one)
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5), name
    assert done.stdout.count("probes, end") == 1
