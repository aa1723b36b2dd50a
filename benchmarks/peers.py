"""What the benchmarks share: runs in turn, each a process of its own, and the table of them."""

import argparse
import csv
import json
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Of every recipe: decay but on biases and norms, warm-up over 10 % and linear decay, clipping 1.0.
RECIPE = [
    "task.weight_decay=0.01",
    "task.warmup_ratio=0.1",
    "data.eval_batch_size=64",
    "trainer.gradient_clip_val=1.0",
    "trainer.precision=32-true",
    "logger=none",
]
TRAINING_ALONE = [*RECIPE, "trainer.accelerator=cpu", "callbacks=none"]  # no checkpoints
STRATEGIES = {"default": "random", "grouped": "group_by_length"}
Worker = Callable[[argparse.Namespace], dict[str, float]]


def run_thaw(words: list[str], score: str) -> dict[str, float]:
    """A run of thaw.

    Args:
        words: overrides.
        score: the metric to report.
    """
    with tempfile.TemporaryDirectory() as directory:
        metrics = run_thaw_in(words, Path(directory))
    return {
        "samples_per_second": metrics["samples_per_second"],
        "score": metrics[score],
        "memory_mib": metrics["peak_memory_mib"],
    }


def run_thaw_in(words: list[str], run_dir: Path) -> dict[str, float]:
    """The metrics of a run of thaw that leaves a directory."""
    from thaw.cli.compose import compose
    from thaw.train import train

    train(compose([*words, f"run_dir={run_dir}"]))
    return json.loads((run_dir / "metrics.json").read_text())


def make_data(words: list[str], seed: int) -> tuple[Any, Path, Any]:
    """thaw's datamodule of some overrides, with its splits read; the model's directory; the config.

    Peers train on the same tokens.
    """
    from hydra.utils import instantiate

    from thaw.cli.check import leave_unread, plain
    from thaw.cli.compose import compose
    from thaw.storage.checkpoints import fetch_model

    cfg = compose([*words, "run_dir=."])
    leave_unread(cfg)
    checkpoint = fetch_model(plain(cfg.model)["checkpoint"])
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=seed, _convert_="all")
    data.read()
    return data, checkpoint, cfg


def review_files(directory: Path, samples: int) -> list[str]:
    """The overrides of data for movie_reviews with some texts of train, 0 for all, as files."""
    data, _, _ = make_data(["data=movie_reviews", "model=minilm"], seed=0)
    for split in ("train", "test"):
        texts = (text for text, *_ in data.rows[split].texts)
        rows = list(zip(texts, data.rows[split].labels, strict=True))
        if split == "train" and samples:
            rows = random.Random(0).sample(rows, samples)
        with open(directory / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    files = [f"data.{split}={directory / split}.csv" for split in ("train", "test")]
    return ["data=files", *files, "data.validation=null", "data.labels=[rotten,fresh]"]


def options_of(description: str | None) -> argparse.ArgumentParser:
    """A parser for the benchmark's own options, which `compare` adds to."""
    form = argparse.RawTextHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=form)


def run_trainer(
    model: Any,
    cfg: Any,
    train_set: Any,
    collator: Any,
    args: argparse.Namespace,
    score: Callable[[Any], float],
    callbacks: Sequence[Any] = (),
    **options: Any,
) -> dict[str, float]:
    """The same recipe with transformers.Trainer.

    Args:
        model: with its head.
        cfg: thaw's config, whose recipe is taken.
        train_set: encoded texts, with a column `length`.
        collator: of batches.
        args: of the benchmark.
        score: takes the trained Trainer.
        callbacks: of the Trainer.
        options: more of its arguments.
    """
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            output_dir=directory,
            num_train_epochs=cfg.trainer.max_epochs,
            learning_rate=float(cfg.task.learning_rate),
            weight_decay=cfg.task.weight_decay,
            warmup_steps=cfg.task.warmup_ratio,
            max_grad_norm=cfg.trainer.gradient_clip_val,
            per_device_train_batch_size=cfg.data.batch_size,
            per_device_eval_batch_size=cfg.data.eval_batch_size,
            optim="adamw_torch_fused",
            seed=args.seeds[0],
            train_sampling_strategy=STRATEGIES[args.worker],
            length_column_name="length",
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **({"use_cpu": True} | options),
        )
        peer = Trainer(
            model, arguments, collator, train_dataset=train_set, callbacks=list(callbacks)
        )
        began = time.monotonic()
        peer.train()
        seconds = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return {
            "samples_per_second": len(train_set) * cfg.trainer.max_epochs / seconds,
            "score": score(peer),
            "memory_mib": memory,
        }


def in_a_process(script: str, peer: str, seed: int, words: list[str]) -> dict[str, float]:
    """One run in a process of its own."""
    done = subprocess.run(
        [sys.executable, script, "--worker", peer, "--seeds", str(seed), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"WANDB_MODE": "disabled"},
    )
    if done.returncode:
        raise SystemExit(f"{peer}, seed {seed}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation."""
    known = len(values) > 1 and math.isfinite(sum(values))
    deviation = statistics.stdev(values) if known else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def compare(
    parser: argparse.ArgumentParser,
    script: str,
    workers: Mapping[str, Worker],
    score: str,
    measure: str = "samples_per_second",
) -> None:
    """Runs the peers in turn; prints each run, means, and ratios of runs with the same seed.

    Memory is the peak of a process up to the end of training.

    Args:
        parser: with the benchmark's own options.
        script: the benchmark's file, to run each peer in a process of its own; "": in this one.
        workers: what runs a peer.
        score: what the quality is called.
        measure: what is compared besides memory, by its key in a run's result.
    """
    own = {a.option_strings[0]: a.dest for a in parser._actions if a.dest != "help"}
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--peers", nargs="+", choices=list(workers), default=list(workers))
    parser.add_argument("--worker", choices=list(workers), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(workers[args.worker](args)))
        return

    words = [w for name in own for w in (name, str(getattr(args, own[name])))]
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}", flush=True)
    results: dict[str, list[dict[str, Any]]] = {peer: [] for peer in args.peers}
    for seed in args.seeds:
        for peer in args.peers:
            if script:
                result = in_a_process(script, peer, seed, words)
            else:
                own_args = argparse.Namespace(**vars(args) | {"worker": peer, "seeds": [seed]})
                result = workers[peer](own_args)
            results[peer].append(result)
            line = "  ".join(f"{key} {value:.4g}" for key, value in result.items())
            print(f"seed {seed}  {peer:8} {line}", flush=True)
    for peer, rows in results.items():
        speed, quality, memory = ([r[k] for r in rows] for k in (measure, "score", "memory_mib"))
        print(
            f"{peer:8} {measure} {spread(speed, 1)}  {score} {spread(quality, 4)}  "
            f"MiB {spread(memory, 0)}"
        )
    for peer in args.peers:
        if peer == "thaw" or "thaw" not in results:
            continue
        for key in (measure, "memory_mib"):
            pairs = zip(results["thaw"], results[peer], strict=True)
            ratios = [a[key] / b[key] for a, b in pairs]
            each = [round(r, 3) for r in ratios]
            print(f"thaw / {peer}, {key}: {spread(ratios, 3)} (each {each})")
