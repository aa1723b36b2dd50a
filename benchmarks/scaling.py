"""Cost against work: seconds, samples per second and memory for more and more texts.

    python benchmarks/scaling.py --texts 1000 10000 100000

Texts are generated, of 3 to 40 words, with a label that follows from one of them. Each size is run
twice, in processes of their own: the second finds the tokens that the first kept. Start-up is the
same work for 100 texts, and is shown apart. `--stream` pretrains on a stream instead.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = (
    "the a film movie story actor scene plot with and of is was very quite it one of its kind but "
    "while never less than every minute long short old new big small"
)
MARKS = {"bad": ["dull", "bland", "weak", "tired"], "good": ["warm", "bright", "moving", "fresh"]}
STEPS = 20


def texts(count: int) -> Iterator[tuple[str, str]]:
    """Texts with their labels, as long as reviews are."""
    rng = random.Random(os.getpid())  # no tokens are kept of them yet
    filler = WORDS.split(" ")
    for number in range(count):
        label = rng.choice(list(MARKS))
        words = rng.choices(filler, k=rng.randint(2, 39))
        words.insert(rng.randrange(len(words) + 1), rng.choice(MARKS[label]))
        yield f"{' '.join(words)} {number}", label


def write(count: int, path: Path) -> None:
    """Writes texts as CSV."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        file.writelines(f"{text},{label}\n" for text, label in texts(count))


def recipe(train: Path, run_dir: Path, stream: bool) -> list[str]:
    """Overrides of a short run over all texts: `STEPS` steps of training, no evaluation."""
    words = [
        "data=files",
        f"data.train={train}",
        "data.validation=null",
        f"trainer.max_steps={STEPS}",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "trainer.val_check_interval=1.0",
        "callbacks=none",
        "logger=none",
        f"run_dir={run_dir}",
    ]
    return [*words, "task=mlm", "data.streaming=true", "task.probes=[]"] if stream else words


def worker(args: argparse.Namespace) -> None:
    """Runs one size and prints what it took."""
    import lightning.pytorch  # noqa: F401  (start-up apart)
    import transformers  # noqa: F401

    from thaw.cli.compose import compose
    from thaw.train import train

    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory) / "run"
        train(compose(recipe(args.train, run_dir, args.stream)))
        metrics = json.loads((run_dir / "metrics.json").read_text())
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - began,
                "samples_per_second": metrics["samples_per_second"],
                "memory_mib": metrics["peak_memory_mib"],
                "imports_mib": imported,
            }
        )
    )


def measured(train: Path, stream: bool) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--train", str(train), *(["--stream"] if stream else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Prints a line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        worker(args)
        return
    with tempfile.TemporaryDirectory() as directory:
        begin = Path(directory) / "begin.csv"
        write(100, begin)
        start = min(
            (measured(begin, args.stream) for _ in "ab"), key=lambda found: found["seconds"]
        )
        print(f"start-up: {start['seconds']:.1f} s, {start['memory_mib']:.0f} MiB", flush=True)
        print("texts      first s  again s  samples/s  MiB first  MiB again  bytes/text")
        for count in args.texts:
            path = Path(directory) / f"{count}.csv"
            write(count, path)
            first, again = (measured(path, args.stream) for _ in "ab")
            extra = (again["memory_mib"] - start["memory_mib"]) * 2**20 / count
            print(
                f"{count:<10,} {first['seconds'] - start['seconds']:7.1f}  "
                f"{again['seconds'] - start['seconds']:7.1f}  {again['samples_per_second']:9.1f}  "
                f"{first['memory_mib']:9.0f}  {again['memory_mib']:9.0f}  {extra:10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
