"""Whatever comes in: what is right is read right, and the rest is one of thaw's own errors.

python -m pytest tests/data/read/test_fuzz.py --hypothesis-profile long
"""

import bz2
import csv
import gzip
import io
import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers.tables import read_rows
from thaw.cli.check import verify
from thaw.cli.compose import compose, exit_clearly
from thaw.data.batch.masking import MASKINGS, Masking
from thaw.data.batch.pairs import PairBatches, sample_pairs
from thaw.data.batch.samplers import BalancedBatches, LengthGroupedBatches
from thaw.data.encode.blocks import blocks
from thaw.data.encode.windows import windows
from thaw.data.entities import entities
from thaw.data.ner import align, firsts
from thaw.data.read.corpus import corpus_rows, joined
from thaw.data.read.entities.sentences import read_sentences
from thaw.data.read.entities.spans import places_of, read_spans, tags_of, words_of
from thaw.data.read.entities.tag_schemes import SCHEMES, to_iob2
from thaw.data.read.formats.registry import FORMATS, rows_of
from thaw.data.read.labels.names import label_names
from thaw.data.read.reading import Reading
from thaw.data.read.row_values import Columns
from thaw.data.read.sampling.few_shots import distinct, draw
from thaw.data.read.sampling.splits import cut
from thaw.data.read.texts import Texts, read_texts
from thaw.data.write import RowWriter
from thaw.errors import ThawError

# Pieces that break readers, put together at random.
NASTY = [
    "",
    "a",
    "text",
    "label",
    "tokens",
    "tags",
    "spans",
    "O",
    "B-PER",
    "I-PER",
    "good film",
    "é",
    "\u2028",
    "\x85",
    "\ufeff",
    "\0",
    '"',
    '""',
    "'",
    ",",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "|",
    "\\",
    "#",
    "-DOCSTART-",
    "NaN",
    "nan",
    "null",
    "None",
    "-1",
    "1e400",
    "1.0",
    "{",
    "}",
    "[",
    "]",
    ":",
    "[" * 2000,
    "😀",
    "\ud800",
    "\\ud800",
    "x" * 3000,
    "text,label\n",
    "text\tlabel\n",
    "word O\n",
    '{"text": "a", "label": "b"}',
    '{"text": ["a"], "label": NaN}',
    '{"tokens": ["a"], "tags": ["O"]}',
    '{"text": "Jan", "spans": [[0, 3, "PER"]]}',
    '{"text": "Jan", "answer": "accept", "spans": [{"start": 0, "end": 3, "label": "PER"}]}',
    '{"data": {"text": "Jan"}, "annotations": [{"result": [{"value": {"choices": ["a"]}}]}]}',
    '["Jan", {"entities": [[0, 3, "PER"]]}]',
    "__label__a text\n",
    "1\tJan\tJan\tX\t_\t_\t0\troot\t_\tNER=B-PER\n",
    "T1\tPER 0 3\tJan\n",
]
SUFFIXES = [
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".txt",
    ".conll",
    ".csv.gz",
    ".jsonl.bz2",
    ".tsv.xz",
    ".json",
    ".conllu",
    ".ann",
    ".unknown",
]
ENCODINGS = ["utf-8", "utf-16", "latin-1", "utf-8-sig", "cp1252", "ascii", "utf-32", "shift_jis"]
NER = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}

nasty_text = st.lists(st.sampled_from(NASTY) | st.text(max_size=5), max_size=12).map("".join)
any_text = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.sampled_from(["text", "label", "tokens", "tags", "spans", "group", "a"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["O", "B-PER", "I-PER", "S-LOC", "B-", "PER", " "]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["start", "end", "label", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
rows = st.lists(st.dictionaries(names, values, max_size=5), max_size=5)


@pytest.fixture(scope="module")
def directory():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def encoded(text, encoding):
    """Bytes of a text; halves of surrogate pairs stay in UTF-8."""
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


@st.composite
def files(draw):
    """Name, bytes and encoding of a file."""
    content = draw(
        st.binary(max_size=60) | st.builds(encoded, nasty_text, st.sampled_from(ENCODINGS))
    )
    suffix = draw(st.sampled_from(SUFFIXES))
    if draw(st.booleans()):
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(f"x{suffix}").suffix)
        content = pack(content) if pack else content
    if draw(st.booleans()):
        content = content[: draw(st.integers(0, max(0, len(content))))]
    return f"file{suffix}", content, draw(st.sampled_from(ENCODINGS))


def use(texts):
    """What the next steps do with texts that were read."""
    label_names(texts.labels, None)
    cut(texts, {"validation": 0.5}, 0)


@given(file=files())
def test_any_bytes_are_read_or_refused(directory, file):
    name, content, encoding = file
    path = directory / name
    path.write_bytes(content)
    for reader in (
        lambda: read_rows(path, encoding),
        lambda: corpus_rows(path, Reading(encoding=encoding), documents=False),
        lambda: joined(corpus_rows(path, Reading(encoding=encoding), documents=True), "text"),
        lambda: rows_of(path, Reading(format="columns", encoding=encoding)),
    ):
        found = None
        try:
            found = list(reader())
        except ThawError:
            continue
        assert all(isinstance(row, dict) for row in found)
        for step in (
            lambda found=found: use(read_texts(found, Columns(["text"], "label"), "here")),
            lambda found=found: read_sentences(found, NER, None, "here"),
        ):
            with suppress(ThawError):
                step()


@given(
    file=files(),
    form=st.sampled_from(sorted(FORMATS)),
    header=st.sampled_from([None, True, False]),
    columns=st.sampled_from([None, ("text", "label"), ("tokens",)]),
    quoting=st.sampled_from([None, "csv", "none"]),
    words=st.booleans(),
    annotated=st.booleans(),
)
def test_any_bytes_are_read_or_refused_in_any_format(
    directory, file, form, header, columns, quoting, words, annotated
):
    name, content, encoding = file
    path = directory / name
    path.write_bytes(content)
    how = Reading(form, encoding, header, columns, quoting, spans="spans" if words else None)
    how = replace(how, words=words, annotated=annotated)
    with suppress(ThawError):
        found = list(rows_of(path, how))
        assert all(isinstance(row, dict) for row in found)
        with suppress(ThawError):
            use(read_texts(found, Columns(["text"], "label"), "here"))
        read_sentences(found, NER, None, "here", "longest")


@given(
    found=rows,
    separator=st.sampled_from([None, "|", " "]),
    group=st.sampled_from([None, "a"]),
    drop=st.booleans(),
)
def test_any_rows_are_texts_or_refused(found, separator, group, drop):
    columns = Columns(["text"], "label", separator, ["a"], drop, group)
    with suppress(ThawError):
        texts = read_texts(found, columns, "here")
        assert all(isinstance(part, str) and part.strip() for text in texts.texts for part in text)
        assert len(texts.texts) == len(texts.labels)
        use(texts)
        draw(distinct(texts), 1, 0)


@given(found=rows, scheme=st.sampled_from([None, *SCHEMES]))
def test_any_rows_are_sentences_or_refused(found, scheme):
    try:
        read = read_sentences(found, NER, scheme, "here")
    except ThawError:
        return
    for words, tags, text, places in zip(
        read.texts, read.labels, read.originals, read.places, strict=True
    ):
        assert len(words) == len(tags) == len(places)
        assert [text[a:b] for a, b in places] == list(words)
        assert to_iob2(tags, "iob2") == (tags, [])
        entities(tags)


@given(value=values, text=st.text(max_size=12))
def test_any_spans_are_in_their_text_or_refused(value, text):
    try:
        spans = read_spans(value, text, "here")
        tags, _ = tags_of(words_of(text), spans, "here")
    except ThawError:
        return
    assert [e.type for e in entities(tags)] == [s.label for s in spans]


@given(
    tags=st.lists(
        st.sampled_from(["O", *(f"{p}-{t}" for p in "BIESLUMW" for t in ("PER", "LOC"))]),
        max_size=12,
    ),
    scheme=st.sampled_from(SCHEMES),
)
def test_any_tags_become_iob2_that_breaks_no_rule(tags, scheme):
    found, _ = to_iob2(tags, scheme)
    assert to_iob2(found, "iob2") == (found, [])


# What is right is read right.

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
tables = st.lists(st.tuples(cells, cells), min_size=1, max_size=6)


@given(
    table=tables,
    tabs=st.booleans(),
    all_quoted=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
)
def test_csv_as_python_writes_it_is_read_back(directory, table, tabs, all_quoted, end, mark):
    # Python quotes what is in its line end only: a bare return would end a row.
    assume(all_quoted or end == "\r\n" or "\r" not in "".join(sum(table, ())))
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    buffer = io.StringIO(newline="")
    writer = csv.writer(
        buffer, delimiter="\t" if tabs else ",", quoting=quoting, lineterminator=end
    )
    writer.writerows([("text", "label"), *table])
    path = directory / f"right.{'tsv' if tabs else 'csv'}"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + buffer.getvalue().encode())
    got = [(row["text"], row["label"]) for row in read_rows(path)]
    assert got == table


@given(
    found=st.lists(
        st.dictionaries(any_text, values, min_size=1, max_size=4), min_size=1, max_size=5
    ),
    ascii=st.booleans(),
)
def test_jsonl_as_python_writes_it_is_read_back(directory, found, ascii):
    path = directory / "right.jsonl"
    lines = "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in found)
    try:
        path.write_text(lines, encoding="utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair is not UTF-8
        return
    assert repr(list(read_rows(path))) == repr(found)  # repr: NaN is NaN


@given(table=tables)
def test_parquet_as_thaw_writes_it_is_read_back(directory, table):
    path = directory / "right.parquet"
    with RowWriter(path) as writer:
        for text, label in table:
            writer.write({"text": text, "label": [label, text]})
    assert [(r["text"], r["label"][0]) for r in read_rows(path)] == table


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6
).filter(lambda word: word.strip() == word and not word.startswith(("#", "-DOCSTART-")))


@given(
    found=st.lists(
        st.lists(
            st.tuples(words, st.sampled_from(["O", "B-PER", "B-LOC"])), min_size=1, max_size=5
        ),
        min_size=1,
        max_size=4,
    ),
    tabs=st.booleans(),
    blank=st.sampled_from(["\n", "\n\n", "\r\n", " \n"]),
)
def test_column_files_are_read_back(directory, found, tabs, blank):
    path = directory / "right.conll"
    gap = "\t" if tabs else " "
    sentences = ["".join(f"{word}{gap}{tag}\n" for word, tag in pairs) for pairs in found]
    path.write_bytes(blank.join(sentences).encode())
    got = read_sentences(rows_of(path, Reading(format="columns")), NER, None, "here")
    assert [
        list(zip(w, t, strict=True)) for w, t in zip(got.texts, got.labels, strict=True)
    ] == found


@given(found=st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=4))
def test_words_are_where_they_are_said_to_be(found):
    for sentence in found:
        text = " ".join(sentence)
        assert [text[a:b] for a, b in places_of(sentence)] == sentence
        for fine in (True, False):
            assert "".join(text[a:b] for a, b in words_of(text, fine)) == "".join(text.split())


# Encoding.


@pytest.fixture(scope="module")
def tokenizer(tiny_bert):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_bert)


@given(
    sentences=st.lists(
        st.lists(words | st.text(min_size=1, max_size=6), min_size=1, max_size=30),
        min_size=1,
        max_size=3,
    ),
    max_tokens=st.integers(3, 20),
    share=st.floats(0, 1),
)
def test_every_word_is_in_one_window_and_keeps_its_tag(tokenizer, sentences, max_tokens, share):
    stride = min(int(share * (max_tokens - 2)), max_tokens - 3)
    for number, pieces in enumerate(windows(tokenizer, sentences, max_tokens, stride)):
        tags = ["B-PER" if i % 2 else "O" for i in range(len(sentences[number]))]
        seen = {}
        for piece in pieces:
            assert len(piece["input_ids"]) == len(piece["word_ids"]) <= max_tokens
            aligned = align(piece["word_ids"], tags, "all")
            for word, tag in zip(firsts(piece["word_ids"]), aligned, strict=True):
                if word >= 0:
                    assert word not in seen
                    seen[word] = tag
        assert [seen[i] for i in range(len(tags))] == tags


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40)),
    masking=st.sampled_from(MASKINGS),
    probability=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10),
    data=st.data(),
)
def test_masks_are_where_they_may_be_and_depend_on_the_row_alone(
    shape, masking, probability, seed, epoch, data
):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ids = rng.integers(5, 50, size=shape)
    numbers = np.cumsum(rng.random(shape) < 0.6, axis=1)
    numbers[rng.random(shape) < 0.2] = -1
    rows = rng.permutation(1000)[: shape[0]]
    mask = Masking(4, np.arange(5, 50), masking, probability)
    seen, places = mask(ids, numbers, rows, seed, epoch)
    free = numbers >= 0
    assert free.reshape(-1)[places].all()
    untouched = np.ones(ids.size, dtype=bool)
    untouched[places] = False
    assert (seen.reshape(-1) == ids.reshape(-1))[untouched].all()
    for i in range(shape[0]):
        one, at = mask(ids[i : i + 1], numbers[i : i + 1], rows[i : i + 1], seed, epoch)
        assert (one[0] == seen[i]).all()
        assert (at == places[places // shape[1] == i] - i * shape[1]).all()


@given(
    documents=st.lists(st.lists(st.lists(st.integers(5, 99), max_size=9), max_size=3), max_size=6),
    size=st.integers(1, 12),
    separator=st.sampled_from([None, 2]),
)
def test_blocks_hold_every_token_once_in_order(documents, size, separator):
    rows = [
        (d, (part, list(range(len(part))))) for d, parts in enumerate(documents) for part in parts
    ]
    found = list(blocks(rows, size, separator))
    assert all(len(ids) == len(words) for ids, words in found)
    assert all(len(ids) == size for ids, _ in found[:-1])
    tokens = [token for ids, _ in found for token in ids if token != 2]
    assert tokens == [t for parts in documents for part in parts for t in part]
    assert all(ids[0] != 2 for ids, _ in found)


# Order.


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=200),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 5),
    shuffle=st.booleans(),
    window=st.integers(1, 6),
    epoch=st.integers(0, 3),
    start=st.integers(0, 60),
)
def test_every_text_comes_once_an_epoch_and_a_resumed_one_goes_on(
    lengths, batch_size, world, shuffle, window, epoch, start
):
    assume(len(lengths) >= world)

    def ranks(start):
        found = []
        for rank in range(world):
            batches = LengthGroupedBatches(
                lengths, batch_size, 7, shuffle, window, rank=rank, world_size=world
            )
            batches.set_epoch(epoch)
            batches.start = start
            found.append(list(batches))
        return found

    whole = ranks(0)
    assert sorted(i for rank in whole for batch in rank for i in batch) == list(range(len(lengths)))
    assert len({len(rank) for rank in whole}) == 1
    assert all(batch for rank in whole for batch in rank)
    assert all(len(batch) <= batch_size + 1 for rank in whole for batch in rank)
    assert ranks(start) == [rank[start:] for rank in whole]


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 3),
    start=st.integers(0, 20),
)
def test_balanced_batches_deal_out_all_texts_before_they_begin_anew(
    labels, batch_size, world, start
):
    def rank_of(rank, begin=0):
        batches = BalancedBatches(labels, batch_size, None, 3, rank=rank, world_size=world)
        batches.start = begin
        return list(batches)

    whole = [rank_of(r) for r in range(world)]
    assert sorted(i for rank in whole for b in rank for i in b) == list(range(len(labels)))
    assert [rank_of(r, start) for r in range(world)] == [rank[start:] for rank in whole]


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=12),
    batch_size=st.integers(1, 7),
    world=st.integers(1, 3),
    sampling=st.sampled_from(["oversampling", "undersampling", "unique"]),
)
def test_every_pair_comes_once_an_epoch(labels, batch_size, world, sampling):
    pairs = sample_pairs(np.array(labels), None, sampling)
    dealt = []
    for rank in range(world):
        for batch in (
            PairBatches(pairs, batch_size, 5, rank=rank, world_size=world) if len(pairs) else []
        ):
            dealt += zip(batch[::2], batch[1::2], strict=True)
    assert sorted(dealt) == sorted(map(tuple, pairs.tolist()))


@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=80),
    seed=st.integers(0, 99),
    fractions=st.dictionaries(st.sampled_from(["validation", "test"]), st.floats(-0.1, 1.1)),
    repeats=st.integers(1, 40),
    grouped=st.booleans(),
)
def test_a_cut_leaves_every_text_in_one_split(labels, seed, fractions, repeats, grouped):
    texts = [(f"text {i % repeats}",) if i % 3 else (f"own {i}",) for i in range(len(labels))]
    groups = [f"g{i % 7}" for i in range(len(labels))] if grouped else []
    try:
        found = cut(Texts(texts, labels, groups, "here"), fractions, seed)
    except ThawError:
        return
    parts = [set(part.texts) for part in found.values()]
    assert set().union(*parts) == set(texts)
    assert sum(map(len, parts)) == len(set(texts))


# Options.

KEYS = [
    "data",
    "task",
    "model",
    "freeze",
    "trainer",
    "seed",
    "logger",
    "callbacks",
    "debug",
    "monitor",
    "data.train",
    "data.text",
    "data.label",
    "data.batch_size",
    "data.max_tokens",
    "data.labels",
    "data.validation",
    "data.path",
    "task.learning_rate",
    "task.class_weights",
    "trainer.devices",
    "trainer.precision",
    "trainer.on_nonfinite",
    "trainer.max_epochs",
    "freeze.blocks",
    "run_dir",
    "model.checkpoint",
    "resume",
    "hydra.run.dir",
    "experiment",
    "nonsense",
    "data.nonsense",
    "task.warmup_ratio",
    "callbacks.early_stopping",
    "program",
    "hparams_search",
]
WORDS = [
    "",
    "null",
    "true",
    "1",
    "0",
    "-1",
    "1e400",
    "nan",
    "[]",
    "[1,2]",
    "{}",
    "{a:1}",
    "files",
    "ner",
    "mlm",
    "setfit",
    "none",
    "head",
    "last",
    "${seed}",
    "${nothing}",
    "${data}",
    "'",
    '"',
    "${data.train}",
    "a b",
    "a,b",
    "\\",
    "=",
    "~",
    "é",
    "\0",
    "😀",
    "???",
    "[",
    "}",
    "../..",
    "/",
    ".",
    "\n",
]


@given(
    typed=st.lists(
        st.tuples(
            st.sampled_from(["", "+", "++", "~"]),
            st.sampled_from(KEYS) | st.text(max_size=6),
            st.sampled_from(["=", "=", "=", ""]),
            st.sampled_from(WORDS) | st.text(max_size=6),
        ).map("".join),
        max_size=4,
    )
)
def test_any_words_are_options_or_refused(typed):
    code = 0
    try:
        with exit_clearly():
            verify(compose(["run_dir=nowhere", *typed]), typed)
    except SystemExit as stop:
        code = stop.code
    assert code in (0, 2)
