"""What a run tells to type to load its model works on texts of any length."""

import html
import json
import re

import pytest

from helpers.tiny import REPOSITORY, sentences

WORDS = 5000
LONG = " ".join(text for text, _ in sentences(1000))
LONG = " ".join(LONG.split()[:WORDS])
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def loaded(code):
    """The model that Python loads, in its last line or before."""
    lines = code.strip().splitlines()
    space = {}
    exec("\n".join(lines[:-1]), space)
    return space["model"] if "model" in space else eval(lines[-1], space)


def snippets(directory):
    """Python of the card and of the report that loads a run's model without thaw."""
    card = (directory / "model" / "README.md").read_text()
    page = html.unescape((directory / "report.html").read_text())
    place = str(directory / "model")
    found = [block.replace("<this directory>", place) for block in BLOCK.findall(card)]
    start = page.index("from transformers import" if "pipeline(" in page else "from setfit")
    found.append(re.split(r"</?(?:code|pre)", page[start:])[0])
    assert all(place in code for code in found)
    return found


@pytest.mark.parametrize("task", ["sequence", "ner", "mlm", "setfit"])
def test_a_text_of_5000_words_is_read_as_training_would(task, finished, finished_ner):
    words = {"mlm": ["task.probes=[]"], "setfit": ["task.shots=8", "task.steps=2"]}.get(task, [])
    own = [*words, "data.max_tokens=32", "trainer.max_epochs=1"]
    done = finished_ner(*own) if task == "ner" else finished(f"task={task}", *own)
    config = json.loads((done / "model" / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 32
    for code in snippets(done):
        model = loaded(code)
        if task == "sequence":
            [whole], [start] = model(LONG), model(" ".join(LONG.split()[:40]))
            assert whole == start
        elif task == "ner":
            name = f"{LONG} maarten was in oslo"
            assert isinstance(model(name), list), "the pipeline reads it in windows"
        elif task == "mlm":
            assert len(model(f"a [MASK] film {LONG}")) == 5
        else:
            assert len(model.predict([LONG])) == 1


def test_the_page_on_run_directories_shows_a_call_that_works(finished):
    done = finished("task=sequence", "data.max_tokens=32", "trainer.max_epochs=1")
    page = (REPOSITORY / "docs" / "run-directory.md").read_text()
    [block] = [b for b in BLOCK.findall(page) if "pipeline(" in b]
    block = block.replace("<run>", str(done)).replace("A warm, funny film.", LONG)
    assert loaded(block)[0]["label"] in ("neg", "pos")


def test_a_model_can_be_trained_on_with_longer_texts_than_before(finished, run):
    first = finished("task=sequence", "data.max_tokens=32", "trainer.max_epochs=1")
    longer = [f"model.checkpoint={first / 'model'}", "data.max_tokens=48"]
    again = run(*longer, "trainer.max_epochs=1")
    assert (again / "metrics.json").is_file()
