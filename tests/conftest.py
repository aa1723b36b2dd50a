"""Tiny models and data made on the spot, and a way to run thaw in this process."""

import csv
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ.update(WANDB_MODE="offline", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
os.environ.pop("WANDB_API_KEY", None)

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


@pytest.fixture
def overrides(tiny_bert: Path, reviews: Path) -> list[str]:
    """A run of two epochs on CPU in a few seconds."""
    return [
        "data=files", f"data.path={reviews}", "data.train=train.csv",
        "data.validation=validation.csv", "data.test=test.csv", "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}", "task.learning_rate=3e-3", "logger=csv",
        "trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
    ]  # fmt: skip


@pytest.fixture
def run(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs thaw in this process with further overrides; gives the run directory."""

    def go(*extra: str, name: str = "run") -> Path:
        from omegaconf import OmegaConf

        from thaw.cli import compose
        from thaw.train import train

        words = [*overrides, *extra]
        directory = tmp_path / name
        cfg = compose([*words, f"run_dir={directory}"])
        (directory / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, directory / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(words), directory / ".hydra" / "overrides.yaml")
        train(cfg)
        return directory

    go.directory = lambda name: tmp_path / name  # type: ignore[attr-defined]
    return go
