"""The card of a model says for the Hub and for people what it is of, and what to be wary of."""

import json
from types import SimpleNamespace

import pytest
from huggingface_hub import EvalResult, ModelCard

from thaw.cli.check import plain
from thaw.cli.compose import compose
from thaw.data.read.texts import Source
from thaw.data.summary import DataSummary, SplitSummary
from thaw.report.model_card import model_card

HUB = "data.path=acme/reviews", "data.config=short", "data.revision=v2", "data.test=tested"


@pytest.fixture
def card(tmp_path):
    """Makes the card of a config, of metrics and of a summary of its data."""

    def made(*overrides, metrics=(), splits=(), left_out=(), base=""):
        (tmp_path / "README.md").write_text(base)
        cfg = plain(compose(["run_dir=run", *overrides]))
        sources = [Source("a.csv", {}, 90, dict(left_out))]
        data = DataSummary("reviews", 32, sources, dict(splits))
        task = SimpleNamespace(
            library="transformers", pipeline="text-classification", pipeline_options={}
        )
        module = SimpleNamespace(
            summary=lambda: data,
            sizes=lambda: {"train": "9"},
            tokenizer=SimpleNamespace(name_or_path=str(tmp_path)),
            pipeline_options={},
        )
        return ModelCard(model_card(cfg, dict(metrics), task, module, "1.25 of 10 (20 steps)"))

    return made


def test_a_score_of_two_names_is_in_the_card_once(card):
    metrics = {"test/f1": 0.75, "test/f1_binary": 0.75, "test/f1_macro": 0.5}
    found = card("data=files", metrics=metrics)
    assert [result.metric_type for result in found.data.eval_results] == ["f1", "f1_macro"]
    assert "f1_binary" not in found.text


def test_scores_are_in_the_model_index_with_the_data_that_they_are_of(card):
    metrics = {"test/f1": 0.75, "test/f1/pos": 0.5, "val/f1": 0.9, "test/perplexity": float("inf")}
    found = card("data=files", *HUB, metrics=metrics)
    [result] = found.data.eval_results
    assert result == EvalResult(
        task_type="text-classification",
        dataset_type="acme/reviews",
        dataset_name="files",
        dataset_config="short",
        dataset_revision="v2",
        dataset_split="tested",
        metric_type="f1",
        metric_value=0.75,
    )
    assert found.data.datasets == ["acme/reviews"]
    assert "| f1 | 0.7500 |" in found.text
    assert "| perplexity | inf |" in found.text
    json.dumps(found.data.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("overrides", "base", "known"),
    [
        (["model=minilm"], "license: mit", {"license": "mit"}),
        (["model.checkpoint=acme/bert"], "language: [en, de]", {"base_model": "acme/bert"}),
        (["model.checkpoint={here}"], "license: mit\nlanguage: [en]\nbase_model: acme/bert", {}),
        (["model.checkpoint={here}"], "license: [broken", {"base_model": None, "license": None}),
    ],
)
def test_what_was_fine_tuned_is_known_from_its_name_and_its_own_card(
    card, tmp_path, overrides, base, known
):
    written = [word.format(here=tmp_path) for word in overrides]
    found = card(*written, base=f"---\n{base}\n---\n")
    expected = {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2"
        if overrides == ["model=minilm"]
        else "acme/bert",
        "license": "mit" if "mit" in base else None,
        "language": "en" if "[en]" in base else None,
    } | known
    assert {key: getattr(found.data, key) for key in expected} == expected
    assert str(tmp_path) not in str(found)


def test_labels_stay_cells_of_their_table_whatever_their_names(card):
    names = {"a|b": 50, "<b>\nc": 40, **{f"label {i:04}": 20 for i in range(998)}}
    text = card(splits={"train": SplitSummary(90, 0, names)}).text
    assert "| a\\|b | 50 |\n| &lt;b>\\nc | 40 |" in text
    assert "| and 980 more: config.json has all |  |" in text
    assert "label 0017" in text
    assert "label 0018" not in text


def test_limits_say_what_was_cut_or_left_out_and_which_labels_are_rare(card):
    splits = {
        "train": SplitSummary(80, 2, {"pos": 77, "neg": 3}, cut=20),
        "test": SplitSummary(20, 0, {"pos": 20, "neg": 0}),
    }
    text = card(
        splits=splits,
        metrics={"test/f1": 1.0},
        left_out={"empty text": 4, "spans overlapped by a longer one": 1},
    ).text
    assert [line for line in text.splitlines() if line.startswith("- ")] == [
        "- 20 of 80 texts of train (25.0%) are longer than 32 tokens: they were read up to there.",
        "- Left out as another split has the same text: 2 texts of train.",
        "- Labels with fewer than 10 texts in train: neg (3).",
        "- Labels with fewer than 10 texts in test: neg (0).",
        "- Of 90 rows, left out: 4 empty text, 1 span overlapped by a longer one.",
    ]
    assert "Nothing was tested" in card().text


def test_a_model_of_another_run_is_named_beside_what_that_run_began_with(card, tmp_path):
    words = [f"model.checkpoint={tmp_path}", "model.name=mlm/model"]
    found = card(*words, base="---\nbase_model: acme/bert\n---\n")
    assert "| base model | acme/bert, by way of mlm/model |" in found.text


def test_a_run_writes_its_card(run, tiny_bert, reviews):
    directory = run("trainer.max_epochs=1")
    found = ModelCard.load(directory / "model" / "README.md")
    assert found.data.pipeline_tag == "text-classification"
    assert found.data.tags == ["thaw", "sequence"]
    scores = json.loads((directory / "metrics.json").read_text())
    values = {r.metric_type: r.metric_value for r in found.data.eval_results}
    assert values["f1"] == pytest.approx(scores["test/f1"], abs=1e-6)
    name = "/".join(tiny_bert.parts[-2:])
    for part in (
        f"| data | {reviews.name} |",
        f"| base model | {name}, a directory |",
        "| learning rate | 0.003 |",
        "train 64",
        "| neg | ",
    ):
        assert part in found.text
    assert "truncation=True, max_length=" in found.text
    written = "".join(p.read_text() for p in (directory / "model").glob("*.json"))
    assert str(directory.parent) not in written + str(found), "paths of this disk stay here"
