"""Fine-tuning with frozen blocks, with thaw and with transformers.Trainer, alternating.

python benchmarks/freeze.py --blocks 0 --epochs 10 [--samples 0] [--seeds 1 2 3]
python benchmarks/freeze.py --blocks 1 --epochs 10
python benchmarks/freeze.py --blocks 0,1,2,3,4,5,6 --epochs 3      (a whole sweep of depths)

One recipe for all: all-MiniLM-L6-v2, movie_reviews, thaw's split and tokens, the last `--blocks`
blocks and the head train, batches of 16, AdamW (fused, 2e-4, decay 0.01 but on biases and norms),
linear warm-up over 10 % and decay, clipping 1.0, no validation and no checkpoint while training.
The Trainer keeps dropout on in frozen blocks, thaw does not: what they give could not be kept. With
several depths, a peer trains them one after the other in one process, and its score is the mean.

Each run starts with an empty cache, which its depths share. Seconds are those of fitting, filling
the cache among them; samples/s are samples of all epochs by these seconds. `cache_seconds` and
`cache_mib` are what filling took and what lies on disk.
"""

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

from peers import (
    TRAINING_ALONE,
    compare,
    make_data,
    options_of,
    review_files,
    run_thaw_in,
    run_trainer,
)

RECIPE = [*TRAINING_ALONE, "model=minilm", "task.learning_rate=2e-4", "data.batch_size=16"]


def words(args: argparse.Namespace, directory: Path) -> list[str]:
    """The recipe with the benchmark's options, on files of `--samples` texts."""
    own = [f"trainer.max_epochs={args.epochs}", f"seed={args.seeds[0]}"]
    return [*RECIPE, *review_files(directory, args.samples), *own]


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """Runs of thaw."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        recipe = words(args, Path(directory))
        count = len(open_rows(Path(directory) / "train.csv"))
        for number in args.blocks.split(","):
            own = ["freeze=last", f"freeze.blocks={number}", f"freeze.cache.path={directory}/cache"]
            found.append(run_thaw_in([*recipe, *own], Path(directory) / f"blocks-{number}"))
    seconds = sum(m["fit_seconds"] for m in found)
    return {
        "samples_per_second": count * args.epochs * len(found) / seconds,
        "score": sum(m["test/f1"] for m in found) / len(found),
        "memory_mib": max(m["peak_memory_mib"] for m in found),
        "seconds": seconds,
        "cache_seconds": sum(m.get("prefix_seconds", 0.0) for m in found),
        "cache_mib": sum(m.get("prefix_mib", 0.0) for m in found),
    }


def open_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trainer(args: argparse.Namespace) -> dict[str, float]:
    """The same with transformers.Trainer."""
    from sklearn.metrics import f1_score
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, set_seed

    from thaw.encoder.freeze import LastBlocks

    found = []
    with tempfile.TemporaryDirectory() as directory:
        data, checkpoint, cfg = make_data(words(args, Path(directory)), args.seeds[0])
    encoded = {split: part.remove_columns("row") for split, part in data.encoded.items()}

    def score(peer: Any) -> float:
        # Its labels, not the data set's: group_by_length reorders evaluation too.
        logits, labels, _ = peer.predict(encoded["test"])
        return float(f1_score(labels, logits.argmax(-1)))

    for number in args.blocks.split(","):
        set_seed(args.seeds[0])
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
        LastBlocks(int(number))(model)
        collator = DataCollatorWithPadding(data.tokenizer)
        found.append(run_trainer(model, cfg, encoded["train"], collator, args, score))
    samples = len(encoded["train"]) * args.epochs
    seconds = sum(samples / m["samples_per_second"] for m in found)
    return {
        "samples_per_second": samples * len(found) / seconds,
        "score": sum(m["score"] for m in found) / len(found),
        "memory_mib": max(m["memory_mib"] for m in found),
        "seconds": seconds,
    }


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--blocks", default="0", help="that train: a number, or several by commas")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=0, help="of train; 0: all")
    compare(parser, __file__, {"thaw": thaw, "default": trainer, "grouped": trainer}, "F1")
