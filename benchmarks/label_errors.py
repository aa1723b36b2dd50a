"""How many of the labels that were flipped on purpose `thaw.label_errors` puts first.

python benchmarks/label_errors.py [--seeds 1] [--share 0.05] [--folds 5] [--output DIR] [OPTION ...]

movie_reviews, each text once; a share of the labels, drawn by the seed, becomes the other label. A
cross-validation over movies leaves out-of-fold probabilities, and of the ranking as many texts are
taken as labels were flipped: precision is the share of flipped ones among them, which is also the
recall. By chance it would be the share itself. Labels that were wrong before count as false.
"""

import argparse
import csv
import random
import statistics
import subprocess
import sys
from pathlib import Path

from peers import make_data

RECIPE = [
    "model=minilm",
    "freeze=last",
    "freeze.blocks=1",
    "task.learning_rate=2e-4",
    "data.batch_size=32",
    "trainer.max_epochs=2",
    "logger=none",
]
LABELS = ("rotten", "fresh")


def write_flipped(path: Path, share: float, seed: int) -> set[str]:
    """Writes the reviews with a share of their labels flipped; returns the texts of these."""
    data, _, _ = make_data(["data=movie_reviews", "model=minilm"], seed=0)
    rows: dict[str, tuple[str, str]] = {}
    for split in ("train", "validation", "test"):
        texts = data.rows[split]
        for (text,), label, movie in zip(texts.texts, texts.labels, texts.groups, strict=True):
            rows.setdefault(text, (label, movie))
    flipped = set(random.Random(seed).sample(sorted(rows), round(share * len(rows))))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "movie"))
        for text, (label, movie) in rows.items():
            other = LABELS[1 - LABELS.index(label)]
            writer.writerow((text, other if text in flipped else label, movie))
    return flipped


def precision(args: argparse.Namespace, seed: int) -> float:
    """Returns the precision at the number of flipped labels, of one seed."""
    directory = args.output / f"seed{seed}"
    directory.mkdir(parents=True)
    flipped = write_flipped(directory / "reviews.csv", args.share, seed)
    data = [
        "data=files",
        f"data.train={directory / 'reviews.csv'}",
        "data.group=movie",
        f"data.labels=[{','.join(LABELS)}]",
        f"data.folds={args.folds}",
        f"data.fold={','.join(map(str, range(args.folds)))}",
    ]
    sweep = directory / "sweep"
    words = [*RECIPE, *data, f"seed={seed}", *args.overrides, f"hydra.sweep.dir={sweep}"]
    train = Path(__file__).parents[1] / "train.py"
    subprocess.run([sys.executable, train, "-m", *words], check=True)
    subprocess.run([sys.executable, "-m", "thaw.label_errors", f"sweep={sweep}"], check=True)
    with open(sweep / "label_errors.csv", newline="", encoding="utf-8") as file:
        ranked = [row["text"] for row in csv.DictReader(file)]
    found = sum(text in flipped for text in ranked[: len(flipped)]) / len(flipped)
    print(f"seed {seed}: {len(flipped)} of {len(ranked)} labels flipped, precision {found:.3f}")
    return found


def main() -> None:
    """Prints the precision of each seed, and their mean."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("outputs/label_errors"))
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    args.output = args.output.absolute()
    found = [precision(args, seed) for seed in args.seeds]
    print(f"mean precision of {len(found)} seeds: {statistics.mean(found):.3f}")


if __name__ == "__main__":
    main()
