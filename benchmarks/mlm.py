"""The same continued pretraining with thaw and with transformers.Trainer, alternating.

python benchmarks/mlm.py [--seeds 1 2 3] [--samples 0] [--peers thaw default grouped]

One recipe for all: all-MiniLM-L6-v2 with a fresh head tied to its embeddings, movie_reviews, thaw's
split and tokens (128 at most), one epoch, batches of 32, 15 % of tokens masked 80/10/10, AdamW
(fused, 3e-4, decay 0.01 but on biases and norms), linear warm-up over 10 % and decay, clipping 1.0,
the model's own dropout, no validation and no checkpoint while training. `default` is the Trainer's
random order with DataCollatorForLanguageModeling, `grouped` its
`train_sampling_strategy="group_by_length"`. Each run is a process of its own. Prints samples/s of
training alone, peak memory of the process up to the end of training, and the loss of the last
weights on the test split, for all by thaw's code and with the same masks; then ratios of runs with
the same seed, which ran one after the other.
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from peers import TRAINING_ALONE, compare, make_data, options_of, run_thaw, run_trainer

RECIPE = [
    *TRAINING_ALONE,
    "task=mlm",
    "model=minilm",
    "task.learning_rate=3e-4",
    "task.mask_probability=0.15",
    "task.masking=token",
    "task.probes=[]",
    "data.batch_size=32",
    "data.max_tokens=128",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
]


def recipe(args: argparse.Namespace, directory: Path) -> list[str]:
    """The overrides of a run; `directory` gets the texts, where not all are used."""
    words = [*RECIPE, f"seed={args.seeds[0]}"]
    if not args.samples:
        return [*words, "data=movie_reviews"]
    data, _, _ = make_data([*words, "data=movie_reviews"], 0)
    texts = [text for (text,) in data.rows["train"].texts]
    parts = {
        "train": random.Random(args.seeds[0]).sample(texts, args.samples),
        "test": [text for (text,) in data.rows["test"].texts],
    }
    for split, part in parts.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
        (directory / f"{split}.jsonl").write_text(lines)
    return [
        *words,
        "data=files",
        f"data.path={directory}",
        "data.train=train.jsonl",
        "data.validation=null",
        "data.test=test.jsonl",
    ]


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """A run of thaw."""
    with tempfile.TemporaryDirectory() as directory:
        return run_thaw(recipe(args, Path(directory)), "test/loss")


def trainer(args: argparse.Namespace) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import lightning.pytorch as pl
    import torch
    from hydra.utils import instantiate
    from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, set_seed

    seed = args.seeds[0]
    with tempfile.TemporaryDirectory() as directory:
        data, checkpoint, cfg = make_data(recipe(args, Path(directory)), seed)
    marks = [[int(word < 0) for word in words] for words in data.encoded["train"]["words"]]
    train_set = data.encoded["train"].remove_columns(["row", "words"])
    train_set = train_set.add_column("special_tokens_mask", marks)
    set_seed(seed)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32)

    def score(peer: Any) -> float:
        task = instantiate(cfg.task, checkpoint=checkpoint, _convert_="all", **data.task_kwargs())
        task.model.load_state_dict(model.state_dict())
        tester = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
        [scores] = tester.test(task, datamodule=data, verbose=False)
        return scores["test/loss"]

    collator = DataCollatorForLanguageModeling(data.tokenizer, mlm_probability=0.15)
    return run_trainer(model, cfg, train_set, collator, args, score)


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--samples", type=int, default=0, help="texts of train, at random; 0: all")
    compare(parser, __file__, {"thaw": thaw, "default": trainer, "grouped": trainer}, "test loss")
