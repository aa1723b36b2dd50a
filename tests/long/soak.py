"""Many runs in one process: memory and open files must stay flat.

    python tests/long/soak.py --minutes 30

Trains tiny models on the CPU, one run after the other, as a sweep does in its process: each of
several kinds in turn, with its checkpoints, test, export, figures and W&B's offline files. After
each round it prints resident memory, open files, threads and children. The first rounds fill what
is kept on purpose (imports, allocator, tokenizers); of the rest, the last quarter is compared with
the first. Exit code 1 if memory grew by more than `--grown` MiB, or anything is left open.
"""

import argparse
import gc
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest  # noqa: F401  # sets the environment before torch is imported

from helpers.tiny import (
    save_tiny,
    sentences,
    tagged_sentences,
    tiny_config,
    write_columns,
    write_csv,
)

WARM = 3  # rounds


def resident_mib() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def state() -> dict[str, float]:
    """What a leak would make grow."""
    gc.collect()
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "mib": resident_mib(),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(mine),
    }


def kinds(directory: Path) -> dict[str, list[str]]:
    """Overrides of each kind of run, with the data that they need."""
    model = save_tiny("BertModel", tiny_config(), directory / "tiny-bert")
    rows = sentences(400)
    train = write_csv(directory / "train.csv", rows[:300], ["text", "label"])
    test = write_csv(directory / "test.csv", rows[300:], ["text", "label"])
    tagged = write_columns(directory / "train.conll", tagged_sentences(200))
    common = [
        f"model.checkpoint={model}",
        "data.max_tokens=64",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.enable_progress_bar=false",
        "trainer.max_epochs=2",
    ]
    texts = ["data=files", f"data.train={train}", f"data.test={test}"]
    return {
        "sequence": [*common, *texts],
        "frozen": [*common, *texts, "freeze=last", "freeze.blocks=1", "logger=csv"],
        "workers": [*common, *texts, "data.num_workers=1", "logger=csv"],
        "ner": [
            *common,
            "task=ner",
            "data=conll",
            f"data.train={tagged}",
            "data.test=0.2",
            "logger=csv",
        ],
        "mlm": [*common, "task=mlm", *texts, "logger=tensorboard"],
        "setfit": [
            *common,
            "task=setfit",
            *texts,
            "task.shots=8",
            "data.batch_size=8",
            "trainer.max_epochs=1",
            "logger=csv",
        ],
    }


def run(words: list[str], directory: Path, seed: int) -> int:
    """One run; gives its steps and leaves nothing on the disk."""
    from thaw.cli.compose import compose
    from thaw.train import train

    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        train(compose([*words, f"seed={seed}", f"run_dir={directory}"]))
    steps = json.loads((directory / "metrics.json").read_text())["steps"]
    shutil.rmtree(directory)
    return steps


def verdict(rounds: list[dict[str, float]], grown_mib: float) -> list[str]:
    """What grew between the first and the last quarter of the rounds after the warm-up.

    Args:
        rounds: of `state`.
        grown_mib: how much memory may.
    """
    kept = rounds[WARM:]
    if len(kept) < 4:
        return [f"only {len(rounds)} rounds, at least {WARM + 4} are needed: more --minutes"]
    quarter = len(kept) // 4
    found = []
    for name in kept[0]:
        before, after = (
            sorted(r[name] for r in part)[len(part) // 2]
            for part in (kept[:quarter], kept[-quarter:])
        )
        print(f"{name}: {before:.1f} in the first quarter, {after:.1f} in the last")
        if after - before > (grown_mib if name == "mib" else 0):
            found.append(f"{name} grew from {before:.1f} to {after:.1f}")
    return found


def main() -> None:
    """Prints a line for each round; exit code 1 where something grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--grown", type=float, default=16, help="MiB that memory may grow by")
    parser.add_argument("--kinds", nargs="+", help="of runs; default: all")
    args = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.environ["THAW_CACHE"] = str(directory / "cache")
        logging.getLogger("thaw").setLevel(logging.ERROR)
        chosen = {k: v for k, v in kinds(directory).items() if k in (args.kinds or [k])}
        began, steps = time.monotonic(), 0
        print("round  runs  steps  seconds      MiB  files  threads  children", flush=True)
        while time.monotonic() - began < args.minutes * 60:
            for kind, words in chosen.items():
                steps += run(words, directory / kind, seed=len(rounds))
            rounds.append(state())
            print(
                f"{len(rounds):5}  {len(rounds) * len(chosen):4}  {steps:5}  "
                f"{time.monotonic() - began:7.0f}  {rounds[-1]['mib']:7.1f}  "
                f"{rounds[-1]['files']:5}  {rounds[-1]['threads']:7}  {rounds[-1]['children']:8}",
                flush=True,
            )
        if grew := verdict(rounds, args.grown):
            sys.exit("\n".join(grew))


if __name__ == "__main__":
    main()
