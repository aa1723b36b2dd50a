"""Tiny models and data made on the spot, and a way to run thaw in this process."""

import csv
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

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
REPOSITORY = Path(__file__).parents[2]


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
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        **overrides,
    )


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
                at = rng.choice(
                    [
                        i
                        for i in range(len(pairs) + 1)
                        if i == len(pairs) or not pairs[i][1].startswith("I")
                    ]
                )
                tags = [f"B-{kind}", f"I-{kind}"][: len(words)]
                pairs[at:at] = zip(words, tags, strict=True)
        found[tuple(pairs)] = None
    return [list(pairs) for pairs in found]


def write_columns(path: Path, sentences: Iterable[Sequence[tuple[str, str]]]) -> Path:
    blocks = ["".join(f"{word} {tag}\n" for word, tag in pairs) for pairs in sentences]
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


TINY_RUN = [
    "data.batch_size=8",
    "data.max_tokens=64",
    "task.learning_rate=3e-3",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
]


def review_overrides(checkpoint: Path, reviews: Path) -> list[str]:
    """A run of two epochs on CPU in a few seconds."""
    splits = [f"data.{name}={name}.csv" for name in ("train", "validation", "test")]
    return [
        "data=files",
        f"data.path={reviews}",
        *splits,
        *TINY_RUN,
        f"model.checkpoint={checkpoint}",
    ]


def tagged_overrides(checkpoint: Path, tagged: Path) -> list[str]:
    """A run of task=ner of two epochs on CPU in a few seconds."""
    splits = [f"data.{name}={name}.conll" for name in ("train", "validation", "test")]
    task = ["task=ner", "data=conll", f"data.path={tagged}"]
    return [*task, *splits, *TINY_RUN, f"model.checkpoint={checkpoint}"]


def runner(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """A function that runs thaw with these and further overrides; see `run`.

    Args:
        overrides: overrides of all runs.
        tmp_path: directory in which the runs lie.
    """

    def go(*extra: str, name: str = "run") -> Path:
        from omegaconf import OmegaConf

        from thaw.cli.compose import compose
        from thaw.train import train

        options = [*overrides, *extra]
        if "freeze=lora" not in options:
            options.insert(0, f"freeze.cache.path={tmp_path / 'prefix'}")
        directory = tmp_path / name
        cfg = compose([*options, f"run_dir={directory}"])
        (directory / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, directory / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(options), directory / ".hydra" / "overrides.yaml")
        train(cfg)
        return directory

    go.directory = lambda name: tmp_path / name  # type: ignore[attr-defined]
    return go
