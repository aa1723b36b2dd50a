"""data.long=windows: one label of a text that is longer than the model reads."""

import random

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import thaw
from helpers.runs import metrics_of
from helpers.tiny import BAD, GOOD, PLAIN, runner, write_csv
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.sequence import SequenceData
from thaw.data.setfit import SetFitData
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.export import main as export
from thaw.predict import main as predict
from thaw.tasks.sequence import SequenceClassification

pytestmark = pytest.mark.no_figures

WINDOWS = ["data.long=windows", "data.max_tokens=32", "trainer.max_epochs=1"]


def documents(count, seed=0):
    """Texts of 70 to 120 words whose label follows from words after the 64th token, the last that
    the model has a position for."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        label = rng.choice(["neg", "pos"])
        words = rng.choices(PLAIN, k=rng.randint(70, 120))
        for place in rng.sample(range(65, len(words)), 4):
            words[place] = rng.choice(GOOD if label == "pos" else BAD)
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """A directory with train.csv (128 documents), validation.csv (40) and test.csv (60)."""
    directory, rows = tmp_path_factory.mktemp("papers"), documents(228)
    for name, part in (("train", rows[:128]), ("validation", rows[128:168]), ("test", rows[168:])):
        write_csv(directory / f"{name}.csv", part, ["text", "label"])
    return directory


@pytest.fixture
def run(overrides, papers, tmp_path):
    kept = [w for w in overrides if not w.startswith("data.path")]
    return runner([*kept, f"data.path={papers}"], tmp_path)


def make_data(tiny_bert, papers, **options):
    given = {"train": "train.csv", "validation": None, "max_tokens": 32, "long": "windows"}
    given |= {"name": "files", "path": str(papers), "batch_size": 5} | options
    return SequenceData(tokenizer=tiny_bert, **given)


@pytest.fixture
def batch(tiny_bert, papers):
    data = make_data(tiny_bert, papers)
    data.read()
    return next(iter(data.train_dataloader()))


def make_task(tiny_bert, **options):
    torch.manual_seed(0)
    options = {"window_stride": 8, **options}
    return SequenceClassification(tiny_bert, ["neg", "pos"], **options).eval()


def gradients(task, loss):
    task.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in task.parameters()]


def inputs_of(batch):
    return {k: v for k, v in batch.items() if k not in ("labels", "row")}


def test_windows_learn_what_stands_after_the_cut_and_cutting_cannot(run):
    learns = ["callbacks.early_stopping=null", "task.learning_rate=1e-2", "trainer.max_epochs=8"]
    found = metrics_of(run(*WINDOWS[:2], "task.window_pooling=max", *learns, name="windows"))
    cut = metrics_of(run("data.max_tokens=64", *learns, name="cut"))
    assert found["test/accuracy"] >= 0.95
    assert cut["test/accuracy"] <= 0.7


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_loss_and_gradients_are_those_of_transformers_logits_pooled_by_hand(
    pooling, tiny_bert, batch, tmp_path
):
    task = make_task(tiny_bert, window_pooling=pooling)
    loss = task.loss(task(**inputs_of(batch)), batch["labels"])
    task.model.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    windows = {k: v for k, v in inputs_of(batch).items() if k != "windows"}
    assert len(windows["input_ids"]) == batch["windows"].sum() > 2 * len(batch["labels"])
    texts = model(**windows).logits.split(batch["windows"].tolist())
    by_hand = [t.mean(0) if pooling == "mean" else t.amax(0) for t in texts]
    expected = torch.nn.functional.cross_entropy(torch.stack(by_hand), batch["labels"])
    torch.testing.assert_close(loss, expected)
    expected.backward()
    for own, other in zip(gradients(task, loss), model.parameters(), strict=True):
        torch.testing.assert_close(own, other.grad, atol=1e-6, rtol=1e-4)


def test_a_batch_in_chunks_has_the_same_gradients_and_keeps_states_of_one_chunk(tiny_bert, batch):
    def step(at_once):
        task, sizes, kept = make_task(tiny_bert, windows_at_once=at_once), [], 0

        def keep(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        task.model.register_forward_pre_hook(
            lambda module, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
        )
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.loss(task(**inputs_of(batch)), batch["labels"])
        return gradients(task, loss), kept, max(sizes)

    whole, chunked = step(1000), step(3)
    for one, other in zip(whole[0], chunked[0], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert whole[2] == batch["windows"].sum()
    assert chunked[2] == 3
    assert chunked[1] < whole[1] / 20, "the states of a chunk are not kept"


def test_dropout_is_the_same_when_a_chunk_is_computed_again(tiny_bert, batch):
    task = make_task(tiny_bert, windows_at_once=3).train()
    seen = {}
    task.model.base_model.embeddings.register_forward_hook(
        lambda module, args, inputs, out: seen.setdefault(
            inputs["input_ids"].numpy().tobytes(), []
        ).append(out.detach()),
        with_kwargs=True,
    )
    task.loss(task(**inputs_of(batch)), batch["labels"]).backward()
    assert all(len(twice) == 2 for twice in seen.values())
    for first, again in seen.values():
        torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_all_that_reads_a_run_pools_its_windows(run, papers, tmp_path):
    done = run(*WINDOWS, "data.stride=5")
    rows = list(rows_of(done / "predictions.parquet", Reading()))
    words = [len(row["text"].split()) for row in rows]  # each is a token; 30 a window, 5 shared
    assert [row["windows"] for row in rows] == [1 + -(-(n - 30) // 25) for n in words]
    expected = torch.tensor([[row[f"probability/{n}"] for n in ("neg", "pos")] for row in rows])
    texts = [row["text"] for row in rows]
    for place in (done, done / "model"):
        model = thaw.load(place, accelerator="cpu", batch_size=7)
        found = torch.tensor(model.predict_proba(texts))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    output = tmp_path / "out.csv"
    predict([f"run={done}", f"input={papers / 'test.csv'}", f"output={output}", "accelerator=cpu"])
    assert [r["prediction"] for r in rows_of(output, Reading())] == [r["prediction"] for r in rows]
    other = ["data=files", f"data.test={papers / 'test.csv'}"]
    for again in ([], other):
        metrics = evaluate([f"run={done}", *again, "trainer.accelerator=cpu"])
        assert metrics["test/loss"] == pytest.approx(metrics_of(done)["test/loss"], rel=1e-5)


def test_frozen_blocks_are_computed_once_for_each_window(run, caplog):
    caplog.set_level("INFO")
    cached, plain = (
        run(*WINDOWS, "freeze=last", "freeze.blocks=1", *more, name=f"run-{len(more)}")
        for more in ([], ["freeze.cache=false"])
    )
    assert "texts of train computed" in caplog.text
    assert metrics_of(cached)["test/loss"] == pytest.approx(
        metrics_of(plain)["test/loss"], rel=1e-4
    )


def test_a_model_trained_on_with_cut_texts_is_read_so(run):
    first = run(*WINDOWS)
    again = run(f"model.checkpoint={first / 'model'}", "trainer.max_epochs=1", name="again")
    assert thaw.load(first).predictor.windows == {"stride": 8, "pooling": "mean"}
    assert thaw.load(again).predictor.windows is None
    with pytest.raises(ThawError, match="the models do not agree"):
        thaw.load([first, again])


def test_regression_reads_windows_too(run, papers, tmp_path):
    rows = [(text, 5 if label == "pos" else 1) for text, label in documents(40)]
    path = write_csv(tmp_path / "train.csv", rows, ["text", "label"])
    own = ["task=regression", "data.validation=0.2", f"data.test={path}", f"data.train={path}"]
    done = run(*WINDOWS, *own)
    table = list(rows_of(done / "predictions.parquet", Reading()))
    predicted = thaw.load(done, accelerator="cpu").predict([row["text"] for row in table])
    assert predicted == pytest.approx([row["prediction"] for row in table], abs=1e-4)
    assert min(row["windows"] for row in table) > 1
    export([f"run={done}"])
    again = thaw.load(done, engine="onnx").predict([row["text"] for row in table])
    assert again == pytest.approx(predicted, abs=1e-3)
    with pytest.raises(ThawError, match="measured by F1, which task=regression has none of"):
        export([f"run={done}", "quantize=int8"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"long": "cut", "stride": 4}, r"data\.stride=4 is for windows: add data\.long=windows"),
        ({"text": ["text", "label"]}, r"data\.long=windows takes one text column"),
        ({"stride": 30}, r"data\.stride=30: .* data\.max_tokens=32 can share 0 to 29 tokens"),
    ],
)
def test_what_windows_cannot_be_is_refused(options, message, tiny_bert, papers):
    with pytest.raises(ThawError, match=message):
        make_data(tiny_bert, papers, **options)


def test_setfit_has_no_windows(tiny_bert):
    with pytest.raises(ThawError, match=r"data\.long=windows is for task=sequence and task=regr"):
        SetFitData(tokenizer=tiny_bert, name="files", train="a.csv", max_tokens=32, long="windows")


def test_the_warning_of_a_cut_names_the_option(tiny_bert, papers, caplog):
    data = make_data(tiny_bert, papers, long="cut")
    data.read()
    assert "128 of 128 texts are longer than data.max_tokens=32" in caplog.text
    assert "data.long=windows reads all of them" in caplog.text
