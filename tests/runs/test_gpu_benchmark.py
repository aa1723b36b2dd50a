"""benchmarks/gpu.py on a CPU: its code runs; its numbers say nothing here."""

import importlib
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from helpers.tiny import REPOSITORY


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("gpu")


@pytest.mark.parametrize("lengths", ["rotten_tomatoes", "conll2003", "full"])
def test_each_peer_trains_on_the_same_texts(gpu, lengths, monkeypatch):
    options = {
        "lengths": lengths,
        "seeds": [1],
        "batch_size": 16,
        "processes": 0,
        "compile": "false",
        "device": "cpu",
        "shape": "tiny",
    }
    seen = []
    report = gpu.results
    monkeypatch.setattr(
        gpu, "results", lambda clock, *rest: seen.append((clock, rest[0])) or report(clock, *rest)
    )
    for peer in ("thaw", "default", "grouped"):
        found = getattr(gpu, "thaw" if peer == "thaw" else "trainer")(
            Namespace(**options, worker=peer)
        )
        assert found["tokens_per_second"] > 0
        assert np.isnan(found["score"])  # a CPU has no peak here
    assert [clock.epochs for clock, _ in seen] == [2, 2, 2]
    assert len({tuple(texts.tolist()) for _, texts in seen}) == 1
    assert seen[0][1].sum() == pytest.approx(1700, rel=0.1)
    assert lengths != "full" or set(seen[0][1].tolist()) == {128}


def test_the_first_epoch_is_not_timed(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    clock, seconds = gpu.Clock(), [0.0, 50.0, 53.0, 56.0]
    for second in seconds:  # three epochs begin, the last one ends
        monkeypatch.setattr(gpu, "now", lambda second=second: second)
        clock.tick()
    assert (clock.epochs, clock.ended - clock.began) == (3, 6.0)


@pytest.mark.parametrize(
    ("lengths", "mean", "padding"), [("rotten_tomatoes", 27, 1.78), ("conll2003", 20, 2.38)]
)
def test_lengths_are_as_measured_on_the_data_sets(gpu, lengths, mean, padding):
    drawn = gpu.DRAWN[lengths](np.random.default_rng(0), 160_000)
    texts = np.clip(np.round(drawn), 4, 128).reshape(-1, 16)
    assert texts.mean() == pytest.approx(mean, rel=0.01)
    assert texts.max(1).sum() * 16 / texts.sum() == pytest.approx(padding, rel=0.01)


def test_a_token_of_bert_base_takes_half_a_billion_operations(gpu):
    with torch.device("meta"):
        model = BertModel(BertConfig())
    assert gpu.operations(model, np.full(9, 128)) == pytest.approx(0.52e9, rel=0.01)


def test_without_a_gpu_it_stops_and_says_how_to_try_its_code():
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "torch sees no CUDA GPU" in done.stderr
    assert "--device cpu --shape tiny" in done.stderr
