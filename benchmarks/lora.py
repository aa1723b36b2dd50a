"""LoRA beside full fine-tuning, both with thaw, alternating.

python benchmarks/lora.py [--model minilm] [--samples 960] [--epochs 1] [--seeds 1 2 3]
python benchmarks/lora.py --model mpnet --samples 0 --epochs 3      (on a quiet machine)

Both: movie_reviews, batches of 16, AdamW (fused, decay 0.01 but on biases and norms), warm-up
over 10 % and linear decay, clipping 1.0, no validation. Full fine-tuning has the learning rate in
`conf/model`; LoRA (`thaw` below) 5e-4, rank 8, alpha 16, dropout 0.1, on queries and values.

Seconds are those of fitting, memory is the peak of the process up to the end of training, and
`checkpoint_mib` is the size of the last checkpoint, with the optimizer's moments.
"""

import argparse
import csv
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from peers import compare, make_data, run_thaw_in

RECIPE = [
    "task.weight_decay=0.01",
    "task.warmup_ratio=0.1",
    "data.batch_size=16",
    "data.eval_batch_size=64",
    "trainer.gradient_clip_val=1.0",
    "trainer.precision=32-true",
    "callbacks=default",
    "callbacks.best=null",
    "callbacks.early_stopping=null",
    "logger=none",
]
WAYS = {"thaw": ["freeze=lora", "task.learning_rate=5e-4"], "full": ["freeze=none"]}


def files(args: argparse.Namespace, directory: Path) -> list[str]:
    """The overrides of data with `--samples` texts of train."""
    data, _, _ = make_data(["data=movie_reviews"], seed=0)
    for split in ("train", "test"):
        texts = (text for text, *_ in data.rows[split].texts)
        rows = list(zip(texts, data.rows[split].labels, strict=True))
        if split == "train" and args.samples:
            rows = random.Random(0).sample(rows, args.samples)
        with open(directory / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    names = [f"data.{split}={directory / split}.csv" for split in ("train", "test")]
    return ["data=files", *names, "data.validation=null", "data.labels=[rotten,fresh]"]


def worker(way: str) -> Callable[[argparse.Namespace], dict[str, float]]:
    """Returns a function that trains one way and measures it."""

    def run(args: argparse.Namespace) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            own = [f"model={args.model}", f"trainer.max_epochs={args.epochs}"]
            own += [f"trainer.accelerator={args.accelerator}", f"seed={args.seeds[0]}"]
            words = [*RECIPE, *files(args, directory), *own, *WAYS[way]]
            found = run_thaw_in(words, directory / "run")
            saved = (directory / "run" / "checkpoints" / "last.ckpt").stat().st_size
        return {
            "samples_per_second": found["samples_per_second"],
            "score": found["test/f1"],
            "memory_mib": found["peak_memory_mib"],
            "seconds": found["fit_seconds"],
            "checkpoint_mib": saved / 2**20,
        }

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=960, help="of train; 0: all")
    compare(parser, __file__, {way: worker(way) for way in WAYS}, "F1")
