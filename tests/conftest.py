"""Tiny models and data made on the spot, and a way to run thaw in this process."""

import csv
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Few cases and always the same in the suite; `--hypothesis-profile long` tries new ones.
for name, examples in (("fast", 25), ("long", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        derandomize=name == "fast",
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
settings.load_profile("fast")

os.environ.update(WANDB_MODE="offline", HF_HUB_OFFLINE="1")
if not os.environ.get("THAW_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.pop("WANDB_API_KEY", None)
# Workers of pytest share the cores; tiny models gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOOD = ["good", "great", "fine", "lovely", "superb", "warm", "bright", "moving"]
BAD = ["bad", "dull", "awful", "bland", "cold", "weak", "tired", "boring"]
PLAIN = [
    "the",
    "a",
    "film",
    "movie",
    "story",
    "actor",
    "scene",
    "plot",
    "with",
    "and",
    "of",
    "is",
    "was",
    "very",
    "quite",
    "it",
]
REPOSITORY = Path(__file__).parents[1]


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct sentences of 3 to 20 words whose label follows from one word in them."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = rng.choice(["neg", "pos"])
        words = rng.choices(PLAIN, k=rng.randint(2, 19))
        words.insert(rng.randrange(len(words)), rng.choice(GOOD if label == "pos" else BAD))
        rows[" ".join(words)] = label
    return list(rows.items())


def write_csv(path: Path, rows: Iterable[Sequence[Any]], header: Sequence[str]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def save_tiny(model_class: str, config: Any, directory: Path) -> Path:
    """Saves a random model with a WordPiece tokenizer of a few words and all letters."""
    import torch
    import transformers
    from tokenizers import BertWordPieceTokenizer

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocab = [*specials, *GOOD, *BAD, *PLAIN, *letters, *(f"##{c}" for c in letters)]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)))
    tokenizer = BertWordPieceTokenizer(str(directory / "vocab.txt"))
    tokenizer.save(str(directory / "tokenizer.json"))
    transformers.BertTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), model_max_length=64
    ).save_pretrained(directory)
    torch.manual_seed(0)
    getattr(transformers, model_class)(config).save_pretrained(directory)
    return directory


def tiny_config(**overrides: Any) -> Any:
    import transformers

    return transformers.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, **overrides,
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT encoder of two blocks, width 32, without a head."""
    return save_tiny("BertModel", tiny_config(), tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train.csv (64 rows), validation.csv (20) and test.csv (22)."""
    directory = tmp_path_factory.mktemp("reviews")
    rows = sentences(106)
    for name, part in (("train", rows[:64]), ("validation", rows[64:84]), ("test", rows[84:])):
        write_csv(directory / f"{name}.csv", part, ["text", "label"])
    return directory


NAMES = ["maarten", "jan", "eva", "tilburg", "oslo", "peru"]  # of letters, in the vocabulary


def tagged_sentences(count: int, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Distinct sentences of 3 to 14 words with persons and places of one or two words, in IOB2."""
    rng = random.Random(seed)
    found: dict[tuple, None] = {}
    while len(found) < count:
        pairs = [(word, "O") for word in rng.choices(PLAIN, k=rng.randint(2, 8))]
        for kind, names in (("PER", NAMES[:3]), ("LOC", NAMES[3:])):
            if rng.random() < 0.7:
                words = rng.choices(names, k=rng.choice([1, 1, 2]))
                at = rng.choice([i for i in range(len(pairs) + 1) if i == len(pairs) or
                                 not pairs[i][1].startswith("I")])  # fmt: skip
                tags = [f"B-{kind}", f"I-{kind}"][: len(words)]
                pairs[at:at] = zip(words, tags, strict=True)
        found[tuple(pairs)] = None
    return [list(pairs) for pairs in found]


def write_columns(path: Path, sentences: Iterable[Sequence[tuple[str, str]]]) -> Path:
    blocks = ["".join(f"{word} {tag}\n" for word, tag in pairs) for pairs in sentences]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train.conll (64 sentences), validation.conll (20) and test.conll (22)."""
    directory = tmp_path_factory.mktemp("tagged")
    rows = tagged_sentences(106)
    for name, part in (("train", rows[:64]), ("validation", rows[64:84]), ("test", rows[84:])):
        write_columns(directory / f"{name}.conll", part)
    return directory


@pytest.fixture
def ner_overrides(tiny_bert: Path, tagged: Path) -> list[str]:
    """A run of task=ner of two epochs on CPU in a few seconds."""
    return [
        "task=ner", "data=conll", f"data.path={tagged}", "data.train=train.conll",
        "data.validation=validation.conll", "data.test=test.conll", "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}", "task.learning_rate=3e-3", "logger=csv",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    ]  # fmt: skip


@pytest.fixture
def run_ner(ner_overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs task=ner in this process with further overrides; gives the run directory."""
    return runner(ner_overrides, tmp_path)


@pytest.fixture
def overrides(tiny_bert: Path, reviews: Path) -> list[str]:
    """A run of two epochs on CPU in a few seconds."""
    return [
        "data=files", f"data.path={reviews}", "data.train=train.csv",
        "data.validation=validation.csv", "data.test=test.csv", "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}", "task.learning_rate=3e-3", "logger=csv",
        "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    ]  # fmt: skip


@pytest.fixture
def run(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs thaw in this process with further overrides; gives the run directory."""
    return runner(overrides, tmp_path)


def runner(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """A function that runs thaw with these and further overrides; see `run`."""

    def go(*extra: str, name: str = "run") -> Path:
        from omegaconf import OmegaConf

        from thaw.cli import compose
        from thaw.train import train

        words = [f"freeze.cache.path={tmp_path / 'prefix'}", *overrides, *extra]
        directory = tmp_path / name
        cfg = compose([*words, f"run_dir={directory}"])
        (directory / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, directory / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(words), directory / ".hydra" / "overrides.yaml")
        train(cfg)
        return directory

    go.directory = lambda name: tmp_path / name  # type: ignore[attr-defined]
    return go
