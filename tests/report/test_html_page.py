"""report.html is one complete file that is safe to open whatever its texts contain."""

import json
import logging
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from helpers.sweeps import job
from helpers.tiny import TINY_RUN, runner, write_csv
from thaw.evaluate import main as evaluate
from thaw.report.figures import image
from thaw.report.html_page import page as rendered
from thaw.report.sections import Counts, Findings, Sentences, Table, cell_text, pieces
from thaw.report.sweep import Sweep
from thaw.report.tables import score_tables, warning_table
from thaw.training.run_dir import kept_warnings

VOID = ("meta", "link", "img", "br", "hr")
EVIL = "<script>alert(1)</script> & \"quotes\" 'too' \u202eturned\u202c \x00 \x1b[0m \ud800 😀"


class Page(HTMLParser):
    """A page read with the standard library; one that is not well-formed fails."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.addresses, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert all(not name.startswith("on") for name, _ in attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def read(path):
    html = path.read_bytes().decode("utf-8")
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert "script" not in page.tags
    assert "@import" not in html
    assert "url(" not in html
    for address in page.addresses:
        assert address.startswith("data:") or "//" not in address, address
    return page


def findings(**changes):
    empty = Table("test metrics", ("metric", "value"), [])
    base = {
        "title": "sequence on reviews",
        "facts": [("model", "tiny")],
        "headline": ("test/f1", 0.5),
        "numbers": [],
        "scores": [empty],
        "sections": [],
        "trains": Table("what trained", ("part",), []),
        "usage": [],
        "config": "",
        "environment": {"thaw": "0"},
    }
    return Findings(**base | changes)


def test_a_run_leaves_a_report_with_its_scores_figures_errors_and_config(finished, reviews):
    directory = finished()
    page, metrics = (
        read(directory / "report.html"),
        json.loads((directory / "metrics.json").read_text()),
    )
    assert metrics["test/accuracy"] < 1
    for key, value in metrics.items():
        if key.startswith("test/"):
            assert cell_text(value) in page.text, key
    for part in (
        f"sequence on {reviews.name}",
        "test/f1",
        "Learning rate"[1:],
        "confusion matrix",
        "what trained",
        "block 1",
        "max_tokens: 64",
        "python -m thaw.predict",
        "lightning",
        "seed 42",
    ):
        assert part in page.text, part
    assert page.tags.count("img") == 2
    assert (directory / "report.html").stat().st_size < 500_000


def test_errors_are_wrong_predictions_with_the_highest_probability_first(finished):
    import pyarrow.parquet as pq

    directory = finished()
    page = read(directory / "report.html")
    rows = pq.read_table(directory / "predictions.parquet").to_pylist()
    wrong = [row for row in rows if row["label"] != row["prediction"]]
    wrong.sort(key=lambda row: -row[f"probability/{row['prediction']}"])
    assert wrong
    places = [page.text.index(row["text"]) for row in wrong[:20]]
    assert places == sorted(places)
    assert f"{len(wrong)} of {len(rows)} texts of the test are wrong" in page.text
    right = next(row["text"] for row in rows if row["label"] == row["prediction"])
    assert right not in page.text


def test_markup_in_labels_and_texts_is_escaped(run, tmp_path):
    # A rate of 0: one label is never predicted, so there are errors.
    rows = [(f"<img src=x onerror=alert({n})> & </td> good", "<script>") for n in range(12)]
    rows += [(f"<img src=y onerror=alert({n})> & </td> bad", "\"a'&amp;") for n in range(12)]
    path = write_csv(tmp_path / "evil.csv", rows, ["text", "label"])
    directory = run(
        "data.path=null",
        f"data.train={path}",
        f"data.validation={path}",
        f"data.test={path}",
        "task.learning_rate=0",
        "trainer.max_epochs=1",
    )
    page = read(directory / "report.html")
    assert "<script>" in page.text
    assert "\"a'&amp;" in page.text
    assert page.text.count("onerror=alert(11)> & </td>") == 1
    assert page.tags.count("img") == 2


def test_invisible_characters_of_a_text_are_made_visible(tmp_path):
    sentence = [pieces(EVIL, [(0, 8, EVIL, "missed")])] * 2
    found = findings(
        title=EVIL,
        config=EVIL,
        facts=[(EVIL, EVIL)],
        usage=[(EVIL, EVIL)],
        sections=[
            Table(EVIL, (EVIL, "n"), [[EVIL, 1], [[EVIL, EVIL], None]], EVIL, examples=True),
            Counts(EVIL, EVIL, EVIL, [EVIL], [EVIL], [[1]]),
            Sentences(EVIL, [tuple(sentence)], EVIL),
        ],
    )
    (tmp_path / "report.html").write_text(rendered("run.html", run=found), encoding="utf-8")
    page = read(tmp_path / "report.html")
    assert page.text.count("<script>alert(1)</script> & \"quotes\" 'too'") >= 12
    for unseen, shown in (
        ("\u202e", "[U+202E]"),
        ("\x00", "␀"),
        ("\x1b", "␛"),
        ("\ud800", "\ufffd"),
    ):
        assert unseen not in page.text
        assert shown in page.text
    assert "😀" in page.text


def test_entities_and_kinds_of_errors_are_marked_in_sentences(finished_ner):
    directory = finished_ner()
    page = read(directory / "report.html")
    errors = [json.loads(line) for line in (directory / "errors.jsonl").read_text().splitlines()]
    assert errors
    for kind in {error["kind"] for error in errors}:
        assert f"✗ {kind}" in page.text
    shown = sum(page.text.count(f"✗ {kind}") for kind in ("missed", "spurious"))
    assert shown == sum(error["kind"] in ("missed", "spurious") for error in errors)
    assert "mark" in page.tags
    assert "support" in page.text


def test_pretraining_shows_perplexity_and_probes_before_and_after(tiny_bert, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(f"the film was good {n}" for n in range(60)))
    go = runner(
        [
            "task=mlm",
            "data=files",
            f"data.train={path}",
            "data.validation=0.2",
            "data.test=0.2",
            "data.max_tokens=16",
            f"model.checkpoint={tiny_bert}",
            "logger=csv",
            "trainer.accelerator=cpu",
            "trainer.precision=32-true",
            "trainer.max_epochs=1",
            "task.probes=['a [MASK] film']",
        ],
        tmp_path,
    )
    directory = go()
    page, metrics = (
        read(directory / "report.html"),
        json.loads((directory / "metrics.json").read_text()),
    )
    for key in ("start/perplexity", "val/perplexity", "test/perplexity"):
        assert cell_text(metrics[key]) in page.text
    for row in json.loads((directory / "probes.json").read_text()):
        if row["stage"] in ("start", "end"):
            assert f"{row['top'][0]['token']} {row['top'][0]['probability']:.3f}" in page.text


def test_a_report_without_test_and_curve_says_so(run, overrides):
    overrides.remove("logger=csv")
    directory = run("logger=none", "data.test=null", "trainer.max_epochs=1")
    page = read(directory / "report.html")
    assert "logger=csv keeps it" in page.text
    assert "val metrics" in page.text
    assert "errors" not in page.text
    assert f"thaw.evaluate run={directory} split=validation " in page.text
    metrics = evaluate([f"run={directory}", "split=validation", "trainer.accelerator=cpu"])
    assert {"val/f1/neg", "val/f1/pos"} <= set(metrics)


def test_a_report_of_many_errors_long_texts_and_many_labels_stays_small():
    names = [f"intent {n}" for n in range(150)]
    counts = [[(i * j) % 7 for j in range(150)] for i in range(150)]
    scores = {f"test/f1/{name}": 0.5 for name in names} | {"test/f1": 0.5}
    rows = [["word " * 200, "a", "b", 0.9] for _ in range(200)]
    html = rendered(
        "run.html",
        run=findings(
            scores=score_tables(scores),
            sections=[
                Counts("confusion matrix", "gold", "predicted", names, names, counts),
                Table("errors", ("text", "gold", "predicted", "probability"), rows),
            ],
        ),
    )
    assert len(html) < 1_000_000
    assert "The 50 largest of" in Page(html).text


def test_what_a_run_warned_of_is_said_once_and_without_secrets():
    with kept_warnings() as found:
        for _ in range(2):
            logging.getLogger("thaw.data").warning("%d texts are cut, api_key=hf_abc", 3)
        logging.getLogger("thaw.data").info("all is well")
    logging.getLogger("thaw.data").warning("too late")
    [table] = warning_table(found)
    [[sentence]] = table.rows
    assert sentence.startswith("3 texts are cut")
    assert "hf_abc" not in sentence
    assert warning_table([]) == []


def test_a_figure_that_a_task_returns_is_shown_with_its_alternative_text():
    drawn = image("my figure", {"a line": lambda axes: axes.plot([1, 2])})
    kept = image("kept", {"a dot": lambda axes: axes.plot([1])}, shown=False)
    page = rendered("run.html", run=findings(sections=[drawn, kept]))
    assert (drawn.file, kept.file) == ("my_figure.png", "kept.png")
    assert drawn.png.startswith(b"\x89PNG")
    assert page.count("<img") == page.count('alt="a line"') == 1
    assert "kept" not in Page(page).text


def test_long_sentences_are_shortened_and_keep_their_entities():
    text = "x" * 5000 + "Oslo" + "y" * 5000
    found = pieces(text, [(5000, 5004, "LOC", "missed")])
    assert [p.label for p in found] == ["", "LOC", ""]
    assert found[1].text == "Oslo"
    assert "[…4,760 characters…]" in found[0].text
    assert sum(len(p.text) for p in found) < 700


def test_a_column_of_empty_cells_is_left_out():
    table = Table("splits", ("split", "longest", "cut"), [["train", "", 0], ["test", None, 2]])
    page = Page(rendered("run.html", run=findings(sections=[table])))
    assert "split cut train 0 test 2" in page.text


def test_other_data_is_offered_in_the_format_that_was_trained_with(
    finished, finished_ner, tiny_bert, tmp_path
):
    record = {"text": "the film of eva", "spans": [[12, 15, "PER"]]}
    rows = [json.dumps(record | {"text": f"{record['text']} {n}"}) for n in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    options = ["task=ner", "data=files", f"data.train={tmp_path / 'train.jsonl'}"]
    spans = runner([*options, *TINY_RUN, f"model.checkpoint={tiny_bert}"], tmp_path)(name="spans")
    for directory, offered in (
        (spans, "data=files data.test=other.jsonl"),
        (finished_ner(), "data=conll data.test=other.conll"),
        (finished(), "data=files data.test=other.csv"),
    ):
        page = read(directory / "report.html")
        assert f"thaw.evaluate run={directory} {offered} " in page.text
    given = [f"run={spans}", "data=files", f"data.test={tmp_path / 'train.jsonl'}"]
    assert "test/f1" in evaluate([*given, "trainer.accelerator=cpu"])


def sweep_in(directory):
    for number, (depth, score) in enumerate([(0, 0.5), (0, 0.7), (2, 0.8), (2, 0.9)]):
        job(
            directory,
            str(number),
            f"freeze.blocks={depth}",
            f"seed={number % 2}",
            metrics={"test/f1": score, "fit_seconds": 1.0},
        )
        (directory / str(number) / "report.html").touch()
    job(directory, "4", "freeze.blocks=99", "seed=0", reason="<b>no</b> such block")
    Sweep(directory, "val/f1").write()
    return directory / "report.html"


def test_a_sweep_shows_means_and_links_to_the_report_of_each_finished_job(tmp_path):
    page = read(sweep_in(tmp_path))
    links = [a for a in page.addresses if not a.startswith("data:")]
    assert links == [f"{n}/report.html" for n in range(4)]
    assert all((tmp_path / link).exists() for link in links)
    for part in (
        "0.6000 ± 0.1414",
        "0.8500 ± 0.0707",
        "✗ failed",
        "<b>no</b> such block",
        "freeze.blocks",
        "4 of 5",
        "0.7000",
    ):
        assert part in page.text, part
    assert page.tags.count("img") == 2


@pytest.mark.slow
def test_chromium_opens_reports_without_errors(run, run_ner, tmp_path):
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium")
    pages = [
        run(name="a") / "report.html",
        run_ner(name="b") / "report.html",
        sweep_in(tmp_path / "s"),
    ]
    for number, page in enumerate(pages):
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={tmp_path / f'profile{number}'}",
                "--enable-logging=stderr",
                "--dump-dom",
                f"file://{page}",
            ],
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
        assert "CONSOLE" not in done.stderr, done.stderr
        assert Page(done.stdout).text == Page(page.read_text(encoding="utf-8")).text
