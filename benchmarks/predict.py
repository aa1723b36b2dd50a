"""Prediction with thaw, with transformers' pipeline and with setfit, alternating.

python benchmarks/predict.py <run directory> [--texts 4000] [--rounds 3]
    [--peers pipeline-1 pipeline-32 pipeline-128 setfit 32-true auto onnx int8] [--no-start]

The texts are those of the run's test, again and again up to --texts of them, in one random order.
All models are loaded and warmed up before; in each round every peer predicts all texts once, one
after the other, and the median of the rounds counts. The pipeline is called as the run's model card
says. onnx and int8 need `python -m thaw.export run=<run> quantize=int8`. Prints texts per second,
the ratio to the best of the pipelines, F1 (entities: of spans in the text), and the growth of the
process's memory over the second half of the texts; then, unless --no-start, the seconds from the
start of a process to the prediction of one text, beside those of importing torch and transformers.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from sklearn.metrics import f1_score

import thaw
from thaw.data.read.formats.registry import rows_of
from thaw.data.read.reading import Reading

PEERS = ("pipeline-1", "pipeline-32", "pipeline-128", "32-true", "auto", "onnx", "int8")


def gold_of(run: Path, count: int) -> tuple[list[str], list[Any]]:
    """Returns texts of the run's test and what is right for each: a label, or spans."""
    entities = (run / "predictions.jsonl").exists()
    path = run / f"predictions.{'jsonl' if entities else 'parquet'}"
    rows = list(rows_of(path, Reading()))
    rows = [rows[i % len(rows)] for i in range(count)]
    random.Random(0).shuffle(rows)
    if not entities:
        return [row["text"] for row in rows], [row["label"] for row in rows]
    from thaw.data.entities import entities as found

    spans = [
        [(r["offsets"][e.start][0], r["offsets"][e.end - 1][1], e.type) for e in found(r["gold"])]
        for r in rows
    ]
    return [row["text"] for row in rows], spans


def peer(name: str, run: Path) -> Callable[[Sequence[str]], list[Any]]:
    """Returns what predicts labels, or spans, for texts."""
    if name.startswith("pipeline"):
        return hugging_face(run, int(name.split("-")[1]))
    if name == "setfit":
        from setfit import SetFitModel  # type: ignore[attr-defined]

        model = SetFitModel.from_pretrained(str(run / "model"))
        return lambda texts: [str(label) for label in model.predict(list(texts))]
    options = {"engine": name} if name in ("onnx", "int8") else {"precision": name}
    mine = thaw.load(run, accelerator="cpu", **options)
    print(f"{name}: {mine}", flush=True)
    if mine.task == "ner":
        return lambda texts: [
            [(e["start"], e["end"], e["label"]) for e in found]
            for found in mine.entities(texts, progress=False)
        ]
    return lambda texts: mine.predict(texts, progress=False)


def hugging_face(run: Path, batch_size: int) -> Callable[[Sequence[str]], list[Any]]:
    """Returns transformers' pipeline as the model card shows it."""
    from transformers import pipeline

    entities = (run / "predictions.jsonl").exists()
    kind = "token-classification" if entities else "text-classification"
    options: dict[str, Any] = {"truncation": True}
    if entities:
        options = {"aggregation_strategy": "simple", "stride": 32}
    options |= {"model": str(run / "model"), "device": "cpu", "batch_size": batch_size}
    made: Any = pipeline
    ask = made(kind, **options)
    if not entities:
        return lambda texts: [answer["label"] for answer in ask(list(texts))]
    return lambda texts: [
        [(e["start"], e["end"], e["entity_group"]) for e in found] for found in ask(list(texts))
    ]


def score(found: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """Returns F1: of the second of two labels, the mean over labels, or of spans."""
    if isinstance(gold[0], list):
        ours = {(i, *span) for i, spans in enumerate(found) for span in spans}
        true = {(i, *span) for i, spans in enumerate(gold) for span in spans}
        return 2 * len(ours & true) / max(1, len(ours) + len(true))
    if len(labels) == 2:
        return float(f1_score(gold, found, pos_label=labels[1]))
    return float(f1_score(gold, found, average="macro"))


def measure(args: argparse.Namespace) -> None:
    """Prints a line for each peer."""
    texts, gold = gold_of(args.run, args.texts)
    labels = thaw.load(args.run, accelerator="cpu").labels
    ask = {name: peer(name, args.run) for name in args.peers}
    for function in ask.values():
        function(texts[:64])
    seconds: dict[str, list[float]] = {name: [] for name in ask}
    f1: dict[str, float] = {}
    growth: dict[str, float] = {}
    for number in range(args.rounds):
        for name, function in ask.items():
            part = len(texts) // 2
            before = time.perf_counter()
            found = function(texts[:part])
            middle = psutil.Process().memory_info().rss
            found += function(texts[part:])
            seconds[name].append(time.perf_counter() - before)
            growth[name] = (psutil.Process().memory_info().rss - middle) / 2**20
            f1[name] = score(found, gold, labels)
            rate = len(texts) / seconds[name][-1]
            print(f"round {number} {name:<12} {rate:8.1f} texts/s", flush=True)
    medians = {name: len(texts) / statistics.median(values) for name, values in seconds.items()}
    best = max((rate for name, rate in medians.items() if name.startswith("pipeline")), default=0.0)
    print(f"\n{'peer':<12} {'texts/s':>8} {'ratio':>6} {'F1':>7} {'MiB':>6}")
    for name, rate in medians.items():
        ratio = f"{rate / best:6.2f}" if best else "      "
        print(f"{name:<12} {rate:8.1f} {ratio} {f1[name]:7.4f} {growth[name]:6.1f}")


def start(args: argparse.Namespace) -> None:
    """Prints how long one text takes from the start of a process."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "one.txt"
        path.write_text("A warm, funny film.\n", encoding="utf-8")
        words = [f"run={args.run}", f"input={path}", "accelerator=cpu"]
        commands = {
            "import torch and transformers": [
                "-c",
                "import torch, transformers; transformers.AutoModel",
            ],
            "thaw.predict of one text": ["-m", "thaw.predict", *words],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(max(3, args.rounds)):
            for name, command in commands.items():
                before = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True)
                times[name].append(time.perf_counter() - before)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name}: {value:.2f} s")
    bare, whole = medians.values()
    print(f"ratio: {whole / bare:.2f}")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--no-start", action="store_true")
    args = parser.parse_args()
    print(json.dumps({"cores": psutil.cpu_count(), "texts": args.texts, "run": args.run.name}))
    measure(args)
    if not args.no_start:
        start(args)


if __name__ == "__main__":
    main()
