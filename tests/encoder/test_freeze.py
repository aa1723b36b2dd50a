"""Which blocks train: exact names for every architecture, bits, stages, bad input."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from lightning.pytorch import Callback
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

import thaw.train
from helpers.encoders import CONFIGS, SIZE, make
from helpers.tiny import REPOSITORY, save_tiny, tiny_config
from helpers.warm import python
from thaw.encoder.blocks import learning_rate_factors
from thaw.encoder.freeze import ByName, GradualUnfreezing, HeadOnly, LastBlocks, frozen_modules
from thaw.errors import ThawError
from thaw.parameters import main as parameters
from thaw.training.optim import build_optimizer

pytestmark = pytest.mark.no_figures

# What else trains with the last block, and how a block and the head are spelled.
BLOCK = {"distilbert": "distilbert.transformer.layer.{}.", "modernbert": "model.layers.{}."}
HEADS = {
    "bert": ("bert.pooler.", "classifier."),
    "roberta": ("classifier.",),
    "distilbert": ("pre_classifier.", "classifier."),
    "mpnet": ("classifier.",),
    "electra": ("classifier.",),
    "deberta": ("pooler.", "classifier."),
    "modernbert": ("head.", "classifier."),
}


def trained(model):
    return {n for n, p in model.named_parameters() if p.requires_grad}


def block(name, number):
    return BLOCK.get(name, f"{name}.encoder.layer.{{}}.").format(number)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_last_blocks_and_the_head_train_and_nothing_else(name, count):
    model = make(name)
    LastBlocks(count)(model)
    prefixes = [*HEADS[name], *(block(name, i) for i in range(3 - count, 3))]
    prefixes += ["model.final_norm."] if name == "modernbert" and count else []
    assert trained(model) == {n for n, _ in model.named_parameters() if n.startswith((*prefixes,))}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_block_equals_the_head_alone(name):
    none, head = make(name), make(name)
    LastBlocks(0)(none)
    HeadOnly()(head)
    assert trained(none) == trained(head)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_blocks_leave_the_embeddings_frozen_unless_asked(name):
    model, whole = make(name), make(name)
    LastBlocks(3)(model)
    LastBlocks(3, embeddings=False)(whole)
    frozen = {n for n, _ in model.named_parameters()} - trained(model)
    assert frozen
    assert all("embeddings" in n or "relative" in n or "encoder.LayerNorm" in n for n in frozen)
    assert trained(whole) == {n for n, _ in whole.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification]
)
def test_frozen_weights_keep_their_bits_in_a_step(name, auto):
    model = make(name, auto)
    LastBlocks(1)(model)
    before = {n: p.clone() for n, p in model.named_parameters()}
    ids = torch.randint(5, 300, (2, 8), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(input_ids=ids).logits.square().sum().backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= trained(model)
    assert any(n.startswith(block(name, 2)) for n in moved)


def test_names_by_pattern_train():
    model = make("bert")
    ByName(["*.layer.1.*", "classifier.bias"])(model)
    found = trained(model)
    assert "classifier.bias" in found
    assert len(found) == 17
    assert any(m is model.bert.encoder.layer[0] for m in frozen_modules(model))


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(ThawError, match=r"'\*\.blok\.\*' fits none of 57 parameters, such as bert"):
        ByName(["*.layer.1.*", "*.blok.*"])(make("bert"))
    with pytest.raises(ThawError, match=r"needs freeze\.train"):
        ByName([])(make("bert"))


@pytest.mark.parametrize("strategy", [LastBlocks(4), GradualUnfreezing(blocks=4)])
def test_more_blocks_than_there_are_is_refused(strategy):
    with pytest.raises(ThawError, match=r"freeze\.blocks=4: this model has 3 blocks, so 0 to 3"):
        strategy(make("bert"))


def test_shared_blocks_have_no_depth_but_a_head():
    config = transformers.AlbertConfig(**SIZE, embedding_size=16, max_position_embeddings=64)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ThawError, match=r"blocks of albert share one set of weights.*freeze=head"):
        LastBlocks(1)(model)
    HeadOnly()(model)
    assert trained(model) == {
        "albert.pooler.weight",
        "albert.pooler.bias",
        "classifier.weight",
        "classifier.bias",
    }


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory):
    """A random BERT with a head for masks."""
    return save_tiny("BertForMaskedLM", tiny_config(), tmp_path_factory.mktemp("f") / "tiny")


def changed(before, after, prefix=""):
    return {n for n, w in before.items() if not torch.equal(w, after[f"{prefix}{n}"])}


def test_a_classifiers_last_block_trains_in_a_run_and_the_log_has_a_table_of_parts(
    run, tiny_bert, caplog
):
    with caplog.at_level("INFO"):
        directory = run("freeze=last", "task.layer_decay=0.5", "trainer.max_epochs=1")
    after = load_file(directory / "model" / "model.safetensors")
    found = changed(load_file(tiny_bert / "model.safetensors"), after, "bert.")
    assert {n.split(".")[0] for n in found} == {"encoder", "pooler"}
    assert all(n.startswith(("encoder.layer.1.", "pooler.")) for n in found)
    [table] = [r.getMessage() for r in caplog.records if r.getMessage().startswith("part ")]
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "part parameters trains learning rate",
        "embeddings 11,776 frozen",
        "block 0 8,544 frozen",
        "block 1 8,544 trained 0.0015",
        "head 1,122 trained 0.003",
    ]


def test_a_taggers_last_block_trains_in_a_run(run_ner, tiny_bert):
    after = load_file(run_ner("freeze=last", "trainer.max_epochs=1") / "model/model.safetensors")
    before = load_file(tiny_bert / "model.safetensors")
    found = changed({n: w for n, w in before.items() if "pooler" not in n}, after, "bert.")
    assert found
    assert all(n.startswith("encoder.layer.1.") for n in found)


def test_a_masked_models_last_block_trains_in_a_run(run, tiny_mlm):
    directory = run(
        "task=mlm",
        "freeze=last",
        f"model.checkpoint={tiny_mlm}",
        "trainer.max_epochs=1",
        "trainer.val_check_interval=1.0",
    )
    after = load_file(directory / "model" / "model.safetensors")
    found = changed(load_file(tiny_mlm / "model.safetensors"), after)
    assert found
    assert all(n.startswith(("bert.encoder.layer.1.", "cls.")) for n in found)


def test_the_rate_falls_by_layer_from_the_head_down(tiny_bert):
    from thaw.tasks.sequence import SequenceClassification

    task = SequenceClassification(tiny_bert, ["a", "b"], learning_rate=1.0, layer_decay=0.5)
    optimizer = build_optimizer(task.model, 1.0, 0.01, learning_rate_factors(task.model, 0.5))
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    found = {n: rates[id(p)] for n, p in task.model.named_parameters()}
    assert found["classifier.weight"] == found["bert.pooler.dense.weight"] == 1
    assert found["bert.encoder.layer.1.output.dense.bias"] == 0.5
    assert found["bert.encoder.layer.0.output.dense.bias"] == 0.25
    assert found["bert.embeddings.word_embeddings.weight"] == 0.125


def test_all_parameters_are_listed_by_name_with_shape_and_part(overrides, capsys):
    parameters([*overrides, "freeze=names", "freeze.train=['*.layer.1.*','*bias']"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "bert.encoder.layer.1.output.dense.weight 32 x 64 block 1 trained" in lines
    assert "bert.encoder.layer.0.output.dense.weight 32 x 64 block 0 frozen" in lines
    assert "classifier.weight 2 x 32 head frozen" in lines
    assert "classifier.bias 2 head trained" in lines


def test_cfg_job_shows_the_parts_below_the_config(overrides):
    overrides.remove("logger=csv")  # W&B's name follows from what runs, and nothing does
    options = [*overrides, "freeze=gradual", "--cfg", "job"]
    done = python("train.py", *options)
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).freeze.every == 0.1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "# block 1 8,544 from stage 1 on 0.003" in lines
    assert "# block 0 8,544 from stage 2 on 0.003" in lines
    assert "# embeddings 11,776 frozen" in lines


class Watch(Callback):
    """What trains at each step, and whether what is closed stays as it was."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        blocks = task.model.bert.encoder.layer
        self.seen[trainer.global_step - 1] = [
            (
                any(p.requires_grad for p in b.parameters()),
                b.training,
                round(b.output.dense.weight.double().sum().item(), 9),
            )
            for b in blocks
        ]


class Watches(list):
    """The `Watch` of each run."""


@pytest.fixture
def watch(monkeypatch):
    """Adds a `Watch` to the next runs."""
    found = Watches()

    def build(*args, original=thaw.train.build_trainer):
        trainer = original(*args)
        found.append(Watch())
        trainer.callbacks.append(found[-1])
        return trainer

    found.build = build
    monkeypatch.setattr(thaw.train, "build_trainer", build)
    return found


GRADUAL = [
    "freeze=gradual",
    "freeze.every=4",
    "callbacks.early_stopping=null",
    "task.warmup_ratio=0",
]


def test_blocks_are_unfrozen_one_by_one_from_the_last_down(run, watch):
    run(*GRADUAL)
    seen = watch[0].seen
    assert len(seen) == 16
    for step, (low, high) in seen.items():
        assert high[:2] == ((step >= 4),) * 2, step
        assert low[:2] == ((step >= 8),) * 2, step
    assert len({seen[s][1][2] for s in range(4)}) == 1
    assert len({seen[s][0][2] for s in range(8)}) == 1
    assert len({seen[s][1][2] for s in range(3, 15)}) > 8


def test_an_interval_may_be_a_fraction_of_training(run, watch):
    run("freeze=gradual", "freeze.every=0.25", "callbacks.early_stopping=null")
    assert next(step for step, (_, high) in watch[0].seen.items() if high[0]) == 4


@pytest.mark.slow
def test_two_processes_unfreeze_the_same_blocks_at_the_same_steps(overrides, tmp_path):
    directory = tmp_path / "run"
    options = [
        *overrides,
        *GRADUAL,
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "data.batch_size=4",
        f"hydra.run.dir={directory}",
        f"freeze.cache.path={tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "train.py", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 4: 1 of 2 stages train" in done.stdout
    assert "step 8: 2 of 2 stages train" in done.stdout
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    moments = state["optimizer_states"][0]["state"]
    steps = sorted({int(m["step"]) for m in moments.values()})
    assert steps == [8, 12, 16]  # of block 0, block 1 and the head
