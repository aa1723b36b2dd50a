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
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sequence import memory_mib, run, spread

RECIPE = [
    "task=mlm", "data=movie_reviews", "model=minilm", "task.learning_rate=3e-4",
    "task.weight_decay=0.01", "task.warmup_ratio=0.1", "task.mask_probability=0.15",
    "task.masking=token", "task.probes=[]", "data.batch_size=32", "data.eval_batch_size=64",
    "data.max_tokens=128", "trainer.max_epochs=1", "trainer.gradient_clip_val=1.0",
    "trainer.precision=32-true", "trainer.accelerator=cpu", "trainer.limit_val_batches=0",
    "callbacks=none", "logger=none",
]  # fmt: skip
PEERS = {"thaw": "", "default": "random", "grouped": "group_by_length"}


def thaw(seed: int, samples: int) -> dict[str, float]:
    """A run of thaw."""
    from thaw.cli import compose
    from thaw.train import train

    batches = [f"trainer.limit_train_batches={samples // 32}"] if samples else []
    with tempfile.TemporaryDirectory() as directory:
        train(compose([*RECIPE, *batches, f"seed={seed}", f"run_dir={directory}"]))
        metrics = json.loads((Path(directory) / "metrics.json").read_text())
    return {
        "samples_per_second": metrics["samples_per_second"],
        "loss": metrics["test/loss"],
        "memory_mib": metrics["peak_memory_mib"],
    }


def trainer(seed: int, samples: int, strategy: str) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import lightning.pytorch as pl
    import torch
    from hydra.utils import instantiate
    from transformers import (
        AutoModelForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from thaw.cli import compose
    from thaw.config import leave_unread, plain
    from thaw.sources import fetch_model

    cfg = compose([*RECIPE, f"seed={seed}", "run_dir=."])
    leave_unread(cfg)
    checkpoint = fetch_model(plain(cfg.model)["checkpoint"])
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=seed, _convert_="all")
    data.read()
    marks = [[int(word < 0) for word in words] for words in data.encoded["train"]["words"]]
    train_set = data.encoded["train"].remove_columns(["row", "words"])
    train_set = train_set.add_column("special_tokens_mask", marks)
    if samples:
        train_set = train_set.shuffle(seed=seed).select(range(samples // 32 * 32))
    set_seed(seed)
    model = AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory, num_train_epochs=1, learning_rate=3e-4, weight_decay=0.01,
            warmup_steps=0.1, max_grad_norm=1.0, per_device_train_batch_size=32,
            optim="adamw_torch_fused", use_cpu=True, seed=seed, train_sampling_strategy=strategy,
            length_column_name="length", save_strategy="no", eval_strategy="no", report_to="none",
            disable_tqdm=True,
        )  # fmt: skip
        peer = Trainer(
            model,
            arguments,
            train_dataset=train_set,
            data_collator=DataCollatorForLanguageModeling(data.tokenizer, mlm_probability=0.15),
        )
        began = time.monotonic()
        peer.train()
        seconds = time.monotonic() - began
        memory = memory_mib()
    task = instantiate(cfg.task, checkpoint=checkpoint, _convert_="all", **data.for_task())
    task.model.load_state_dict(model.state_dict())
    tester = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    [scores] = tester.test(task, datamodule=data, verbose=False)
    return {
        "samples_per_second": len(train_set) / seconds,
        "loss": scores["test/loss"],
        "memory_mib": memory,
    }


def report(results: dict[str, list[dict[str, Any]]]) -> None:
    """Prints means, and ratios by seed."""
    for peer, rows in results.items():
        speed, loss, memory = (
            [r[k] for r in rows] for k in ("samples_per_second", "loss", "memory_mib")
        )
        print(
            f"{peer:8} samples/s {spread(speed, 1)}  test loss {spread(loss, 4)}"
            f"  MiB {spread(memory, 0)}"
        )
    for peer in results:
        if peer != "thaw" and "thaw" in results:
            for key, name in (("samples_per_second", "speed"), ("memory_mib", "memory")):
                pairs = zip(results["thaw"], results[peer], strict=True)
                ratios = [a[key] / b[key] for a, b in pairs]
                each = [round(r, 2) for r in ratios]
                print(f"thaw / {peer}, {name}: {spread(ratios, 2)} (each {each})")
            loss = statistics.mean(
                a["loss"] - b["loss"] for a, b in zip(results["thaw"], results[peer], strict=True)
            )
            print(f"thaw - {peer}, test loss: {loss:+.4f}")


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
        seed = args.seeds[0]
        strategy = PEERS[args.worker]
        result = trainer(seed, args.samples, strategy) if strategy else thaw(seed, args.samples)
        print(json.dumps(result))
        return

    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}", flush=True)
    results: dict[str, list[dict[str, Any]]] = {peer: [] for peer in args.peers}
    for seed in args.seeds:
        for peer in args.peers:
            result = run(peer, seed, args.samples, __file__)
            results[peer].append(result)
            line = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
            print(f"seed {seed}  {peer:8} {line}", flush=True)
    report(results)


if __name__ == "__main__":
    main()
