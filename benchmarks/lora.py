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
import tempfile
from collections.abc import Callable
from pathlib import Path

from peers import RECIPE, compare, options_of, review_files, run_thaw_in

CHECKPOINTS = ["callbacks=default", "callbacks.best=null", "callbacks.early_stopping=null"]
WAYS = {"thaw": ["freeze=lora", "task.learning_rate=5e-4"], "full": ["freeze=none"]}


def worker(way: str) -> Callable[[argparse.Namespace], dict[str, float]]:
    """Returns a function that trains one way and measures it."""

    def run(args: argparse.Namespace) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            own = [f"model={args.model}", "data.batch_size=16"]
            own += [f"trainer.max_epochs={args.epochs}"]
            own += [f"trainer.accelerator={args.accelerator}", f"seed={args.seeds[0]}"]
            files = review_files(directory, args.samples)
            words = [*RECIPE, *CHECKPOINTS, *files, *own, *WAYS[way]]
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
    parser = options_of(__doc__)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=960, help="of train; 0: all")
    compare(parser, __file__, {way: worker(way) for way in WAYS}, "F1")
