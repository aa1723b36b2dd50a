"""The precision that fits the machine, and what float16 needs of the optimizer."""

import logging

import pytest
import torch
from safetensors.torch import load_file

from helpers.runs import metrics_of
from thaw.encoder.hardware import cpu_units
from thaw.errors import ThawError
from thaw.training import trainer as thaw_trainer
from thaw.training.optim import build_optimizer, clip_in_step
from thaw.training.trainer import Trainer

pytestmark = pytest.mark.no_figures

PLAIN = "processor : 0\nflags : fpu avx512f\n\nprocessor : 1\nflags : fpu avx512f\n"
AMX = PLAIN.replace("avx512f", "avx512f avx512_bf16 amx_bf16")
MIXED = "flags : fpu amx_bf16\n\nflags : fpu\n"  # efficiency cores without it
ARM = "processor : 0\nFeatures : fp asimd bf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "units"),
    [(PLAIN, []), (AMX, ["amx_bf16", "avx512_bf16"]), (MIXED, []), (ARM, ["bf16"]), ("", [])],
)
def test_a_cpu_has_the_units_that_all_its_processors_have(cpuinfo, units):
    assert cpu_units(cpuinfo) == units


@pytest.fixture
def made(monkeypatch, caplog):
    """Makes a Trainer on a CPU with or without bfloat16 units; gives its precision and the log."""

    def make(precision, units, **options):
        monkeypatch.setattr(thaw_trainer, "bf16_units", lambda device: units)
        caplog.set_level(logging.INFO, logger="thaw")
        made = Trainer(precision, accelerator="cpu", logger=False, **options)
        said = [r.getMessage() for r in caplog.records if r.name == "thaw.training.trainer"]
        return made.precision, "\n".join(said)

    return make


def test_auto_is_bf16_where_it_is_native_and_says_why(made):
    assert made("auto", "this CPU has amx_bf16")[0] == "bf16-mixed"
    assert "precision bf16-mixed: this CPU has amx_bf16" in made("auto", "this CPU has amx_bf16")[1]


def test_auto_is_float32_elsewhere_and_says_why(made):
    precision, said = made("auto", "")
    assert precision == "32-true"
    assert "precision 32-true: this cpu has no native bfloat16 support" in said


@pytest.mark.parametrize("asked", ["bf16-mixed", "bf16-true", "16-mixed"])
def test_bf16_on_a_cpu_that_emulates_it_gives_a_warning(made, asked):
    said = made(asked, "")[1]
    assert "emulates them" in said
    assert "0.8 GFLOP/s against 88" in said


@pytest.mark.parametrize("asked", ["bf16-mixed", "32-true", "64-true"])
def test_native_bf16_gives_no_warning(made, asked):
    precision, said = made(asked, "this CPU has amx_bf16")
    assert precision == asked
    assert said == ""


def test_float16_with_clipping_by_value_is_refused(made):
    with pytest.raises(ThawError, match="gradient_clip_algorithm=norm"):
        made("16-mixed", "", gradient_clip_val=1.0, gradient_clip_algorithm="value")


@pytest.mark.parametrize("objective", ["sequence", "setfit", "mlm"])
@pytest.mark.parametrize("bits", [16, 64])
def test_weights_of_fewer_or_more_bits_train_and_are_exported(run, objective, bits):
    precision = {16: "bf16-true", 64: "64-true"}[bits]
    overrides = (
        ["task.head=differentiable", "task.joint_ratio=0.5"] if objective == "setfit" else []
    )
    options = [f"trainer.precision={precision}", "trainer.max_epochs=1", *overrides]
    directory = run(f"task={objective}", *options)
    assert metrics_of(directory)["test/loss"] < 10
    weights = load_file(directory / "model" / "model.safetensors")
    assert {tensor.element_size() * 8 for tensor in weights.values()} == {bits}


def test_a_run_in_bf16_goes_through_and_learns(run):
    directory = run(
        "trainer.precision=bf16-mixed", "trainer.max_epochs=12", "callbacks.early_stopping=null"
    )
    assert metrics_of(directory)["test/accuracy"] > 0.8


def model_of(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))


@pytest.mark.parametrize("max_norm", [1e-2, 1e3])
def test_clipping_in_the_step_knows_the_scale_of_a_float16_loss(max_norm):
    plain, scaled = model_of(0), model_of(0)
    inputs = torch.randn(16, 4)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for model in (plain, scaled):
        optimizer = build_optimizer(model, 1e-2, 0.0)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(inputs).square().sum()
            if model is plain:
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                clip_in_step(optimizer, max_norm, scaler)
                scaler.step(optimizer)
                scaler.update()
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_step_with_an_overflow_is_left_out():
    model = model_of(0)
    before = [p.clone() for p in model.parameters()]
    optimizer, scaler = (
        build_optimizer(model, 1e-2, 0.0),
        torch.amp.GradScaler("cpu", init_scale=1024.0),
    )
    scaler.scale(model(torch.randn(4, 4)).sum() * float("inf")).backward()
    clip_in_step(optimizer, 1.0, scaler)
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert scaler.get_scale() < 1024.0
