"""Using a finished run."""

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from helpers.shared import copy_of
from helpers.tables import read_rows
from helpers.tiny import review_overrides, runner, sentences, write_csv
from helpers.warm import python
from thaw.errors import ThawError
from thaw.evaluate import main as evaluate
from thaw.predict import main as predict


def pipe(monkeypatch, content):
    """Makes bytes the standard input of this process."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def trained(finished):
    return finished("trainer.max_epochs=1")


@pytest.fixture(scope="module")
def messages(tiny_bert, reviews, tmp_path_factory):
    """A run on a file whose columns are called otherwise."""
    directory = tmp_path_factory.mktemp("messages")
    path = write_csv(directory / "own.csv", sentences(40, seed=3), ["Message", "stars"])
    own = [f"data.train={path}", "data.path=null", "data.text=Message", "data.label=stars"]
    splits = ["data.validation=0.2", "data.test=null"]
    run = runner(review_overrides(tiny_bert, reviews), directory)
    return run(*own, *splits, "trainer.max_epochs=1")


def test_predictions_equal_those_of_the_run_and_keep_the_inputs_columns(trained, reviews, tmp_path):
    out = tmp_path / "out.csv"
    count = predict(
        [f"run={trained}", f"input={reviews / 'test.csv'}", f"output={out}", "accelerator=cpu"]
    )
    ours = pq.read_table(trained / "predictions.parquet").to_pylist()
    got = list(read_rows(out))
    assert count == len(got) == len(ours)
    for a, b in zip(ours, got, strict=True):
        assert (a["text"], a["label"], a["prediction"]) == (b["text"], b["label"], b["prediction"])
        assert float(b["probability/pos"]) == pytest.approx(a["probability/pos"], abs=1e-5)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_every_format_is_written(trained, reviews, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    predict([f"run={trained}", f"input={reviews / 'test.csv'}", f"output={out}", "accelerator=cpu"])
    assert len(list(read_rows(out))) == 22


def test_standard_input_is_a_text_a_line_and_output_is_jsonl(trained, monkeypatch, capsys):
    pipe(monkeypatch, b"a good film\na bad film\n")
    predict([f"run={trained}", "input=-", "accelerator=cpu"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["a good film", "a bad film"]
    assert all(row["prediction"] in ("neg", "pos") for row in rows)


def test_text_lines_are_what_the_run_read_whatever_its_column(
    messages, tmp_path, monkeypatch, capsys
):
    lines = "a good film\n\n"
    (tmp_path / "new.txt").write_text(lines)
    pipe(monkeypatch, lines.encode())
    capsys.readouterr()
    for given in ("-", tmp_path / "new.txt"):
        assert predict([f"run={messages}", f"input={given}", "accelerator=cpu"]) == 2
        out, err = capsys.readouterr()
        assert [json.loads(line)["Message"] for line in out.splitlines()] == ["a good film", ""]
        assert "1 of 2 texts are empty" in err


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("utf-8", "\ufeffcafé très bon\n".encode()),
        ("cp1252", "café très bon\r\n".encode("cp1252")),
        ("utf-16", "café très bon\n".encode("utf-16")),
    ],
)
def test_standard_input_is_read_in_its_encoding(trained, monkeypatch, capsys, encoding, content):
    pipe(monkeypatch, content)
    assert predict([f"run={trained}", "input=-", f"encoding={encoding}", "accelerator=cpu"]) == 1
    assert json.loads(capsys.readouterr().out)["text"] == "café très bon"


def test_standard_input_in_another_encoding_is_refused_with_the_byte(trained, monkeypatch):
    pipe(monkeypatch, b"a film\ncaf\xe9\n")
    with pytest.raises(ThawError, match=r"standard input is not utf-8: byte 10 \(0xe9\) in line 2"):
        predict([f"run={trained}", "input=-", "accelerator=cpu"])


def test_columns_of_the_input_that_are_called_as_ours_are_kept(trained, tmp_path, capsys, caplog):
    own = {"text": "a good film", "prediction": "mine", "probability/pos": "7", "label": "x"}
    (tmp_path / "new.jsonl").write_text(json.dumps(own) + "\n" + json.dumps(own) + "\n")
    assert predict([f"run={trained}", f"input={tmp_path / 'new.jsonl'}", "accelerator=cpu"]) == 2
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        assert own.items() <= row.items()
        assert row["prediction_2"] in ("neg", "pos")
        assert 0 < row["probability/pos_2"] < 1
        assert 0 < row["probability/neg"] < 1
    [said] = [r.getMessage() for r in caplog.records if "are kept" in r.getMessage()]
    assert "'prediction', 'probability/pos'" in said
    assert "'prediction_2', 'probability/pos_2'" in said


def test_a_later_row_with_a_column_called_as_ours_is_an_error(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("thaw.predict.BATCH", 1)
    lines = '{"text": "a film"}\n{"text": "a film", "prediction": "mine"}\n'
    (tmp_path / "new.jsonl").write_text(lines)
    with pytest.raises(ThawError, match="row 2 has a column 'prediction', which the first rows"):
        predict([f"run={trained}", f"input={tmp_path / 'new.jsonl'}", "accelerator=cpu"])


def test_the_input_is_not_written_over_however_it_is_spelled(trained, reviews, tmp_path):
    (tmp_path / "in.csv").write_bytes((reviews / "test.csv").read_bytes())
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / ".." / "in.csv"
    with pytest.raises(ThawError, match="input and output are the same file"):
        predict([f"run={trained}", f"input={tmp_path / 'in.csv'}", f"output={again}"])


def test_half_an_emoji_is_replaced_and_counted(trained, tmp_path, caplog):
    lines = r'{"text": "a good film \ud83d", "id": "\ude00"}' + "\n" + r'{"text": "\ud83d\ude00"}'
    (tmp_path / "new.jsonl").write_text(lines)
    out = tmp_path / "out.csv"
    arguments = [f"run={trained}", f"input={tmp_path / 'new.jsonl'}", f"output={out}"]
    assert predict([*arguments, "accelerator=cpu"]) == 2
    first, second = read_rows(out)
    assert (first["text"], first["id"]) == ("a good film \ufffd", "\ufffd")
    assert second["text"] == "\U0001f600"
    assert "1 in 'text', 1 in 'id'; the first in row 1" in caplog.text


@pytest.mark.parametrize("command", [predict, evaluate])
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_usage_is_printed_where_it_is_asked_for(capsys, command, word):
    with pytest.raises(SystemExit) as end:
        command([word])
    assert not end.value.code
    assert capsys.readouterr().out.startswith("usage: python -m thaw.")


def test_a_file_is_predicted_in_pieces_whose_order_is_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("thaw.tasks.predictors.base.CHUNK", 2)
    rows = [(text,) for text, _ in sentences(50, seed=5)]
    path = write_csv(tmp_path / "new.csv", rows, ["text"])
    out = tmp_path / "out.jsonl"
    predict([f"run={trained}", f"input={path}", f"output={out}", "batch_size=4", "accelerator=cpu"])
    assert [row["text"] for row in read_rows(out)] == [text for (text,) in rows]


def test_a_later_row_without_the_column_is_named(trained, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "a film"}\n{"review": "a film"}\n')
    with pytest.raises(ThawError, match=r"new\.jsonl: row 2 has no 'text'; it has 'review'"):
        predict([f"run={trained}", f"input={path}", "accelerator=cpu"])


def test_a_reader_that_stops_early_ends_it_without_a_word(trained, reviews):
    arguments = f"run={trained} input={reviews / 'test.csv'} accelerator=cpu"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m thaw.predict {arguments} | head -1"],
        capture_output=True,
        text=True,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_standard_input_holds_texts_only(trained):
    with pytest.raises(ThawError, match="format=table: standard input is read as a text a line"):
        predict([f"run={trained}", "input=-", "format=table"])


def test_another_text_column_can_be_named(trained, tmp_path, capsys):
    path = write_csv(tmp_path / "new.csv", [("fine film", 3)], ["review", "id"])
    with pytest.raises(ThawError, match=r"no column 'text'; it has 'review', 'id'\. Set text="):
        predict([f"run={trained}", f"input={path}"])
    predict([f"run={trained}", f"input={path}", "text=review", "accelerator=cpu"])
    assert json.loads(capsys.readouterr().out)["id"] == "3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=a.csv"], r"run must be given.\nusage"),
        (["run=nowhere", "input=a.csv"], "run=nowhere: no such directory"),
        (["rn=x"], "no option rn. Did you mean run"),
        (["help"], "expected key=value"),
    ],
)
def test_a_wrong_command_is_explained(arguments, message):
    with pytest.raises(ThawError, match=message):
        predict(arguments)


def test_a_directory_without_a_finished_run_is_explained(tmp_path):
    (tmp_path / "train.log").touch()
    with pytest.raises(ThawError, match=r"has no model/.*it holds train\.log"):
        predict([f"run={tmp_path}", "input=a.csv"])


def test_evaluation_of_the_runs_own_data_gives_its_scores_again(trained, tmp_path):
    out = tmp_path / "metrics.json"
    got = evaluate([f"run={trained}", f"output={out}", "trainer.accelerator=cpu"])
    metrics = json.loads((trained / "metrics.json").read_text())
    for name, value in got.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name
    assert json.loads(out.read_text()) == got


def test_a_finished_run_needs_neither_its_variables_nor_its_directory(
    run, reviews, tmp_path, monkeypatch
):
    monkeypatch.setenv("CORPUS", str(reviews))
    monkeypatch.chdir(reviews)
    own = ["data.path=null", "data.train=${oc.env:CORPUS}/train.csv", "data.test=test.csv"]
    trained = run(*own, "data.validation=validation.csv", "trainer.max_epochs=1")
    monkeypatch.delenv("CORPUS")
    monkeypatch.chdir(tmp_path)
    arguments = [f"run={trained}", "trainer.accelerator=cpu"]
    out = tmp_path / "out.csv"
    new = [f"input={reviews / 'test.csv'}", f"output={out}", "accelerator=cpu"]
    assert predict([arguments[0], *new]) == 22
    assert "test/f1" in evaluate(arguments)
    assert "train/f1" in evaluate([*arguments, "split=train"])
    assert "test/f1" in evaluate(
        [*arguments, "data=files", f"data.test={reviews / 'validation.csv'}"]
    )


def test_evaluation_of_other_data(trained, tmp_path):
    path = write_csv(tmp_path / "new.tsv", [], [])
    path.write_text("review\tstars\na good film\tpos\na bad film\tneg\n")
    got = evaluate(
        [
            f"run={trained}",
            "data=files",
            f"data.test={path}",
            "data.text=review",
            "data.label=stars",
            "trainer.accelerator=cpu",
        ]
    )
    assert 0 <= got["test/accuracy"] <= 1


def test_evaluation_of_data_of_the_same_kind_keeps_the_runs_columns(messages, tmp_path):
    other = write_csv(tmp_path / "other.csv", sentences(9, seed=4), ["Message", "stars"])
    arguments = [f"run={messages}", "trainer.accelerator=cpu"]
    assert "test/f1" in evaluate([*arguments, "data=files", f"data.test={other}"])
    assert {key.split("/")[0] for key in evaluate([*arguments, "split=validation"])} == {"val"}


def test_evaluation_refuses_several_labels_where_the_model_knows_one(trained, tmp_path):
    path = write_csv(tmp_path / "new.csv", [("a film", "neg|pos")], ["text", "label"])
    with pytest.raises(ThawError, match="the data has several labels a text, the model has one"):
        evaluate([f"run={trained}", "data=files", f"data.test={path}", "data.label_separator='|'"])


def test_evaluation_refuses_a_split_that_does_not_exist(trained):
    with pytest.raises(ThawError, match="split=tset: expected one of train, validation, test"):
        evaluate([f"run={trained}", "split=tset"])
    with pytest.raises(ThawError, match=r"no option splt\. Did you mean split"):
        evaluate([f"run={trained}", "splt=test"])


def test_evaluation_refuses_labels_that_the_model_does_not_know(trained, tmp_path):
    path = write_csv(tmp_path / "new.csv", [("a film", "meh")], ["text", "label"])
    with pytest.raises(ThawError, match=r"labels that train lacks, .*'meh' \(1\)"):
        evaluate([f"run={trained}", "data=files", f"data.test={path}"])


MALFORMED = [
    '{"text": "a good film"}',
    '{"text": ["no", "text"]}',
    "not JSON",
    '{"other": 1}',
    '["a list"]',
    '{"text": "a bad film"}',
]


def test_malformed_rows_are_skipped_and_counted(trained, tmp_path):
    (tmp_path / "new.jsonl").write_text("\n".join(MALFORMED) + "\n")
    words = [f"run={trained}", f"input={tmp_path / 'new.jsonl'}", "accelerator=cpu"]
    done = python("-m", "thaw.predict", *words, "on_error=skip")
    assert done.returncode == 3, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, True, False]
    assert rows[0]["prediction"] in ("neg", "pos")
    assert rows[1]["text"] == ["no", "text"]
    assert "row 2: text is ['no', 'text']; expected a text" in rows[1]["error"]
    assert "line 3: not JSON" in rows[2]["error"]
    assert "row 4 has no 'text'; it has 'other'" in rows[3]["error"]
    assert "4 of 6 rows are skipped; the first: " in done.stderr
    stopped = python("-m", "thaw.predict", *words)
    assert (stopped.returncode, stopped.stdout) == (2, "")


def test_an_empty_text_is_a_row_that_is_skipped_and_null_is_empty_too(trained, tmp_path, capsys):
    texts = ["", "a good film", None, "  "]
    (tmp_path / "new.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    words = [f"run={trained}", f"input={tmp_path / 'new.jsonl'}", "accelerator=cpu"]
    assert predict([*words, "on_error=skip"]) == 4
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert ["prediction" in row for row in rows] == [False, True, False, False]
    assert rows[2]["error"].endswith("new.jsonl: row 3: the text is empty.")
    assert "3 of 4 rows are skipped" in err
    predict(words)
    assert "3 of 4 texts are empty" in capsys.readouterr().err


def test_an_input_in_utf8_is_read_as_it_by_a_run_of_another_encoding(
    finished, tmp_path, capsys, caplog
):
    trained = copy_of(finished(), tmp_path / "run")
    for name in ("config.yaml", "resolved.yaml"):
        path = trained / ".hydra" / name
        text = path.read_text()
        assert "encoding: utf-8" in text
        path.write_text(text.replace("encoding: utf-8", "encoding: cp1252"))
    words = [f"run={trained}", "accelerator=cpu"]
    (tmp_path / "new.csv").write_text("text\nGrüße\n", "utf-8")
    (tmp_path / "new.txt").write_text("Grüße\n", "utf-8")
    (tmp_path / "old.csv").write_text("text\nGrüße\n", "cp1252")
    for name in ("new.csv", "new.txt", "old.csv"):
        predict([*words, f"input={tmp_path / name}"])
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["text"] == "Grüße"
        assert (f"{name}: read as UTF-8" in caplog.text) == name.startswith("new")


def test_a_row_that_stops_the_others_is_answered_alone(finished, tmp_path, capsys):
    trained = finished("task=mlm", "task.probes=[]", "trainer.max_epochs=1")
    capsys.readouterr()
    (tmp_path / "new.txt").write_text("a [MASK] film\nno mask\na bad [MASK]\n")
    words = [f"run={trained}", f"input={tmp_path / 'new.txt'}", "accelerator=cpu"]
    assert predict([*words, "on_error=skip"]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "has no [MASK]" in rows[1]["error"]
    assert [len(row.get("masks", ())) for row in rows] == [1, 0, 1]


def answers_each_line(form, stdin, stdout):
    for text in ("a good film", "a bad film", "the plot"):
        line = text if form == "text" else json.dumps({"text": text, "id": 1})
        stdin.write(line + "\n")
        stdin.flush()
        assert json.loads(stdout.readline())["text"] == text
    stdin.close()


def test_a_line_is_answered_before_the_next_one_is_written(trained):
    words = [f"run={trained}", "input=-", "stream=true", "accelerator=cpu"]
    command = [sys.executable, "-m", "thaw.predict", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        answers_each_line("text", process.stdin, process.stdout)
    assert process.returncode == 0


def test_a_line_of_json_is_answered_before_the_next_one_is_written(trained, monkeypatch):
    (read, write), (answers, said) = os.pipe(), os.pipe()
    words = [f"run={trained}", "input=-", "format=jsonl", "stream=true", "accelerator=cpu"]
    with open(read) as stdin, open(said, "w") as stdout, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        done = pool.submit(predict, words)
        with open(write, "w") as ours, open(answers) as theirs:
            answers_each_line("jsonl", ours, theirs)
            assert done.result() == 3


@pytest.mark.parametrize("option", ["on_error=ignore", "stream=yes"])
def test_an_option_that_is_none_is_refused(trained, option):
    with pytest.raises(ThawError, match=r"expected stop or skip|expected false or true"):
        predict([f"run={trained}", "input=-", option])
