"""What `trainer.compile=true` brings on a CPU, and what it costs first.

python benchmarks/compile.py [--task sequence|ner|mlm|setfit] [--precision auto] [--seed 1]
    [--samples 2400] [--steps 40]

all-MiniLM-L6-v2, reviews in batches of 16 grouped by length (pretraining: 32). Two processes, the
first with an empty cache of inductor's and the second with what it left. Each trains on the batches
once, which compiles the blocks, and then on each batch compiled and not, one right after the other.
Start-up is what the first pass took more than the same batches took later. Prints the seconds of a
step, their ratio, start-up, and the number of steps after which it pays.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from freeze import words as recipe
from steps import Training, changed, pairs

from thaw.encoder.blocks import encoder_parts
from thaw.encoder.hardware import bf16_units
from thaw.training.libraries import keep_freed_memory, silence_libraries

TASKS = {"sequence": [], "mlm": ["task=mlm", "task.probes=[]", "data.batch_size=32"]}


@contextmanager
def not_compiled(training: Training) -> Iterator[None]:
    """Runs the blocks as they are for a while."""
    with ExitStack() as stack:
        for block in encoder_parts(training.model).blocks:
            stack.enter_context(changed(block[0], "_compiled_call_impl", None))
        yield


def work(words: list[str], args: argparse.Namespace) -> None:
    """Prints the seconds of the first pass, and of later ones compiled and not, as JSON."""
    precision = args.precision
    if precision == "auto":
        precision = "bf16-mixed" if bf16_units("cpu") else "32-true"
    training = Training(words, args.seed, args.steps, precision)
    for _ in range(2):  # the libraries' own first steps
        with not_compiled(training):
            training.step(training.longest)
    training.task.compile_blocks()
    first = sum(map(training.step, training.batches))
    compiled, plain = map(sum, pairs(training, not_compiled))
    print(json.dumps({"first": first, "compiled": compiled, "plain": plain, "what": precision}))


def main() -> None:
    """Prints what both processes took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--task", choices=list(TASKS), default="sequence")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.worker:
        silence_libraries()
        keep_freed_memory()
        return work(json.loads(args.worker), args)
    with tempfile.TemporaryDirectory() as place:
        asked = argparse.Namespace(samples=args.samples, epochs=1, seeds=[args.seed])
        words = json.dumps([*recipe(asked, Path(place)), *TASKS[args.task]])
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{place}/inductor"}
        for cache in ("empty", "full"):
            command = [sys.executable, __file__, "--worker", words, *sys.argv[1:]]
            done = subprocess.run(command, capture_output=True, text=True, env=env)
            if done.returncode:
                raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
            report(cache, json.loads(done.stdout.strip().splitlines()[-1]), args.steps)
    return None


def report(cache: str, found: dict, steps: int) -> None:
    """Prints a line on what a process took.

    Args:
        cache: whether inductor's cache was "empty" or "full" before.
        found: what the process printed.
        steps: number of batches.
    """
    start = found["first"] - found["compiled"]
    gain = (found["plain"] - found["compiled"]) / steps
    pays = f"pays after {start / gain:,.0f} steps" if gain > 0 else "never pays"
    print(
        f"{found['what']}, {torch.get_num_threads()} threads, cache {cache}: "
        f"{found['plain'] / steps:.4f} s a step, compiled {found['compiled'] / steps:.4f} s, "
        f"{found['plain'] / found['compiled']:.3f} times as fast; "
        f"start-up {start:.1f} s, {pays}",
        flush=True,
    )


if __name__ == "__main__":
    main()
