"""Running text for task=mlm: files, folders, streams, blocks, and what is refused."""

import json
import tracemalloc
from itertools import chain

import pytest
import torch
from transformers import AutoTokenizer

from helpers.tiny import sentences, tagged_sentences, write_csv
from thaw.data.encode.blocks import blocks
from thaw.data.mlm import MaskedLanguageModelData
from thaw.data.ner import TokenData
from thaw.data.read import corpus
from thaw.errors import ThawError

TEXTS = [text for text, _ in sentences(60)]


def make_data(checkpoint, train, **options):
    defaults = {"name": "files", "validation": None, "max_tokens": 32, "batch_size": 4}
    data = MaskedLanguageModelData(tokenizer=checkpoint, train=str(train), **defaults | options)
    data.read()
    return data


def lines(path, texts):
    path.write_text("\n".join(texts) + "\n")
    return path


def tokens_of(batches, row_by_row=False):
    rows = {}
    for batch in batches:
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        for row, ids, kept in zip(batch["row"], batch["input_ids"], mask, strict=True):
            assert int(row) not in rows
            rows[int(row)] = ids[kept.bool()].tolist()
    return rows


def written(form, directory):
    """TEXTS in a form; gives the path."""
    if form == "txt":
        return lines(directory / "corpus.txt", [*TEXTS[:30], "", "  ", *TEXTS[30:]])
    if form == "no suffix":
        return lines(directory / "corpus", TEXTS)
    if form == "jsonl":
        return lines(directory / "corpus.jsonl", [json.dumps({"text": t}) for t in TEXTS])
    if form == "csv":
        return write_csv(directory / "corpus.csv", [(t, "x") for t in TEXTS], ["text", "label"])
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": TEXTS}), directory / "corpus.parquet")
        return directory / "corpus.parquet"
    (directory / "sub").mkdir()
    lines(directory / "a.txt", TEXTS[:20])
    lines(directory / "sub" / "b.txt", TEXTS[20:])
    (directory / "empty.txt").touch()
    (directory / "readme.md").write_text("not read")
    return directory


FORMS = ["txt", "no suffix", "jsonl", "csv", "parquet", "folder"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_tokens(form, streaming, tiny_bert, tmp_path):
    path = written(form, tmp_path)
    data = make_data(tiny_bert, path, streaming=streaming)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    expected = tokenizer(TEXTS, truncation=True, max_length=32)["input_ids"]
    rows = tokens_of(data.train_dataloader())
    assert [rows[i] for i in sorted(rows)] == expected


def test_words_lie_beside_their_tokens_and_specials_have_none(tiny_bert, tmp_path):
    data = make_data(tiny_bert, lines(tmp_path / "a.txt", ["the film, zq [SEP] good"]))
    row = data.encoded["train"][0]
    tokens = data.tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "the", "film", ",", "z", "##q", "[SEP]", "good", "[SEP]"]
    assert row["words"] == [-1, 0, 1, 2, 3, 3, -1, 5, -1]


def test_blocks_by_hand():
    rows = [
        ("a", ([1, 2, 3], [0, 0, 1])),
        ("b", ([4, 5], [0, 1])),
        ("b", ([6], [0])),
        ("c", ([7, 8], [0, -1])),
    ]
    assert list(blocks(rows, 4, 99)) == [
        ([1, 2, 3, 99], [0, 0, 1, -1]),
        ([4, 5, 6, 99], [2, 3, 4, -1]),
        ([7, 8], [5, -1]),
    ]
    assert [ids for ids, _ in blocks(rows, 3, 99)] == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert [ids for ids, _ in blocks(rows, 5, None)] == [[1, 2, 3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("streaming", [False, True])
def test_documents_fill_blocks_with_separators(streaming, tiny_bert, tmp_path):
    path = lines(tmp_path / "corpus.txt", TEXTS)
    data = make_data(tiny_bert, path, pack="documents", streaming=streaming, max_tokens=16)
    tokenizer = data.tokenizer
    rows = tokens_of(data.train_dataloader())
    found = [rows[i] for i in sorted(rows)]
    assert all(len(ids) == 16 for ids in found[:-1])
    assert all(
        ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id for ids in found
    )
    inside = list(chain.from_iterable(ids[1:-1] for ids in found))
    plain = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    kept = [t for t in inside if t != tokenizer.sep_token_id]
    assert kept == list(chain.from_iterable(plain))
    assert inside.count(tokenizer.sep_token_id) >= len(TEXTS) - len(found)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_of_a_folder_is_one_document(streaming, tiny_bert, tmp_path):
    path = written("folder", tmp_path)
    data = make_data(tiny_bert, path, pack="documents", streaming=streaming)
    rows = tokens_of(data.train_dataloader())
    inside = list(chain.from_iterable(rows[i][1:-1] for i in sorted(rows)))
    assert inside.count(data.tokenizer.sep_token_id) <= 1  # between the two


def test_splits_are_cut_by_group_and_by_file(tiny_bert, tmp_path):
    rows = [(text, f"movie {i % 12}") for i, text in enumerate(TEXTS)]
    path = write_csv(tmp_path / "a.csv", rows, ["text", "movie"])
    for streaming in (False, True):
        data = make_data(
            tiny_bert, path, group="movie", validation=0.3, test=0.2, streaming=streaming
        )
        of = dict(rows)
        seen = {s: {of[t] for (t,) in data.rows[s].texts} for s in ("validation", "test")}
        trained = tokens_of(data.train_dataloader())
        total = len(trained) + sum(len(data.rows[s]) for s in seen)
        assert seen["validation"]
        assert seen["test"]
        assert not seen["validation"] & seen["test"]
        assert total == len(TEXTS)
    (tmp_path / "many").mkdir()
    for i in range(20):
        lines(tmp_path / "many" / f"{i}.txt", TEXTS[3 * i : 3 * i + 3])
    data = make_data(tiny_bert, tmp_path / "many", validation=0.3)
    kept = [t for (t,) in data.rows["validation"].texts]
    files = [TEXTS[3 * i : 3 * i + 3] for i in range(20)]
    assert all(len(set(file) & set(kept)) in (0, 3) for file in files)


@pytest.mark.parametrize("pack", ["lines", "documents"])
def test_ranks_share_a_stream_without_loss_or_repeat(pack, tiny_bert, tmp_path):
    from thaw.data.batch.stream import Stream

    data = make_data(tiny_bert, lines(tmp_path / "a.txt", TEXTS), streaming=True, pack=pack)
    whole = tokens_of(Stream(data, 8, seed=1, window=2))
    parts = [list(Stream(data, 4, seed=1, rank=r, world_size=2, window=2)) for r in (0, 1)]
    assert len(parts[0]) == len(parts[1])
    assert tokens_of(parts[0]) | tokens_of(parts[1]) == whole
    assert not set(tokens_of(parts[0])) & set(tokens_of(parts[1]))


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tiny_bert, tmp_path):
    data = make_data(tiny_bert, lines(tmp_path / "a.txt", TEXTS), validation=0.2)
    with pytest.raises(ThawError, match=r"no test split.*split=train or split=validation eval"):
        data.read_splits("test")


def test_what_is_known_of_a_stream_is_in_the_table_of_what_was_read(tiny_bert, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,body\n" + "".join(f"{i},{t}\n" for i, t in enumerate(TEXTS)))
    data = make_data(tiny_bert, path, streaming=True, text="body", validation=0.2)
    row = [str(path), "csv", "text: body", "streamed, not counted", ""]
    assert data.summary().read_rows() == [row]
    assert f"{path}: csv, streamed, not counted; text: body" in data.summary().text()


def test_workers_share_a_stream_and_each_epoch_has_its_order(tiny_bert, tmp_path):
    path = lines(tmp_path / "a.txt", TEXTS)
    alone = make_data(tiny_bert, path, streaming=True).train_dataloader()
    shared = make_data(tiny_bert, path, streaming=True, num_workers=2).train_dataloader()
    first, second = list(alone), list(alone)
    assert tokens_of(first) == tokens_of(second) == tokens_of(shared)
    assert [b["row"].tolist() for b in first] != [b["row"].tolist() for b in second]


def test_a_stream_goes_on_where_it_stopped(tiny_bert, tmp_path):
    from thaw.data.batch.stream import Stream

    data = make_data(tiny_bert, lines(tmp_path / "a.txt", TEXTS), streaming=True)
    whole = [b["row"].tolist() for b in Stream(data, 4, seed=0, epoch=1)]
    after = [b["row"].tolist() for b in Stream(data, 4, seed=0, epoch=1, start=5)]
    assert after == whole[5:]


@pytest.mark.parametrize("pack", ["lines", "documents"])
def test_memory_of_a_stream_does_not_grow_with_the_corpus(pack, tiny_bert, tmp_path, monkeypatch):
    from thaw.data.batch.stream import Stream

    monkeypatch.setattr(corpus, "LONGEST", 20_000)
    peaks = []
    for repeats in (120, 600):
        path = lines(tmp_path / f"{repeats}.txt", TEXTS * repeats)
        data = make_data(tiny_bert, path, streaming=True, pack=pack)
        stream = iter(Stream(data, 4, seed=0, window=2))
        next(stream)
        tracemalloc.start()
        count = sum(len(batch["row"]) for batch, _ in zip(stream, range(800), strict=False))
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        assert count > 1000
    assert peaks[1] < peaks[0] + 1
    assert peaks[1] < 8


def test_a_streamed_run_trains_and_validates(run, reviews):
    directory = run(
        "task=mlm",
        "data.streaming=true",
        "trainer.max_steps=6",
        "trainer.val_check_interval=3",
        "data.test=null",
    )
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert {"start/loss", "val/loss"} <= set(metrics)
    assert "train streamed" in (directory / "model" / "README.md").read_text()


@pytest.mark.parametrize("words", [[], ["trainer.max_steps=5"]])
def test_a_stream_needs_steps(run, words):
    with pytest.raises(ThawError, match=r"trainer.max_steps=10000 trainer.val_check_interval=1000"):
        run("task=mlm", "data.streaming=true", *words)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("pack", ["lines", "documents"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n\n", "holds no text: an empty corpus"),
        (b"%PDF-1.7\nstream", "is a binary file: it begins with b'%PDF-1.7'. Expected text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is a binary file"),
        (b"a film\n" * 2000 + b"\x00\x00", "line 2001: NUL bytes. Is it text"),
        ("caf\u00e9\n".encode("latin-1") * 3, "is not utf-8: byte 3"),
    ],
    ids=["empty", "blank", "pdf", "png", "nul", "latin"],
)
def test_what_is_no_text_is_refused(content, message, pack, streaming, tiny_bert, tmp_path):
    (tmp_path / "corpus.txt").write_bytes(content)

    def read():
        data = make_data(tiny_bert, tmp_path / "corpus.txt", pack=pack, streaming=streaming)
        return list(data.train_dataloader())

    with pytest.raises(ThawError, match=message):
        read()


@pytest.mark.parametrize("streaming", [False, True])
def test_an_endless_line_is_refused_as_a_line_and_read_as_a_document(
    streaming, tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.setattr(corpus, "LONGEST", 1000)
    text = " ".join(TEXTS * 2)
    (tmp_path / "corpus.txt").write_text(text)
    with pytest.raises(ThawError, match=r"line 1 is longer than 1,000 char.*data.pack=documents"):
        make_data(tiny_bert, tmp_path / "corpus.txt", streaming=streaming)
    data = make_data(tiny_bert, tmp_path / "corpus.txt", pack="documents", streaming=streaming)
    rows = tokens_of(data.train_dataloader())
    inside = list(chain.from_iterable(rows[i][1:-1] for i in sorted(rows)))
    expected = data.tokenizer(text, add_special_tokens=False)["input_ids"]
    # A stream may cut a word where its pieces of 1,000 characters end.
    assert abs(len(inside) - len(expected)) <= len(text) // 1000
    assert data.tokenizer.sep_token_id not in inside


def test_a_corpus_of_one_line_is_refused(tiny_bert, tmp_path):
    (tmp_path / "corpus.txt").write_text(" ".join(TEXTS * 10))
    with pytest.raises(ThawError, match=r"one line of [\d,]+ characters.*data.pack=documents"):
        make_data(tiny_bert, tmp_path / "corpus.txt", validation=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pack": "rows"}, "data.pack=rows: expected one of lines, documents"),
        ({"text": "body"}, r"no column 'body'; it has 'text'.*Set data.text="),
        ({"group": "movie"}, r"no column 'movie'.*Set data.group="),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_options_that_do_not_fit_are_refused(options, message, streaming, tiny_bert, tmp_path):
    path = lines(tmp_path / "a.jsonl", [json.dumps({"text": t}) for t in TEXTS])
    with pytest.raises(ThawError, match=message):
        make_data(tiny_bert, path, streaming=streaming, **options)


def test_words_of_a_named_column_are_cut_as_for_entities(tiny_bert, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [[word for word, _ in pairs] for pairs in tagged_sentences(40)]
    records = [{"words": words, "ner": ["B-PER", *["O"] * (len(words) - 1)]} for words in rows]
    path = lines(tmp_path / "a.jsonl", [json.dumps(record) for record in records])
    options = {"tokens": "words", "validation": 0.2, "test": 0.3}
    data = make_data(tiny_bert, path, **options)
    entities = TokenData(
        tokenizer=tiny_bert, name="files", train=str(path), max_tokens=32, tags="ner", **options
    )
    for split, sentences_of_split in entities.read_splits().items():
        expected = [" ".join(words) for words in sentences_of_split.texts]
        assert [text for (text,) in data.rows[split].texts] == expected
    assert "the words of 'words', joined by spaces, are the texts" in caplog.text
    assert [str(path), "jsonl", "text: words", 40, "none"] in data.summary().read_rows()


def test_a_column_of_texts_is_read_and_not_the_words_beside_it(tiny_bert, tmp_path):
    record = {"text": "a film.", "tokens": ["a", "film", "."], "sent_id": "1"}
    path = lines(tmp_path / "a.jsonl", [json.dumps(record)] * 2)
    assert [text for (text,) in make_data(tiny_bert, path).rows["train"].texts] == ["a film."] * 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "film"], ["a", 1]], r"a\.jsonl: row 2: token 1 is no text"),
        ([["a", "film"], None], r"a\.jsonl: row 2: tokens are None; expected a list"),
        (["a", "film"], r"row 1: tokens are 'a'; expected a list.*data\.sentence=<column>"),
    ],
)
def test_what_is_no_list_of_words_is_refused(rows, message, tiny_bert, tmp_path):
    path = lines(tmp_path / "a.jsonl", [json.dumps({"tokens": words}) for words in rows])
    with pytest.raises(ThawError, match=message):
        make_data(tiny_bert, path)


def test_the_option_that_is_named_for_numbers_of_rows_works(tiny_bert, tmp_path):
    path = lines(tmp_path / "a.conll", ["1\ta\tO", "2\tfilm\tB-ART", "", "1\tgood\tO"])
    with pytest.raises(ThawError, match=r"Try .*in training data\.token_column=1\)"):
        make_data(tiny_bert, path)
    data = make_data(tiny_bert, path, token_column=1)
    assert [text for (text,) in data.rows["train"].texts] == ["a film", "good"]


def test_a_folder_without_texts_is_refused(tiny_bert, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(ThawError, match=r"has no \.txt files; it holds a\.pdf"):
        make_data(tiny_bert, tmp_path)


def test_without_train_the_error_shows_what_to_type(tiny_bert):
    with pytest.raises(ThawError, match=r"such as data\.train=corpus\.txt"):
        MaskedLanguageModelData(tokenizer=tiny_bert, name="files", train=None, max_tokens=8).read()
