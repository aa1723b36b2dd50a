"""A run whose model and data come from the Hub, against the stand-in on loopback."""

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from hub import Hub

from conftest import REPOSITORY, sentences


def serve(directory, tiny_bert):
    """acme/tiny-bert, and acme/reviews shaped like Rotten Tomatoes: class labels in Parquet."""
    shutil.copytree(tiny_bert, directory / "models" / "acme" / "tiny-bert")
    data = directory / "datasets" / "acme" / "reviews"
    data.mkdir(parents=True)
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
                "text": {"dtype": "string", "_type": "Value"}}  # fmt: skip
    rows = sentences(90)
    for name, part in (("train", rows[:60]), ("validation", rows[60:75]), ("test", rows[75:])):
        labels = [["neg", "pos"].index(label) for _, label in part]
        table = pa.table({"text": [text for text, _ in part], "label": labels})
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
        pq.write_table(table, data / f"{name}-00000-of-00001.parquet")


def test_model_and_data_of_the_hub_train_with_label_names(tmp_path, tiny_bert):
    serve(tmp_path / "served", tiny_bert)
    with Hub(tmp_path / "served") as hub:
        done = subprocess.run(
            [sys.executable, "train.py", "data=rotten_tomatoes", "data.path=acme/reviews",
             "data.max_tokens=64", "model.checkpoint=acme/tiny-bert", "logger=none",
             "trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'run'}"],
            cwd=REPOSITORY, capture_output=True, text=True, env=hub.environment(tmp_path / "home"),
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test/f1/pos" in metrics
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}
