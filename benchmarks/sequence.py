"""The same fine-tuning with thaw and with transformers.Trainer, alternating.

python benchmarks/sequence.py [--seeds 1 2 3] [--samples 0] [--precision 32-true|bf16-mixed]
    [--peers thaw default grouped]

One recipe for all: all-MiniLM-L6-v2, movie_reviews, thaw's split and tokens, one epoch, batches of
16, AdamW (fused, 1e-4, decay 0.01 but on biases and norms), linear warm-up over 10 % and decay,
clipping 1.0, the model's own dropout, no validation and no checkpoint while training. `default` is
the Trainer's random order, `grouped` its `train_sampling_strategy="group_by_length"`. Each run is a
process of its own. Prints samples/s of training alone, peak memory of the process, and test F1
(second class) of the last weights; then ratios of runs with the same seed, which ran one after the
other.
"""

import argparse
from typing import Any

from peers import TRAINING_ALONE, compare, make_data, options_of, run_thaw, run_trainer

RECIPE = [
    *TRAINING_ALONE,
    "data=movie_reviews",
    "model=minilm",
    "task.learning_rate=1e-4",
    "data.batch_size=16",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
]


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """A run of thaw."""
    batches = [f"trainer.limit_train_batches={args.samples // 16}"] if args.samples else []
    own = [f"trainer.precision={args.precision}", f"seed={args.seeds[0]}"]
    return run_thaw([*RECIPE, *batches, *own], "test/f1")


def trainer(args: argparse.Namespace) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import torch
    from sklearn.metrics import f1_score
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, set_seed

    seed = args.seeds[0]
    data, checkpoint, cfg = make_data(RECIPE, seed)
    encoded = {split: part.remove_columns("row") for split, part in data.encoded.items()}
    train_set = encoded["train"]
    if args.samples:
        train_set = train_set.shuffle(seed=seed).select(range(args.samples // 16 * 16))
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=2, dtype=torch.float32
    )

    def score(peer: Any) -> float:
        # Its labels, not the data set's: group_by_length reorders evaluation too.
        logits, labels, _ = peer.predict(encoded["test"])
        return float(f1_score(labels, logits.argmax(-1)))

    collator = DataCollatorWithPadding(data.tokenizer)
    mixed = args.precision == "bf16-mixed"
    return run_trainer(model, cfg, train_set, collator, args, score, bf16=mixed)


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--samples", type=int, default=0, help="of train; 0: all")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    compare(parser, __file__, {"thaw": thaw, "default": trainer, "grouped": trainer}, "F1")
