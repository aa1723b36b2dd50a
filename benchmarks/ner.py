"""Entity recognition with thaw and with transformers.Trainer, alternating.

python benchmarks/ner.py [--lengths wnut16|conll] [--epochs 10] [--seeds 1 2 3]
    [--peers thaw shuffled default grouped] [--window 50]

One recipe for all: all-MiniLM-L6-v2, wnut16, thaw's split, tokens and labels, batches of 16, AdamW
(fused, 2e-4, decay 0.01 but on biases and norms), linear warm-up over 10 % and decay, clipping 1.0,
the model's own dropout, no validation and no checkpoint while training. `default` is the Trainer's
random order, `grouped` its `train_sampling_strategy="group_by_length"`. `thaw` sorts windows of
--window batches by length, and `shuffled` is thaw with batches in random order. Each run is a
process of its own. Prints samples/s of training alone, peak memory of the process, and entity F1 on
test of the last weights (seqeval for the Trainer, tags of first subwords); then ratios of runs with
the same seed, which ran one after the other.

--lengths conll cuts the words of train anew, in their order, into sentences as long as CoNLL-2003's
in tokens: mean 20, and 2.38 tokens per real token in random batches of 16 (a log-normal
distribution with sigma 0.55 has both). Test stays as it is.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from peers import TRAINING_ALONE, compare, make_data, options_of, run_thaw, run_trainer

RECIPE = [
    *TRAINING_ALONE,
    "task=ner",
    "model=minilm",
    "task.learning_rate=2e-4",
    "data.batch_size=16",
    "trainer.limit_val_batches=0",
]


def recipe(args: argparse.Namespace, directory: Path) -> list[str]:
    """The overrides of a run; its data lies in `directory` where it is cut anew."""
    words = [*RECIPE, f"trainer.max_epochs={args.epochs}", f"seed={args.seeds[0]}"]
    if args.lengths == "wnut16":
        return [*words, "data=wnut16"]
    data, _, _ = make_data([*RECIPE, "data=wnut16"], 0)
    write(
        directory / "test.txt", zip(data.rows["test"].texts, data.rows["test"].labels, strict=True)
    )
    write(directory / "train.txt", cut_anew(data))
    return [
        *words,
        "data=conll",
        f"data.path={directory}",
        "data.train=train.txt",
        "data.validation=null",
        "data.test=test.txt",
    ]


def cut_anew(data: Any) -> list[tuple[list[str], list[str]]]:
    """The words of train as sentences with CoNLL-2003's lengths in tokens."""
    rng = np.random.default_rng(0)
    rows = data.rows["train"]
    out: list[tuple[list[str], list[str]]] = []
    room = 0
    for words, tags in zip(rows.texts, rows.labels, strict=True):
        for word, tag in zip(words, tags, strict=True):
            size = len(data.tokenizer(word, add_special_tokens=False)["input_ids"])
            if room <= 0 and not tag.startswith("I-"):
                room = round(min(rng.lognormal(np.log(20) - 0.55**2 / 2, 0.55), 128)) - 2
                out.append(([], []))
            out[-1][0].append(word)
            out[-1][1].append(tag)
            room -= size
    return out


def write(path: Path, sentences: Any) -> None:
    """Writes sentences as a column file."""
    with open(path, "w", encoding="utf-8") as file:
        for words, tags in sentences:
            file.writelines(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
            file.write("\n")


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """A run of thaw; a window of one batch is not sorted."""
    from thaw.data.batch.samplers import LengthGroupedBatches

    window = 1 if args.worker == "shuffled" else args.window
    batches = partial(LengthGroupedBatches, window=window)
    with (
        tempfile.TemporaryDirectory() as directory,
        patch("thaw.data.loaders.LengthGroupedBatches", batches),
    ):
        return run_thaw(recipe(args, Path(directory)), "test/f1")


def trainer(args: argparse.Namespace) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import torch
    from datasets import Dataset
    from seqeval.metrics import f1_score
    from transformers import (
        AutoModelForTokenClassification,
        DataCollatorForTokenClassification,
        set_seed,
    )

    with tempfile.TemporaryDirectory() as directory:
        data, checkpoint, cfg = make_data(recipe(args, Path(directory)), args.seeds[0])
    keys = ("input_ids", "attention_mask", "token_type_ids", "labels")
    sets = {
        split: Dataset.from_list(
            [
                {key: row[key][0] for key in keys} | {"length": len(row["input_ids"][0])}
                for row in part
            ]
        )
        for split, part in data.encoded.items()
    }
    set_seed(args.seeds[0])
    model = AutoModelForTokenClassification.from_pretrained(
        checkpoint, num_labels=len(data.labels), dtype=torch.float32
    )

    def score(peer: Any) -> float:
        peer.args.train_sampling_strategy = "random"  # else evaluation is reordered
        logits, _, _ = peer.predict(sets["test"])
        predicted = [
            [
                data.labels[logits[i, at].argmax()]
                for at, word in enumerate(row["word"][0])
                if word >= 0
            ]
            for i, row in enumerate(data.encoded["test"])
        ]
        return float(f1_score(data.rows["test"].labels, predicted))

    collator = DataCollatorForTokenClassification(data.tokenizer)
    return run_trainer(model, cfg, sets["train"], collator, args, score)


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--lengths", choices=["wnut16", "conll"], default="wnut16")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--window", type=int, default=50, help="batches that thaw sorts together")
    peers = {"thaw": thaw, "shuffled": thaw, "default": trainer, "grouped": trainer}
    compare(parser, __file__, peers, "entity F1")
