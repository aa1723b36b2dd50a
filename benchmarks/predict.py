"""Prediction with thaw, with transformers' pipeline and with setfit, alternating.

python benchmarks/predict.py <run directory> [--task sequence|ner] [--texts 4000] [--rounds 3]
    [--peers pipeline-1 pipeline-32 pipeline-128 setfit 32-true auto onnx int8] [--no-start]
    [--memory 1000 10000 50000]

With --task, and where there is no such directory yet, MiniLM is first trained there for 300 steps,
on movie_reviews or on the tweets of wnut16, and exported: this takes a minute or two.
The texts are those of the run's test, again and again up to --texts of them, in one random order.
All models are loaded and warmed up before; in each round every peer predicts all texts once, one
after the other, and the median of the rounds counts. The pipeline is called as the run's model card
says. Without --task, onnx and int8 need `python -m thaw.export run=<run> quantize=int8`.

Prints texts per second, the ratio to the best of the pipelines, F1 (entities: of spans in the
text), its points above or below 32-true (to stay within 0.1 in bfloat16 and 0.3 with int8), and the
growth of the process's memory over the second half of the texts. Then, unless --no-start, the CPU
seconds from the start of a process to the prediction of one text, beside those of importing torch
and transformers; and the largest memory of predictions of each number of texts of --memory.
"""

import argparse
import json
import random
import resource
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


def train(task: str, run: Path) -> None:
    """Trains a task for 300 steps, and exports it as ONNX and in 8-bit integers."""
    how = ["callbacks=none", "logger=none", "trainer.max_steps=300", f"hydra.run.dir={run}"]
    subprocess.run([sys.executable, "-m", "thaw.start", f"task={task}", *how], check=True)
    # A loss of F1 is printed below, whatever it is.
    export = [f"run={run}", "quantize=int8", "tolerance=100"]
    subprocess.run([sys.executable, "-m", "thaw.export", *export], check=True)


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
    print(f"\n{'peer':<12} {'texts/s':>8} {'ratio':>6} {'F1':>7} {'points':>6} {'MiB':>6}")
    for name, rate in medians.items():
        ratio = f"{rate / best:6.2f}" if best else "      "
        points = 100 * (f1[name] - f1.get("32-true", f1[name]))
        print(f"{name:<12} {rate:8.1f} {ratio} {f1[name]:7.4f} {points:6.2f} {growth[name]:6.1f}")


def start(args: argparse.Namespace) -> None:
    """Prints the CPU seconds from the start of a process to the prediction of one text, beside
    those of importing the libraries alone; CPU seconds, as other programs disturb them less."""
    libraries = "import torch, transformers; transformers.AutoModel"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "one.txt"
        path.write_text("A warm, funny film.\n", encoding="utf-8")
        words = [f"run={args.run}", f"input={path}", "accelerator=cpu"]
        model = f"{libraries}.from_pretrained({str(args.run / 'model')!r})"
        commands = {
            "import torch and transformers": ["-c", libraries],
            "and load the model with them": ["-c", model],
            "thaw.predict of one text": ["-m", "thaw.predict", *words],
        }
        for engine in ("onnx", "int8"):
            if engine in args.peers:
                here = ["-m", "thaw.predict", *words, f"engine={engine}"]
                commands[f"the same, engine={engine}"] = here
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(max(3, args.rounds)):
            for name, command in commands.items():
                before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
                subprocess.run([sys.executable, *command], check=True, capture_output=True)
                after = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
                times[name].append(after - before)
    medians = {name: statistics.median(values) for name, values in times.items()}
    bare = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:<30} {value:5.2f} s of CPU, {value / bare:4.2f} times the import")


def memory(args: argparse.Namespace) -> None:
    """Prints the largest memory of a prediction of few texts and of many."""
    script = (
        "import resource, sys; from thaw.predict import main; main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    for count in args.memory:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "texts.jsonl"
            texts, _ = gold_of(args.run, count)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            words = [f"run={args.run}", f"input={path}", f"output={place}/out.jsonl", "text=text"]
            done = subprocess.run(
                [sys.executable, "-c", script, *words, "accelerator=cpu"],
                check=True,
                capture_output=True,
                text=True,
            )
        print(f"{count:>7} texts: {int(done.stdout.split()[-1]) / 1024:.0f} MiB at most")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--task", choices=["sequence", "ner"])
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=list(PEERS))
    parser.add_argument("--memory", nargs="*", type=int, default=[1000, 10_000, 50_000])
    parser.add_argument("--no-start", action="store_true")
    args = parser.parse_args()
    if args.task and not args.run.exists():
        train(args.task, args.run)
    print(json.dumps({"cores": psutil.cpu_count(), "texts": args.texts, "run": args.run.name}))
    measure(args)
    if not args.no_start:
        start(args)
    memory(args)


if __name__ == "__main__":
    main()
