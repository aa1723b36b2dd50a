"""Windows of long texts beside cutting them: time of a step, memory, and scores.

python benchmarks/long_texts.py [--texts 256] [--words 120 500 1000] [OVERRIDE ...]

Texts of so many words are made of words of the reviews' vocabulary at random; their label follows
from words in the last tenth of each. Each run is a process of its own: an epoch of all-MiniLM-L6-v2
in batches of 8, cut and in windows of 128 tokens. Prints texts a second of training alone, peak
memory and accuracy.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = ["a", "the", "film", "story", "plot", "actor", "scene", "with", "and", "of", "is", "was"]
TOLD = {"pos": ["great", "superb", "lovely"], "neg": ["dull", "awful", "boring"]}


def write_texts(path: Path, texts: int, words: int, seed: int) -> None:
    """Writes texts as JSONL."""
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(texts):
            label = draw.choice(["neg", "pos"])
            text = draw.choices(WORDS, k=words)
            for place in draw.sample(range(words * 9 // 10, words), 4):
                text[place] = draw.choice(TOLD[label])
            file.write(json.dumps({"text": " ".join(text), "label": label}) + "\n")


def run(directory: Path, long: str, more: list[str]) -> dict[str, float]:
    """Returns the metrics of a run of its own process."""
    out = directory / long
    options = ["data=files", f"data.path={directory}", "data.train=train.jsonl"]
    options += ["data.test=test.jsonl", "data.validation=null", "data.batch_size=8"]
    options += [f"data.long={long}", "trainer.max_epochs=1", "logger=none", *more]
    command = [sys.executable, "train.py", *options, f"hydra.run.dir={out}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def main() -> None:
    """Prints a row for each length and each way to read it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--words", type=int, nargs="+", default=[120, 500, 1000])
    args, more = parser.parse_known_args()
    print("words  long     texts/s  peak MiB  accuracy")
    for words in args.words:
        with tempfile.TemporaryDirectory() as name:
            for seed, split in enumerate(("train", "test")):
                write_texts(Path(name) / f"{split}.jsonl", args.texts, words, seed)
            for long in ("cut", "windows"):
                found = run(Path(name), long, more)
                print(
                    f"{words:5}  {long:7}  {found['samples_per_second']:7.1f}  "
                    f"{found['peak_memory_mib']:8.0f}  {found['test/accuracy']:8.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
