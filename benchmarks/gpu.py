"""Training speed on a GPU with thaw and with transformers.Trainer, alternating.

python benchmarks/gpu.py [--lengths rotten_tomatoes|conll2003|full] [--batch-size 256]
    [--processes 4] [--compile false|true] [--device cuda|cpu] [--shape base|tiny]
    [--seeds 1 2 3] [--peers thaw default grouped]

Without --lengths, all three. A BERT of base's shape with random weights, bf16 (autocast), sdpa in
the Trainer, and texts of random words: no hub, no package index. `rotten_tomatoes` classifies texts
of a normal length (mean 27, deviation 12), `conll2003` tags texts of a log-normal one (mean 20,
sigma 0.55): both have the mean and the padding of random batches of 16 that were measured on the
data sets (1.78 and 2.38 tokens per real token). `full` tags texts of 128 tokens.

One recipe for all: batches of 256 texts and 4 processes that make them, so that Python is not what
is measured, AdamW (fused, 2e-5, decay 0.01 but on biases and norms), linear warm-up over 10 % and
decay, clipping 1.0, dropout 0.1, no validation and no checkpoint. `default` is the Trainer's random
order, `grouped` its `train_sampling_strategy="group_by_length"`. The first epoch is not timed.

Prints real tokens/s (padding does not count); the share of the GPU's dense bf16 peak that they are,
at 6 operations a weight of the blocks and token and 12 * width * length of attention a block; and
peak memory. A classifier's last block counts whole, though thaw computes its first token alone.

`--device cpu --shape tiny` runs the same code in seconds, and says nothing about speed.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
from peers import Worker, compare, make_data, run_trainer

# Of NVIDIA's data sheets, without sparsity, in operations a second.
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SHAPES: dict[str, dict[str, Any]] = {
    "base": {"tokens": 1_200_000, "epochs": 4, "vocab_size": 30_522},
    "tiny": {
        "tokens": 1_700,
        "epochs": 2,
        "vocab_size": 200,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
}
MEAN = {"rotten_tomatoes": 27, "conll2003": 20, "full": 128}  # tokens of a text
DRAWN: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "rotten_tomatoes": lambda rng, n: rng.normal(27, 12, n),
    "conll2003": lambda rng, n: rng.lognormal(np.log(20) - 0.55**2 / 2, 0.55, n),
    "full": lambda rng, n: np.full(n, 128),
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def prepare(args: argparse.Namespace, directory: Path) -> list[str]:
    """Writes a random model and texts; gives the overrides of a run on them."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    shape = dict(SHAPES[args.shape])
    count, epochs = shape.pop("tokens") // MEAN[args.lengths], shape.pop("epochs")
    words = ["".join(w) for w in islice(product(ascii_lowercase, repeat=4), shape["vocab_size"])]
    words = words[len(SPECIAL) :]
    drawn_from = np.array(words)  # once: `choice` makes an array of a list in each call
    model = directory / "model"
    model.mkdir()
    (model / "vocab.txt").write_text("\n".join([*SPECIAL, *words]))
    BertWordPieceTokenizer(str(model / "vocab.txt")).save(str(model / "tokenizer.json"))
    named = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    PreTrainedTokenizerFast(
        tokenizer_file=str(model / "tokenizer.json"), model_max_length=128, **named
    ).save_pretrained(model)
    set_seed(0)
    BertModel(BertConfig(**shape)).save_pretrained(model)

    rng = np.random.default_rng(args.seeds[0])
    lengths = np.clip(np.round(DRAWN[args.lengths](rng, count)), 4, 128).astype(int) - 2
    tags = args.lengths != "rotten_tomatoes"
    with open(directory / "train.txt", "w", encoding="utf-8") as file:
        for length in lengths:
            text = rng.choice(drawn_from, length)
            if tags:
                labels = rng.choice(["O", "B-PER"], length)
                file.writelines(f"{w}\t{t}\n" for w, t in zip(text, labels, strict=True))
                file.write("\n")
            else:
                row = {"text": " ".join(text), "label": str(rng.choice(["neg", "pos"]))}
                file.write(json.dumps(row) + "\n")
    if not tags:
        (directory / "train.txt").rename(directory / "train.jsonl")
    precision = "bf16-mixed" if args.device == "cuda" else "32-true"
    return [
        *(
            ["task=ner", "data=conll", "data.train=train.txt"]
            if tags
            else ["task=sequence", "data=files", "data.train=train.jsonl"]
        ),
        f"data.path={directory}",
        "data.validation=null",
        "data.test=null",
        "data.max_tokens=128",
        f"data.batch_size={args.batch_size}",
        f"data.num_workers={args.processes}",
        f"model.checkpoint={model}",
        "task.learning_rate=2e-5",
        "task.weight_decay=0.01",
        "task.warmup_ratio=0.1",
        f"trainer.accelerator={args.device}",
        f"trainer.max_epochs={epochs}",
        f"trainer.precision={precision}",
        f"trainer.compile={args.compile}",
        "trainer.gradient_clip_val=1.0",
        "trainer.limit_val_batches=0",
        "trainer.enable_progress_bar=false",
        "callbacks=none",
        "logger=none",
    ]


MADE: dict[str, tuple[Any, ...]] = {}


def prepared(args: argparse.Namespace) -> tuple[Any, Path, Any]:
    """`make_data` of a random model and texts, which the peers share; see `prepare`."""
    of_peers = {key: value for key, value in vars(args).items() if key not in ("worker", "peers")}
    if str(of_peers) not in MADE:
        MADE.clear()
        held = tempfile.TemporaryDirectory()
        found = make_data(prepare(args, Path(held.name)), args.seeds[0])
        MADE[str(of_peers)] = held, *found
    return MADE[str(of_peers)][1:]


class Clock:
    """The time from the second epoch on, of whole epochs, the GPU's work included."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.epochs = -1

    def tick(self) -> None:
        """An epoch begins, or the last one has ended."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.epochs += 1
        self.began, self.ended = self.began if self.epochs > 1 else now(), now()


def now() -> float:
    """Seconds."""
    return time.monotonic()


def results(
    clock: Clock, lengths: np.ndarray, model: Any, memory: float, args: argparse.Namespace
) -> dict[str, float]:
    """What a run reports.

    Args:
        clock: of the run.
        lengths: of the texts, in tokens.
        model: that trained.
        memory: peak in MiB, where the GPU has none of its own.
        args: of the benchmark.
    """
    import torch

    speed = (clock.epochs - 1) * lengths.sum() / (clock.ended - clock.began)
    peak = float("nan")
    if args.device == "cuda":
        name = torch.cuda.get_device_name()
        peak = next((p for known, p in PEAKS.items() if known in name), peak)
        memory = torch.cuda.max_memory_allocated() / 2**20
    return {
        "tokens_per_second": float(speed),
        "score": float(speed * operations(model, lengths) / peak),
        "memory_mib": memory,
    }


def operations(model: Any, lengths: np.ndarray) -> float:
    """What training takes for a token of texts of some lengths, forward and backward."""
    import torch

    blocks = model.base_model.encoder
    weights = sum(m.weight.numel() for m in blocks.modules() if isinstance(m, torch.nn.Linear))
    seen = (lengths.astype(float) ** 2).sum() / lengths.sum()  # tokens that a token attends to
    config = model.config
    return float(6 * weights + 12 * config.num_hidden_layers * config.hidden_size * seen)


def thaw(args: argparse.Namespace) -> dict[str, float]:
    """A run of thaw: its data, task and Trainer."""
    import lightning.pytorch as pl
    from hydra.utils import instantiate

    from thaw.training.callbacks.throughput import peak_memory_mib
    from thaw.training.libraries import silence_libraries

    clock = Clock()

    class Epochs(pl.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            clock.tick()

        def on_train_end(self, *_: Any) -> None:
            clock.tick()

    silence_libraries()
    data, checkpoint, cfg = prepared(args)
    pl.seed_everything(args.seeds[0], verbose=False)
    task = instantiate(cfg.task, checkpoint=checkpoint, _convert_="all", **data.task_kwargs())
    trainer = instantiate(
        cfg.trainer, logger=False, callbacks=[Epochs()], enable_checkpointing=False, _convert_="all"
    )
    trainer.fit(task, datamodule=data)
    if args.device == "cuda" and not task.packs:
        raise SystemExit("thaw did not pack its batches: see the reason above.")
    lengths = np.asarray(data.encoded["train"].data.column("length"))
    return results(clock, lengths, task.model, peak_memory_mib(), args)


def trainer(args: argparse.Namespace) -> dict[str, float]:
    """The same with transformers.Trainer."""
    import torch
    import transformers as hf
    from datasets import Dataset

    clock = Clock()

    class Epochs(hf.TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    data, checkpoint, cfg = prepared(args)
    tags = args.lengths != "rotten_tomatoes"
    auto: Any = (
        hf.AutoModelForTokenClassification if tags else hf.AutoModelForSequenceClassification
    )
    hf.set_seed(args.seeds[0])
    model = auto.from_pretrained(
        checkpoint, num_labels=len(data.labels), dtype=torch.float32, attn_implementation="sdpa"
    )
    rows = data.encoded["train"]
    keys = ("input_ids", "attention_mask", "labels")
    if tags:  # a window is a text here
        train_set = Dataset.from_list(
            [{key: row[key][0] for key in keys} | {"length": row["length"]} for row in rows]
        )
    else:
        train_set = rows.remove_columns("row")
    collators = hf.DataCollatorForTokenClassification, hf.DataCollatorWithPadding
    found = run_trainer(
        model,
        cfg,
        train_set,
        collators[not tags](data.tokenizer),
        args,
        lambda peer: 0.0,
        callbacks=[Epochs()],
        use_cpu=args.device == "cpu",
        bf16=args.device == "cuda",
        dataloader_num_workers=args.processes,
    )
    return results(clock, np.asarray(train_set["length"]), model, found["memory_mib"], args)


def parser(lengths: str) -> argparse.ArgumentParser:
    """The benchmark's options, for one choice of lengths by default."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--lengths", choices=list(DRAWN), default=lengths)
    made.add_argument("--batch-size", type=int, default=256)
    made.add_argument("--processes", type=int, default=4, help="processes that make the batches")
    made.add_argument("--compile", choices=["false", "true"], default="false", help="thaw's blocks")
    made.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    made.add_argument("--shape", choices=list(SHAPES), default="base")
    return made


def here(peer: Worker) -> Worker:
    """Returns a peer whose peak memory is its own though others ran in this process before."""

    def run(args: argparse.Namespace) -> dict[str, float]:
        import torch

        gc.collect()
        if args.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return peer(args)

    return run


def main() -> None:
    """Compares the peers for each choice of lengths."""
    import torch

    device = parser("full").parse_known_args()[0].device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "benchmarks/gpu.py: torch sees no CUDA GPU, and this benchmark is of one. To run its "
            "code on a CPU, without a word on speed: --device cpu --shape tiny."
        )
    if device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for lengths in DRAWN:
        if "--lengths" in sys.argv and parser("full").parse_known_args()[0].lengths != lengths:
            continue
        print(f"--- {lengths}", flush=True)
        peers = {"thaw": here(thaw), "default": here(trainer), "grouped": here(trainer)}
        compare(parser(lengths), "", peers, "share of peak", "tokens_per_second")


if __name__ == "__main__":
    main()
