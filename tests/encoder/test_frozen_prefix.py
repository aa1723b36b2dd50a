"""Frozen blocks computed once: the same logits, kept safely, off where they cannot hold."""

import json
import os
import re
from contextlib import nullcontext

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from helpers.encoders import EVERY, make
from thaw.encoder.first_token import first_token_only
from thaw.encoder.freeze import HeadOnly, LastBlocks
from thaw.encoder.frozen_prefix.cache import Cache, PrefixUnavailable
from thaw.encoder.frozen_prefix.prefix import Prefix

pytestmark = pytest.mark.no_figures


class Rows(dict):
    """Encoded rows as `datasets` gives them."""

    column_names = ("input_ids",)


def texts(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 15, (count,), generator=generator).tolist()
    return Rows(
        input_ids=[torch.randint(5, 300, (n,), generator=generator).tolist() for n in lengths]
    )


def padded(rows, side="right"):
    width = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask.long()}


def filled(model, blocks, root, rows=None, **options):
    LastBlocks(blocks)(model) if blocks else HeadOnly()(model)
    prefix = Prefix(model, Cache(path=str(root), **options), "32-true")
    prefix.fill({"train": texts() if rows is None else rows}, nullcontext)
    return prefix


def entries(root):
    return sorted(p.parent.name for p in root.glob("*/states.bin"))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_logits_and_gradients_from_states_are_those_of_the_whole_encoder(name, blocks, tmp_path):
    model = make(name, AutoModelForTokenClassification).eval()
    prefix = filled(model, blocks, tmp_path)
    assert prefix.depth == 3 - blocks
    batch = padded(texts()["input_ids"][3:8])
    real = batch["attention_mask"].bool()
    whole = model(**batch).logits[real]
    whole.square().sum().backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with prefix.skipped(prefix.states(batch)):
        ours = model(**batch).logits[real]
    ours.square().sum().backward()
    torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-4)
    for n, p in model.named_parameters():
        if p.grad is not None and n in wanted:
            torch.testing.assert_close(p.grad, wanted[n], atol=1e-4, rtol=1e-3, msg=n)
    assert not [m for m in model.modules() if "forward" in vars(m)]


def test_a_classifier_on_the_first_token_keeps_one_state_a_text(tmp_path):
    model = make("bert").eval()
    assert first_token_only(model)
    prefix = filled(model, 0, tmp_path)
    assert prefix.bytes == 12 * 32 * 4
    batch = padded(texts()["input_ids"])
    with prefix.skipped(prefix.states(batch)):
        ours = model(**batch).logits
    torch.testing.assert_close(ours, model(**batch).logits, atol=1e-5, rtol=1e-4)


def test_texts_padded_on_the_left_find_their_states(tmp_path):
    prefix = filled(make("bert").eval(), 1, tmp_path)
    rows = texts()["input_ids"][:3]
    left, right = (prefix.states(padded(rows, side)) for side in ("left", "right"))
    for row, a, b in zip(rows, left, right, strict=True):
        assert torch.equal(a[-len(row) :], b[: len(row)])


def test_a_text_without_cached_states_goes_through_the_encoder(tmp_path):
    prefix = filled(make("bert").eval(), 1, tmp_path)
    assert prefix.states(padded([[7, 8, 9]])) is None


def test_cached_states_are_not_computed_again(tmp_path):
    first, second = (filled(make("bert").eval(), 1, tmp_path) for _ in range(2))
    assert first.seconds > 0
    assert second.seconds == 0
    batch = padded(texts()["input_ids"])
    assert torch.equal(first.states(batch), second.states(batch))


def test_weights_texts_depth_and_precision_have_states_of_their_own(tmp_path):
    filled(make("bert").eval(), 1, tmp_path)
    filled(make("bert").eval(), 2, tmp_path)
    filled(make("bert").eval(), 1, tmp_path, texts(seed=1))
    other = make("bert").eval()
    with torch.no_grad():
        other.bert.encoder.layer[0].output.dense.bias += 1e-3
    filled(other, 1, tmp_path)
    model = make("bert").eval()
    LastBlocks(1)(model)
    Prefix(model, Cache(path=str(tmp_path)), "bf16-mixed").fill({"a": texts()}, nullcontext)
    assert len(entries(tmp_path)) == 5
    head = make("bert").eval()
    with torch.no_grad():
        head.classifier.bias += 1
    assert filled(head, 1, tmp_path).seconds == 0


def test_a_deeper_prefix_starts_from_a_shallower_one(tmp_path, monkeypatch):
    filled(make("bert").eval(), 2, tmp_path / "a")
    model = make("bert").eval()
    ran = []
    model.bert.encoder.layer[0].register_forward_hook(lambda m, i, o: ran.append(o is i[0]))
    deep = filled(model, 1, tmp_path / "a")
    assert ran == [True]  # passed on, not computed
    whole = filled(make("bert").eval(), 1, tmp_path / "b")
    batch = padded(texts()["input_ids"])
    torch.testing.assert_close(deep.states(batch), whole.states(batch))


def test_the_least_recently_used_states_are_deleted_first(tmp_path):
    size = filled(make("bert").eval(), 1, tmp_path).bytes
    [first] = entries(tmp_path)
    options = {"budget_gib": 2.5 * size / 2**30}
    filled(make("bert").eval(), 2, tmp_path, **options)
    [second] = set(entries(tmp_path)) - {first}
    os.utime(tmp_path / second, (0, 0))
    kept = filled(make("roberta").eval(), 1, tmp_path, **options)
    assert len(entries(tmp_path)) == 2
    assert first in entries(tmp_path)
    assert kept.bytes == size


def test_states_larger_than_the_budget_are_refused_with_both_sizes(tmp_path):
    with pytest.raises(
        PrefixUnavailable, match=r"it takes 0\.00 GiB, freeze\.cache\.budget_gib is 1e-09"
    ):
        filled(make("bert").eval(), 1, tmp_path, budget_gib=1e-9)
    assert not entries(tmp_path)


def test_states_of_a_killed_writer_are_not_used(tmp_path):
    filled(make("bert").eval(), 1, tmp_path)
    [name] = entries(tmp_path)
    partial = (tmp_path / name).rename(tmp_path / f".{name}.partial")
    (partial / "states.bin").write_bytes(b"half")
    assert filled(make("bert").eval(), 1, tmp_path).seconds > 0
    assert entries(tmp_path) == [name]


def test_states_that_another_process_uses_are_not_deleted(tmp_path):
    size = filled(make("bert").eval(), 1, tmp_path).bytes
    [name] = entries(tmp_path)
    with (
        FileLock(tmp_path / f"{name}.lock"),
        pytest.raises(PrefixUnavailable, match="other runs use the rest"),
    ):
        filled(make("bert").eval(), 2, tmp_path, budget_gib=1.5 * size / 2**30)
    assert entries(tmp_path) == [name]


def metrics_of(directory):
    return json.loads((directory / "metrics.json").read_text())


@pytest.mark.parametrize(("blocks", "kept"), [(0, 2), (1, 1), (2, None)])
def test_a_run_with_the_cache_is_the_run_without(run, blocks, kept):
    choice = ["freeze=last", f"freeze.blocks={blocks}"]
    ours = run(*choice, name="with")
    plain = run(*choice, "freeze.cache=false", name="without")
    a, b = metrics_of(ours), metrics_of(plain)
    for key in ("val/f1", "test/f1", "test/accuracy"):
        assert a[key] == b[key]
    for key in ("val/loss", "test/loss"):
        assert a[key] == pytest.approx(b[key], rel=1e-4)
    assert a.get("prefix_blocks") == kept
    one, two = (load_file(d / "model" / "model.safetensors") for d in (ours, plain))
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], atol=1e-4, rtol=1e-3)
    if blocks == 1:  # the next job finds the states of the last
        again = metrics_of(run(*choice, "seed=2", "trainer.max_epochs=1", name="again"))
        assert (again["prefix_blocks"], again["prefix_seconds"]) == (1, 0)
        assert again["prefix_mib"] > 0


def test_windows_of_long_sentences_are_kept_one_by_one(run_ner):
    options = ["freeze=last", "data.max_tokens=12", "data.stride=2", "trainer.max_epochs=1"]
    ours = metrics_of(run_ner(*options, name="with"))
    plain = metrics_of(run_ner(*options, "freeze.cache=false", name="without"))
    assert ours["prefix_blocks"] == 1
    assert ours["test/loss"] == pytest.approx(plain["test/loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["freeze=head", "freeze.cache=false"], r"freeze\.cache=false"),
        (["freeze=head", "task=mlm"], "masks other tokens in every epoch"),
        (["freeze=head", "trainer.limit_train_batches=2"], "on a part of the data"),
        (["freeze=head", "trainer.max_steps=3"], "less than an epoch"),
        (["freeze=head", "freeze.cache.budget_gib=1e-9"], "it takes .*budget_gib is 1e-09"),
    ],
)
def test_the_cache_is_off_where_states_would_be_wrong_and_says_why(run, caplog, options, reason):
    with caplog.at_level("INFO"):
        run(*options, "trainer.max_epochs=1", "trainer.val_check_interval=1.0")
    assert re.search(f"frozen blocks run in every step: .*{reason}", caplog.text)


def test_a_run_without_frozen_blocks_does_not_mention_them(run, caplog):
    with caplog.at_level("INFO"):
        run("trainer.max_epochs=1")
    assert "frozen blocks" not in caplog.text


def test_gradual_unfreezing_keeps_what_stays_frozen(run):
    metrics = metrics_of(run("freeze=gradual", "freeze.blocks=1"))
    assert metrics["prefix_blocks"] == 1


@pytest.mark.parametrize("name", ["states.bin", "ends.npy", "digests.npy", "about.json"])
@pytest.mark.parametrize("left", [0, 20])
def test_damaged_states_are_noticed_and_computed_again(tmp_path, caplog, name, left):
    whole = filled(make("bert"), 1, tmp_path)
    batch = padded(texts()["input_ids"][:4])
    before = whole.states(batch).clone()
    [entry] = (tmp_path / name for name in entries(tmp_path))
    (entry / name).write_bytes((entry / name).read_bytes()[:left])
    again = filled(make("bert"), 1, tmp_path)
    assert "is damaged and made again" in caplog.text
    assert again.seconds > 0
    assert torch.equal(again.states(batch), before)
    assert filled(make("bert"), 1, tmp_path).seconds == 0


def test_a_damaged_shallower_prefix_is_not_started_from(tmp_path, caplog):
    filled(make("bert"), 2, tmp_path)
    [entry] = (tmp_path / name for name in entries(tmp_path))
    (entry / "states.bin").write_bytes(b"")
    batch = padded(texts()["input_ids"][:4])
    deep = filled(make("bert"), 1, tmp_path)
    assert "damaged" in caplog.text
    alone = filled(make("bert"), 1, tmp_path / "alone")
    assert torch.equal(deep.states(batch), alone.states(batch))


def test_the_cache_is_off_where_states_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrefixUnavailable, match="file/prefix: Not a directory"):
        filled(make("bert"), 1, tmp_path / "file" / "prefix")
