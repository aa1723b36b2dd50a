"""A run whose model and data come from the Hub, against the stand-in on loopback."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.hub import Hub
from helpers.tiny import sentences, tagged_sentences
from helpers.warm import python


def serve(directory):
    """acme/reviews shaped like Rotten Tomatoes: class labels in Parquet."""
    data = directory / "datasets" / "acme" / "reviews"
    features = {
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    rows = sentences(90)
    for name, part in (("train", rows[:60]), ("validation", rows[60:75]), ("test", rows[75:])):
        labels = [["neg", "pos"].index(label) for _, label in part]
        columns = {"text": [text for text, _ in part], "label": labels}
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


@pytest.fixture(scope="module")
def train(tiny_bert, tmp_path_factory):
    """Runs `python train.py` on a machine that knows no Hub but the stand-in."""
    place = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_bert, place / "served" / "models" / "acme" / "tiny-bert")
    serve(place / "served")
    serve_tagged(place / "served")
    tiny = ["data.max_tokens=64", "model.checkpoint=acme/tiny-bert", "logger=none"]
    with Hub(place / "served") as hub:
        environment = hub.environment(place / "home")

        def run(*overrides):
            options = [*overrides, *tiny, "trainer.accelerator=cpu", "trainer.max_epochs=1"]
            return python("train.py", *options, before=environment)

        yield run


def test_tags_of_the_hub_are_read_by_their_names(train, tmp_path):
    options = ["task=ner", "data=conll2003", "data.path=acme/conll"]
    done = train(*options, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    rows = [t for s in tagged_sentences(90)[75:] for _, t in s]
    assert metrics["test/support/PER"] == rows.count("B-PER")
    assert metrics["test/support/LOC"] == rows.count("B-LOC")


def test_model_and_data_of_the_hub_train_with_label_names(train, tmp_path):
    options = ["data=rotten_tomatoes", "data.path=acme/reviews"]
    done = train(*options, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test/f1/pos" in metrics
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}
