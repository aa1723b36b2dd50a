"""The same texts and the same entities, written in every layout, are read the same."""

import csv
import json
from collections import Counter

import pytest

from thaw.data.entities import entities
from thaw.data.mlm import MaskedLanguageModelData
from thaw.data.read.entities.sentences import read_sentences
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading
from thaw.data.read.texts import Columns, read_texts

TEXTS = [
    ("a fine film, well made", "pos"),
    ("dull ; and long", "neg"),
    ("caf\u00e9 scenes: lovely", "pos"),
    ("it never ends", "neg"),
    ("no plot at all", "neg"),
]
RECORDS = [{"text": text, "label": label} for text, label in TEXTS]


def table(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def text_csv(path):
    table(path / "a.csv", [("text", "label"), *TEXTS])
    return "a.csv", {}


def text_semicolons(path):
    table(path / "a.csv", [("text", "label", "", ""), *((*row, "", "") for row in TEXTS)], ";")
    return "a.csv", {}


def text_no_header(path):
    table(path / "a.tsv", [(i, label, text) for i, (text, label) in enumerate(TEXTS)], "\t")
    return "a.tsv", {"columns": ("id", "label", "text")}


def text_array(path):
    (path / "a.json").write_text(json.dumps(RECORDS, indent=1))
    return "a.json", {}


def text_key(path):
    (path / "a.json").write_text(json.dumps({"dev": RECORDS[:1], "train": RECORDS}))
    return "a.json:train", {}


def text_lines(path):
    (path / "a.json").write_text("\n".join(map(json.dumps, RECORDS)))
    return "a.json", {}


def text_fasttext(path):
    (path / "a.txt").write_text("".join(f"__label__{b} {a}\n" for a, b in TEXTS))
    return "a.txt", {}


def text_folders(path):
    for number, (text, label) in enumerate(TEXTS):
        (path / "all" / label).mkdir(parents=True, exist_ok=True)
        (path / "all" / label / f"{number}.txt").write_text(f"{text}\n")
    return "all", {}


def text_prodigy(path):
    records = [r | {"answer": "accept"} for r in RECORDS]
    records.insert(2, {"text": "no", "label": "pos", "answer": "reject"})
    (path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    return "a.jsonl", {}


def text_saved(path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))
    Dataset.from_list(RECORDS, features).save_to_disk(path / "saved")
    return "saved", {}


def text_excel(path):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [("text", "label"), *TEXTS]:
        book.active.append(row)
    book.save(path / "a.xlsx")
    return "a.xlsx", {}


TEXT_LAYOUTS = [v for k, v in list(globals().items()) if k.startswith("text_") and callable(v)]


@pytest.mark.parametrize("layout", TEXT_LAYOUTS, ids=lambda f: f.__name__)
def test_texts_and_labels_are_the_same(layout, tmp_path):
    name, options = layout(tmp_path)
    read = read_texts(
        rows_of(tmp_path / name, Reading(**options)), Columns(["text"], "label"), name
    )
    assert sorted(zip((text for (text,) in read.texts), read.labels, strict=True)) == sorted(TEXTS)


# Words, and entities as first word, last word and type.
SENTENCES = [
    (["Ida", "Ek", "left", "Oslo"], [(0, 1, "PER"), (3, 3, "LOC")]),
    (["Nobody", "came"], []),
    (["Nordwind", "Shipping", "Ltd", "hired", "Jon"], [(0, 2, "ORG"), (4, 4, "PER")]),
]
FOUND = Counter({"PER": 2, "LOC": 1, "ORG": 1})


def tags(words, found, letters="BIIB"):
    """Tags by the letters of an entity's first, middle and last word, and of one alone."""
    out = ["O"] * len(words)
    for first, last, kind in found:
        for place in range(first, last + 1):
            letter = letters[0] if place == first else letters[2 if place == last else 1]
            out[place] = f"{letters[3] if first == last else letter}-{kind}"
    return out


def spans(words, found):
    starts = [sum(len(w) + 1 for w in words[:place]) for place in range(len(words))]
    return [(starts[a], starts[b] + len(words[b]), kind) for a, b, kind in found]


TEXT_AND_SPANS = [(" ".join(words), spans(words, found)) for words, found in SENTENCES]


def columns(path, line, letters="BIIB", head="", name="a.conll"):
    """A column file, a line of each word by `line`, from its number, the word and the tag."""
    blocks = [
        "".join(
            line(n, w, t) + "\n"
            for n, (w, t) in enumerate(zip(words, tags(words, found, letters), strict=True), 1)
        )
        for words, found in SENTENCES
    ]
    (path / name).write_text(head + "\n".join(blocks))
    return name


def entities_iob2(path):
    return columns(path, lambda n, w, t: f"{w} {t}"), {}


def entities_bmes(path):
    return columns(path, lambda n, w, t: f"{w} {t}", "BMES", name="a.bmes"), {}


def entities_bmewo(path):
    return columns(path, lambda n, w, t: f"{w}\t{t}", "BMEW"), {}


def entities_header(path):
    return columns(path, lambda n, w, t: f"{w}\t{t}", head="word\ttag\n"), {}


def entities_trailing_tab(path):
    return columns(path, lambda n, w, t: f"{w}\t{t}" + "\t" * (n == 2)), {}


def entities_tag_first(path):
    return columns(path, lambda n, w, t: f"{t}\t{w}"), {"token_column": 1, "tag_column": 0}


def entities_numbered(path):
    return columns(path, lambda n, w, t: f"{n}\t{w}\t{t}\tO", head="# a\n", name="a.tsv"), {
        "token_column": 1,
        "tag_column": 2,
    }


def entities_conllu(path):
    def line(n, w, t):
        ranges = "" if n > 1 else "1-2\tx" + "\t_" * 8 + "\n"
        return f"{ranges}{n}\t{w}\t{w}\tX\t_\t_\t0\troot\t_\tNER={t}|SpaceAfter=No"

    return columns(path, line, head="# sent_id = 1\n", name="a.conllu"), {}


def entities_word_a_row(path):
    rows = [("Sentence #", "tokens", "tags")]
    for number, (words, found) in enumerate(SENTENCES):
        rows += [
            ("" if place else f"Sentence: {number}", word, tag)
            for place, (word, tag) in enumerate(zip(words, tags(words, found), strict=True))
        ]
    table(path / "a.csv", rows)
    return "a.csv", {}


def entities_lists_in_csv(path):
    rows = [(str(words), str(tags(words, found))) for words, found in SENTENCES]
    table(path / "a.csv", [("tokens", "tags"), *rows])
    return "a.csv", {}


def entities_doccano(path):
    keys = ("start_offset", "end_offset", "label")
    records = [
        {"text": t, "entities": [dict(zip(keys, s, strict=True)) for s in found]}
        for t, found in TEXT_AND_SPANS
    ]
    (path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    return "a.jsonl", {}


def entities_prodigy(path):
    keys = ("start", "end", "label")
    records = [
        {"text": t, "answer": "accept"}
        | ({"spans": [dict(zip(keys, s, strict=True)) for s in found]} if found else {})
        for t, found in TEXT_AND_SPANS
    ]
    (path / "a.jsonl").write_text(
        "\n".join(map(json.dumps, [*records, {"text": "x", "answer": "ignore"}]))
    )
    return "a.jsonl", {}


def regions(text, found):
    return [{"start": a, "end": b, "text": text[a:b], "labels": [kind]} for a, b, kind in found]


def entities_label_studio(path):
    records = [
        {
            "data": {"text": t},
            "annotations": [
                {"result": [{"type": "labels", "value": v} for v in regions(t, found)]}
            ],
        }
        for t, found in TEXT_AND_SPANS
    ]
    (path / "a.json").write_text(json.dumps(records))
    return "a.json", {}


def entities_label_studio_min(path):
    (path / "a.json").write_text(
        json.dumps([{"text": t, "label": regions(t, found)} for t, found in TEXT_AND_SPANS])
    )
    return "a.json", {}


def entities_spacy_json(path):
    (path / "a.json").write_text(
        json.dumps([[t, {"entities": found}] for t, found in TEXT_AND_SPANS])
    )
    return "a.json", {}


def entities_brat(path):
    (path / "brat").mkdir()
    for number, (text, found) in enumerate(TEXT_AND_SPANS):
        (path / "brat" / f"{number}.txt").write_text(text)
        lines = [f"T{n}\t{kind} {a} {b}\t{text[a:b]}\n" for n, (a, b, kind) in enumerate(found)]
        (path / "brat" / f"{number}.ann").write_text("".join(lines))
    return "brat", {}


def entities_spacy(path):
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import Doc, DocBin

    vocab = spacy.blank("en").vocab
    docs = [Doc(vocab, words=words, ents=tags(words, found)) for words, found in SENTENCES]
    DocBin(docs=docs).to_disk(path / "a.spacy")
    return "a.spacy", {}


LAYOUTS = [v for k, v in list(globals().items()) if k.startswith("entities_") and callable(v)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_words_and_entities_are_the_same(layout, tmp_path):
    name, options = layout(tmp_path)
    how = Reading(words=True, spans="spans", **options)
    names = {"tokens": "tokens", "tags": "tags", "text": "text", "spans": "spans"}
    read = read_sentences(rows_of(tmp_path / name, how), names, None, name)
    assert [list(words) for words in read.texts] == [words for words, _ in SENTENCES]
    got = [[(e.start, e.end - 1, e.type) for e in entities(tags)] for tags in read.labels]
    assert got == [found for _, found in SENTENCES]
    assert Counter(kind for found in got for _, _, kind in found) == FOUND


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_words_are_the_texts_of_pretraining(layout, streaming, tiny_bert, tmp_path, caplog):
    name, options = layout(tmp_path)
    options.pop("tag_column", None)
    given = {"validation": None, "max_tokens": 32, "streaming": streaming}
    path = str(tmp_path / name)
    data = MaskedLanguageModelData(tokenizer=tiny_bert, name="a", train=path, **given, **options)
    read = data.streamed("train") if streaming else data.read_splits()["train"].texts
    texts = [text.strip() for text, *_ in read]
    texts = [text for text in texts if text != "x"]  # whose annotation was ignored is a text, too
    assert texts == [" ".join(words) for words, _ in SENTENCES]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
