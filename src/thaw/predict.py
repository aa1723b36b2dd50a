"""A finished run and new texts give predictions: `python -m thaw.predict run=<dir> input=new.csv
output=out.csv`, in memory that does not grow with the file.

Shapes: B batch, T tokens, C labels.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thaw.cli import arguments, exit_clearly
from thaw.data.read import read_rows
from thaw.data.write import RowWriter
from thaw.errors import ThawError
from thaw.evaluate import finished

KNOWN = {
    "run": None,
    "input": None,
    "output": "-",
    "text": "",
    "batch_size": "64",
    "accelerator": "auto",
    "encoding": "utf-8",
}
USAGE = """usage: python -m thaw.predict run=<run directory> input=<file> [output=<file>]
       [text=<column>] [batch_size=64] [accelerator=auto] [encoding=utf-8]
Files are .csv, .tsv, .jsonl or .parquet; - is standard input, one text a line, or output, JSONL."""
CHUNK = 32  # batches that are sorted by length together


def main(argv: list[str]) -> int:
    """Predicts a label for each row of a file.

    Args:
        argv: words of the command line, see `USAGE`.

    Returns:
        The number of rows written: those of the input, with prediction and probabilities.

    Raises:
        ThawError: an option, the run or the file is not what it should be.
    """
    given = arguments(argv, KNOWN, USAGE)
    model = finished(Path(given["run"]))
    if not given["batch_size"].isdigit() or int(given["batch_size"]) < 1:
        raise ThawError(f"batch_size={given['batch_size']}: expected a whole number from 1.")
    columns = [c for c in given["text"].strip("[]").split(",") if c] or text_columns(model.parent)
    if given["input"] == "-":
        columns = ["text"]
        rows: Iterable[dict[str, Any]] = ({"text": line.rstrip("\r\n")} for line in sys.stdin)
    else:
        rows = read_rows(given["input"], given["encoding"])
        if Path(given["output"]).absolute() == Path(given["input"]).absolute():
            raise ThawError("input and output are the same file.")
    rows = iter(rows)
    head = list(islice(rows, 1))  # errors of the input show before the model is loaded
    if not head:
        raise ThawError(f"{given['input']} has no rows.")
    if missing := [c for c in columns if c not in head[0]]:
        raise ThawError(
            f"{given['input']} has no column {missing[0]!r}; it has "
            f"{', '.join(map(repr, head[0]))}. Set text=<column>."
        )

    from thaw.train import quieten

    quieten()
    classifier = Classifier(model, int(given["batch_size"]), given["accelerator"], run=model.parent)
    count = 0
    with RowWriter(given["output"]) as writer:
        for row in classifier.predict(chain(head, rows), columns):
            writer.write(row)
            count += 1
    return count


def text_columns(run: Path) -> list[str]:
    """The text columns that a run was trained on."""
    text = run_config(run).data.text
    return [text] if isinstance(text, str) else list(text)


def run_config(run: Path) -> Any:
    """The composed config of a run."""
    from omegaconf import OmegaConf

    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ThawError(f"run={run} has no .hydra/config.yaml: was it made by train.py?")
    return OmegaConf.load(path)


class Classifier:
    """An exported sequence classifier over a stream of rows.

    Args:
        model: the exported directory.
        batch_size: texts in a forward pass.
        accelerator: of lightning.fabric: auto, cpu, cuda, mps.
        run: the run directory, for max_tokens.
    """

    def __init__(self, model: Path, batch_size: int, accelerator: str, run: Path) -> None:
        from lightning.fabric import Fabric
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from thaw.evaluate import labels_of
        from thaw.first_token import first_token_only
        from thaw.tasks.base import load

        self.labels, self.multi_label = labels_of(model)
        try:
            self.device = Fabric(accelerator=accelerator, devices=1).device
        except (ValueError, RuntimeError) as error:
            raise ThawError(f"accelerator={accelerator}: {error}") from error
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self.model = load(AutoModelForSequenceClassification, model).eval().to(self.device)
        first_token_only(self.model)
        self.batch_size = batch_size
        self.max_tokens = run_config(run).data.max_tokens

    def predict(
        self, rows: Iterator[dict[str, Any]], columns: list[str]
    ) -> Iterator[dict[str, Any]]:
        """Rows with `prediction` and a probability per class, in their order."""
        from thaw.results import predicted

        while chunk := list(islice(rows, self.batch_size * CHUNK)):
            texts = [[str(row.get(c) or "") for row in chunk] for c in columns]
            for row, p in zip(chunk, self.probabilities(texts), strict=True):
                yield row | predicted(p, self.labels, self.multi_label)

    def probabilities(self, texts: list[list[str]]) -> list[list[float]]:
        """Probability of each class for each text: a list of C numbers each.

        Args:
            texts: one list of texts, or two for pairs.
        """
        import torch

        from thaw.metrics import probabilities

        encoded = self.tokenizer(*texts, truncation=True, max_length=self.max_tokens)
        order = sorted(range(len(texts[0])), key=lambda i: len(encoded["input_ids"][i]))
        out: list[list[float]] = [[]] * len(order)
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            batch = self.tokenizer.pad(
                {k: [v[i] for i in rows] for k, v in encoded.items()}, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                logits = self.model(**batch).logits
            for i, p in zip(rows, probabilities(logits, self.multi_label).tolist(), strict=True):
                out[i] = p
        return out


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
