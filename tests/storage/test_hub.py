"""A run whose model and data come from the Hub, against the stand-in on loopback."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from helpers.hub import Hub
from helpers.tiny import sentences, tagged_sentences
from helpers.warm import NO_FIGURES, python


def serve(directory):
    """acme/reviews shaped like Rotten Tomatoes: class labels in Parquet."""
    data = directory / "datasets" / "acme" / "reviews"
    features = {
        "review": {"dtype": "string", "_type": "Value"},
        "sentiment": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    rows = sentences(90)
    for name, part in (("train", rows[:60]), ("validation", rows[60:75]), ("test", rows[75:])):
        labels = [["neg", "pos"].index(label) for _, label in part]
        columns = {"review": [text for text, _ in part], "sentiment": labels}
        write_split(data / f"{name}-00000-of-00001.parquet", columns, features)


def write_split(path, columns, features):
    """A split as the Hub's Parquet branch has it, with its features in the schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = json.dumps({"info": {"features": features}})
    pq.write_table(pa.table(columns).replace_schema_metadata({"huggingface": info}), path)


def serve_tagged(directory):
    """acme/conll shaped like CoNLL-2003: a Parquet branch, tags as lists of class labels."""
    main = directory / "datasets" / "acme" / "conll"
    main.mkdir(parents=True)
    (main / "conll.py").write_text("raise RuntimeError('a loading script')")
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    classes = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
    features = {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "ner_tags": classes,
    }
    rows = tagged_sentences(90)
    branch = main.with_name("conll@refs%2Fconvert%2Fparquet") / "conll"
    for name, part in (("train", rows[:60]), ("validation", rows[60:75]), ("test", rows[75:])):
        columns = {
            "tokens": [[w for w, _ in s] for s in part],
            "ner_tags": [[names.index(t) for _, t in s] for s in part],
        }
        write_split(branch / name / "0000.parquet", columns, features)


def serve_configurations(directory):
    """acme/glue: two configurations, whose test split nobody labelled."""
    data = directory / "datasets" / "acme" / "glue"
    features = {
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    configs = ""
    for config in ("sst", "cola"):
        configs += f"- config_name: {config}\n  data_files:\n"
        for split, label in (("train", 1), ("dev", 0), ("test", -1)):
            path = f"{config}/{split}.parquet"
            configs += f"  - split: {split}\n    path: {path}\n"
            write_split(data / path, {"text": ["a", "b"], "label": [label, label]}, features)
    (data / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


@pytest.fixture(scope="module")
def typed(tiny_bert, tmp_path_factory):
    """Runs what a user types after `python`, on a machine that knows no Hub but the stand-in."""
    place = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_bert, place / "served" / "models" / "acme" / "tiny-bert")
    serve(place / "served")
    serve_tagged(place / "served")
    serve_configurations(place / "served")
    with Hub(place / "served") as hub:
        environment = hub.environment(place / "home")

        def run(*words):
            done = python(*words, env={NO_FIGURES: "yes"}, before=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        run.home = place / "home"
        yield run


@pytest.fixture
def train(typed, tmp_path):
    """Trains a tiny model of the Hub into the directory `run`."""
    tiny = ["data.max_tokens=64", "model.checkpoint=acme/tiny-bert", "logger=none"]
    tiny += ["trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'run'}"]
    return lambda *overrides: typed("train.py", *tiny, *overrides)


def test_tags_of_the_hub_are_read_by_their_names(train, tmp_path):
    train("task=ner", "data=conll2003", "data.path=acme/conll", "trainer.max_epochs=1")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    rows = [t for s in tagged_sentences(90)[75:] for _, t in s]
    assert metrics["test/support/PER"] == rows.count("B-PER")
    assert metrics["test/support/LOC"] == rows.count("B-LOC")


def test_model_and_data_of_the_hub_train_with_label_names(typed, train, tmp_path):
    said = train("data=hub", "data.path=acme/reviews", "trainer.max_epochs=1")
    run = tmp_path / "run"
    found = "data.train=train data.validation=validation data.test=test data.text=review"
    assert f"data.path=acme/reviews: found {found} data.label=sentiment" in said
    metrics = json.loads((run / "metrics.json").read_text())
    assert "test/f1/pos" in metrics
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    card = ModelCard.load(run / "model" / "README.md").data
    assert (card.base_model, card.datasets) == ("acme/tiny-bert", ["acme/reviews"])
    assert card.eval_results[0].dataset_type == "acme/reviews"

    # Prediction reads the column that was found; evaluation finds those of other data.
    (tmp_path / "new.csv").write_text("review\na good film\n")
    files = [f"input={tmp_path}/new.csv", f"output={tmp_path}/out.csv"]
    typed("-m", "thaw.predict", f"run={run}", *files)
    assert "a good film" in (tmp_path / "out.csv").read_text()
    other = ["data=hub", "data.path=acme/reviews", "split=validation"]
    assert "data.text=review" in typed("-m", "thaw.evaluate", f"run={run}", *other)


def test_a_corpus_of_the_hub_is_streamed_while_it_trains(typed, train, tmp_path):
    before = set(typed.home.rglob("*.arrow"))
    data = ["task=mlm", "task.probes=[]", "data=hub", "data.path=acme/reviews"]
    steps = ["trainer.max_steps=6", "trainer.max_epochs=-1", "trainer.val_check_interval=3"]
    train(*data, *steps, "data.streaming=true")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert set(typed.home.rglob("*.arrow")) == before, "a stream is not kept on this disk"


CHOICES = """
import json, logging, sys
from thaw.data.read.hub_choices import choices_on_hub
from thaw.errors import ThawError
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
asked = dict.fromkeys(["train", "validation", "test", "text", "label"], "auto")
for options in json.loads(sys.argv[1]):
    try:
        found = choices_on_hub(asked | options)
    except ThawError as error:
        found = str(error)
    print("FOUND", json.dumps(found))
"""


def test_configurations_and_unlabelled_tests_are_said_with_what_to_type(typed):
    asked = [{"path": "acme/glue", "config": config} for config in (None, "sst", "mnli")]
    said = typed("-c", CHOICES, json.dumps(asked))
    answers = [line[6:] for line in said.splitlines() if line.startswith("FOUND ")]
    several, found, wrong = map(json.loads, answers)
    assert "type data.config=, one of ['sst', 'cola']" in several
    assert found == {
        "train": "train",
        "validation": "dev",
        "test": None,
        "text": "text",
        "label": "label",
    }
    assert "nobody labelled its split test, so nothing is tested; data.test=" in said
    assert "data.config=mnli" in wrong
    assert "cola" in wrong
