"""Runs on files of other formats, and what predict and evaluate make of such files."""

import json

import pytest

from helpers.tables import read_rows
from helpers.tiny import sentences
from thaw.cli.resume import command_to_resume
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict

READER = """
def rows(path):
    for line in path.read_text("utf-8").splitlines():
        label, text = line.split("|", 1)
        yield {"text": text, "label": label}
"""


def predicted(capsys, *arguments):
    capsys.readouterr()
    predict([*arguments, "accelerator=cpu"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_table_without_a_header_trains_and_is_predicted(run, tmp_path, capsys):
    lines = [f'{label}\t"{text}\n' for text, label in sentences(60, seed=3)]
    (tmp_path / "train.tsv").write_text("".join(lines))
    trained = run(
        f"data.path={tmp_path}",
        "data.train=train.tsv",
        "data.validation=0.2",
        "data.test=0.2",
        "data.header=false",
        "data.text=1",
        "data.label=0",
        "data.quoting=none",
        "trainer.max_epochs=1",
    )
    metrics = evaluate([f"run={trained}", "trainer.accelerator=cpu"])
    assert metrics["test/f1"] == pytest.approx(
        json.loads((trained / "metrics.json").read_text())["test/f1"], abs=1e-6
    )
    (tmp_path / "new.tsv").write_text("".join(lines[:5]))
    rows = predicted(capsys, f"run={trained}", f"input={tmp_path}/new.tsv")
    assert [row["1"] for row in rows] == ['"' + text for text, _ in sentences(60, seed=3)[:5]]
    (tmp_path / "new.csv").write_text('id,1\n7,"good"\n')
    arguments = ["header=true", "quoting=csv"]
    [row] = predicted(capsys, f"run={trained}", f"input={tmp_path}/new.csv", *arguments)
    assert (row["id"], row["1"]) == ("7", "good")


def test_prediction_reads_what_annotators_rejected_too(finished, tmp_path, capsys):
    trained = finished("trainer.max_epochs=1")
    records = [{"text": t, "label": "pos", "answer": "reject"} for t, _ in sentences(4, seed=5)]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, records)))
    rows = predicted(capsys, f"run={trained}", f"input={tmp_path}/new.jsonl")
    assert [row["text"] for row in rows] == [record["text"] for record in records]
    (tmp_path / "new.json").write_text(json.dumps(records))
    assert len(predicted(capsys, f"run={trained}", f"input={tmp_path}/new.json")) == 4
    fasttext = "".join(f"__label__pos {text}\n" for text, _ in sentences(3, seed=5))
    (tmp_path / "new.txt").write_text(fasttext)
    rows = predicted(capsys, f"run={trained}", f"input={tmp_path}/new.txt")
    assert [row["text"] for row in rows] == [text for text, _ in sentences(3, seed=5)]


def test_a_reader_that_a_run_names_is_run_where_it_is_trusted(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "bar_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    lines = [f"{label}|{text}\n" for text, label in sentences(60, seed=3)]
    (tmp_path / "train.bar").write_text("".join(lines))
    (tmp_path / "plain.csv").write_text("text\na good film\n")
    trained = run(
        f"data.path={tmp_path}",
        "data.train=train.bar",
        "data.validation=0.2",
        "data.test=0.2",
        "data.reader=bar_reader.rows",
        "trainer.max_epochs=1",
    )
    arguments = [f"run={trained}", f"input={tmp_path}/train.bar"]
    for refused in (arguments, [*arguments, "trust=bar"]):
        with pytest.raises(ThawError, match=r"names code to read files with, .*trust=bar_reader"):
            predict(refused)
    assert len(predicted(capsys, *arguments, "trust=bar_reader")) == 60
    assert len(predicted(capsys, *arguments, "reader=bar_reader.rows")) == 60
    plain = [f"run={trained}", f"input={tmp_path}/plain.csv", "format=csv"]
    assert predicted(capsys, *plain)[0]["text"] == "a good film"
    with pytest.raises(
        ThawError, match=r"data\.reader=bar_reader\.rows: .*trust=bar_reader runs it"
    ):
        evaluate([f"run={trained}"])
    assert evaluate([f"run={trained}", "trust=bar_reader", "trainer.accelerator=cpu"])
    with pytest.raises(ThawError, match=r"names code to run: type data\.reader=bar_reader\.rows"):
        command_to_resume([f"resume={trained}"])


def test_words_of_a_run_are_found_in_files_of_its_kind(run, tmp_path, capsys):
    sentence = "# a\n1\tIda{}\tB-PER\tO\n2\t\tO\tO\n3\tleft\tO\tO\n4\tOslo\tB-LOC\tO\n\n"
    (tmp_path / "train.tsv").write_text("".join(sentence.format(i) for i in range(30)))
    trained = run(
        "task=ner",
        "data=conll",
        f"data.path={tmp_path}",
        "data.train=train.tsv",
        "data.validation=0.2",
        "data.test=null",
        "data.token_column=1",
        "data.tag_column=2",
        "trainer.max_epochs=1",
    )
    rows = predicted(capsys, f"run={trained}", f"input={tmp_path}/train.tsv")
    assert [row["tokens"] for row in rows] == [[f"Ida{i}", "_", "left", "Oslo"] for i in range(30)]
    (tmp_path / "new.csv").write_text("sentence_id,tokens\n1,Ida\n1,left\n2,Oslo\n")
    rows = predicted(capsys, f"run={trained}", f"input={tmp_path}/new.csv")
    assert [row["tokens"] for row in rows] == [["Ida", "left"], ["Oslo"]]
    assert len(list(read_rows(tmp_path / "new.csv"))) == 3
