"""The same fine-tuning with thaw and with transformers.Trainer, alternating.

python benchmarks/sequence.py [--seeds 1 2 3] [--samples 0] [--peers thaw default grouped]

One recipe for all: all-MiniLM-L6-v2, movie_reviews, thaw's split and tokens, one epoch, batches of
16, AdamW (fused, 1e-4, decay 0.01 but on biases and norms), linear warm-up over 10 % and decay,
clipping 1.0, the model's own dropout, no validation and no checkpoint while training. `default` is
the Trainer's random order, `grouped` its `train_sampling_strategy="group_by_length"`. Each run is a
process of its own. Prints samples/s of training alone, peak memory of the process, and test F1
(second class) of the last weights; then ratios of runs with the same seed, which ran one after the
other.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = [
    "data=movie_reviews", "model=minilm", "task.learning_rate=1e-4", "task.weight_decay=0.01",
    "task.warmup_ratio=0.1", "data.batch_size=16", "data.eval_batch_size=64",
    "trainer.max_epochs=1", "trainer.gradient_clip_val=1.0", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "trainer.limit_val_batches=0", "callbacks=none", "logger=none",
]  # fmt: skip
PEERS = ("thaw", "default", "grouped")


def memory_mib() -> float:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def thaw(seed: int, samples: int) -> dict[str, float]:
    """A run of thaw."""
    from thaw.cli import compose
    from thaw.train import train

    batches = [f"trainer.limit_train_batches={samples // 16}"] if samples else []
    with tempfile.TemporaryDirectory() as directory:
        train(compose([*RECIPE, *batches, f"seed={seed}", f"run_dir={directory}"]))
        metrics = json.loads((Path(directory) / "metrics.json").read_text())
    return {
        "samples_per_second": metrics["samples_per_second"],
        "f1": metrics["test/f1"],
        "memory_mib": memory_mib(),
    }


def trainer(seed: int, samples: int, strategy: str) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import torch
    from hydra.utils import instantiate
    from sklearn.metrics import f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from thaw.cli import compose
    from thaw.config import plain
    from thaw.sources import fetch_model

    cfg = compose([*RECIPE, "run_dir=."])
    checkpoint = fetch_model(plain(cfg.model)["checkpoint"])
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=seed, _convert_="all")
    data.read()
    encoded = {split: part.remove_columns("row") for split, part in data.encoded.items()}
    train_set = encoded["train"]
    if samples:
        train_set = train_set.shuffle(seed=seed).select(range(samples // 16 * 16))
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=2, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory, num_train_epochs=1, learning_rate=1e-4, weight_decay=0.01,
            warmup_steps=0.1, max_grad_norm=1.0, per_device_train_batch_size=16,
            per_device_eval_batch_size=64, optim="adamw_torch_fused", use_cpu=True, seed=seed,
            train_sampling_strategy=strategy, length_column_name="length", save_strategy="no",
            eval_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        peer = Trainer(
            model,
            arguments,
            train_dataset=train_set,
            data_collator=DataCollatorWithPadding(data.tokenizer),
        )
        began = time.monotonic()
        peer.train()
        seconds = time.monotonic() - began
        # Its labels, not the data set's: group_by_length reorders evaluation too.
        logits: Any
        logits, labels, _ = peer.predict(encoded["test"])
    return {
        "samples_per_second": len(train_set) / seconds,
        "f1": float(f1_score(labels, logits.argmax(-1))),
        "memory_mib": memory_mib(),
    }


def run(peer: str, seed: int, samples: int, script: str = __file__) -> dict[str, float]:
    """One run of a benchmark's script in a process of its own."""
    words = [sys.executable, script, "--worker", peer, "--seeds", str(seed)]
    done = subprocess.run(
        [*words, "--samples", str(samples)],
        capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "disabled"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{peer}, seed {seed}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def main() -> None:
    """Runs the peers in turn and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--samples", type=int, default=0, help="of train; 0: all")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        strategies = {"default": "random", "grouped": "group_by_length"}
        if args.worker == "thaw":
            result = thaw(args.seeds[0], args.samples)
        else:
            result = trainer(args.seeds[0], args.samples, strategies[args.worker])
        print(json.dumps(result))
        return

    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}", flush=True)
    results: dict[str, list[dict[str, Any]]] = {peer: [] for peer in args.peers}
    for seed in args.seeds:
        for peer in args.peers:
            result = run(peer, seed, args.samples)
            results[peer].append(result)
            line = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
            print(f"seed {seed}  {peer:8} {line}", flush=True)
    for peer, rows in results.items():
        speed, f1, memory = (
            [r[k] for r in rows] for k in ("samples_per_second", "f1", "memory_mib")
        )
        print(f"{peer:8} samples/s {spread(speed, 1)}  F1 {spread(f1, 4)}  MiB {spread(memory, 0)}")
    for peer in args.peers:
        if peer != "thaw" and "thaw" in results:
            pairs = zip(results["thaw"], results[peer], strict=True)
            ratios = [a["samples_per_second"] / b["samples_per_second"] for a, b in pairs]
            print(f"thaw / {peer}: {spread(ratios, 2)} (each {[round(r, 2) for r in ratios]})")


if __name__ == "__main__":
    main()
