"""Writes the model card: what the Hub and people read of an exported model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw.data.summary import DataSummary
from thaw.report.model_dir import freeze_text
from thaw.report.sections import cell_text

LISTED = 20  # labels in a model card
FEW = 10  # texts of a label in a split; of fewer the card says so


def model_card(
    cfg: Mapping[str, Any],
    metrics: Mapping[str, float],
    library: str,
    pipeline: str,
    code: str,
    data: DataSummary,
    sizes: Mapping[str, str],
    checkpoint: Path,
) -> str:
    """Returns the text of a model card: metadata for the Hub, recipe, scores, labels and limits.

    Args:
        cfg: composed config as plain dicts and lists.
        metrics: contents of `metrics.json`.
        library: library that loads the model.
        pipeline: name of the transformers pipeline, such as text-classification.
        code: Python that loads the model.
        data: what was understood of the data.
        sizes: number of texts in each split, as text.
        checkpoint: directory of the model that was fine-tuned.
    """
    from huggingface_hub import ModelCard, ModelCardData

    title = f"{data.name}: {cfg['model']['name']}"
    scores = {
        key.removeprefix("test/"): value
        for key, value in metrics.items()
        if key.startswith("test/") and key.count("/") == 1
    }
    known = base_facts(cfg["model"]["checkpoint"], checkpoint)
    path = cfg["data"].get("path")
    results = [
        eval_result(cfg["data"], pipeline, name, value)
        for name, value in scores.items()
        if math.isfinite(value)  # JSON has no others
    ]
    labels = data.label_rows()
    rest = len(labels) - LISTED
    more = [f"and {rest:,} more: config.json has all", *[""] * len(data.splits)]
    return str(
        ModelCard.from_template(
            ModelCardData(
                base_model=known.get("base_model"),
                language=known.get("language"),
                license=known.get("license"),
                datasets=[path] if on_hub(path) else None,
                library_name=library,
                pipeline_tag=pipeline,
                tags=["thaw", str(cfg["task"]["_target_"]).split(".")[-2]],
                model_name=title if results else None,
                eval_results=results or None,
            ),
            template_path=str(Path(__file__).with_name("templates") / "model_card.md"),
            title=title,
            recipe=markdown(["recipe", ""], recipe(cfg, data, sizes, known).items()),
            code=code,
            scores=markdown(["metric", "test"], scores.items()) if scores else "",
            labels=markdown(
                ["label", *data.splits], [*labels[:LISTED], *([more] if rest > 0 else [])]
            )
            if labels
            else "",
            limits=limits(data, tested=bool(scores)),
        )
    )


def recipe(
    cfg: Mapping[str, Any], summary: DataSummary, sizes: Mapping[str, str], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns how a model was trained, by name."""
    data, task, trainer = cfg["data"], cfg["task"], cfg["trainer"]
    return {
        "data": summary.name,
        "texts": ", ".join(f"{k} {v}" for k, v in sizes.items()),
        **({"fold": f"{data['fold']} of {data['folds']}"} if data.get("folds") else {}),
        "base model": known.get("base_model") or f"{cfg['model']['name']}, a directory",
        "objective": task["_target_"].rsplit(".", 1)[-1],
        "freeze": freeze_text(cfg["freeze"]),
        "learning rate": str(task["learning_rate"]),
        "weight decay": str(task["weight_decay"]),
        "warm-up": str(task["warmup_ratio"]),
        "batch size": data["batch_size"] * trainer["accumulate_grad_batches"],
        "epochs": trainer["max_epochs"],
        "max tokens": data["max_tokens"],
        "seed": str(cfg["seed"]),
    }


def base_facts(checkpoint: str | Mapping[str, Any], directory: Path) -> dict[str, str]:
    """Returns what is known of the model that was fine-tuned: its name on the Hub, its license, and
    its language if it has one only.

    Args:
        checkpoint: the config's `model.checkpoint`.
        directory: its directory, whose own card says the rest; a run's says what it began with.
    """
    from huggingface_hub.repocard import metadata_load

    try:
        card = metadata_load(directory / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        card = {}
    languages: Any = card.get("language")
    if isinstance(languages, list):
        languages = languages[0] if len(languages) == 1 else None
    name: Any = checkpoint.get("hub") if isinstance(checkpoint, Mapping) else checkpoint
    if isinstance(checkpoint, str) and Path(checkpoint).expanduser().is_dir():
        name = card.get("base_model")
    found = {"base_model": name, "license": card.get("license"), "language": languages}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def on_hub(path: Any) -> bool:
    """Returns whether `data.path` is the name of a data set on the Hub."""
    return isinstance(path, str) and not Path(path).expanduser().is_dir()


def eval_result(data: Mapping[str, Any], pipeline: str, name: str, value: float) -> Any:
    """Returns a score of the test as the Hub's model index holds it."""
    from huggingface_hub import EvalResult

    split = data.get("test")
    hub = on_hub(data.get("path"))
    return EvalResult(
        task_type=pipeline,
        dataset_type=data["path"] if hub else data["name"],
        dataset_name=data["name"],
        dataset_config=data.get("config") if hub else None,
        dataset_revision=data.get("revision") if hub else None,
        dataset_split=split if hub and isinstance(split, str) else "test",
        metric_type=name,
        metric_value=round(value, 6),
    )


def limits(data: DataSummary, tested: bool) -> list[str]:
    """Returns what a reader of the scores must know, as sentences: what was cut or left out, and
    labels with few texts."""
    found = [] if tested else ["Nothing was tested: there is no test split."]
    for split, part in data.splits.items():
        if part.cut:
            found.append(
                f"{part.cut:,} of {part.texts:,} texts of {split} ({part.cut_share:.1%}) are "
                f"longer than {data.max_tokens} tokens: they were read up to there."
            )
        if part.repeats:
            found.append(f"{part.repeats:,} texts of {split} were left out as repeats.")
        few = [f"{n} ({count})" for n, count in part.labels.items() if count < FEW]
        if few:
            more = f" and {len(few) - LISTED:,} more" if len(few) > LISTED else ""
            found.append(
                f"Labels with fewer than {FEW} texts in {split}: {', '.join(few[:LISTED])}{more}."
            )
    for source in data.sources:
        for reason, count in source.left_out.items():
            found.append(
                f"{count:,} of {source.rows:,} rows that were read are left out: {reason}."
            )
    return [line(sentence) for sentence in found]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown, whose cells hold any text."""
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[line(cell_text(cell)).replace("|", "\\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def line(text: str) -> str:
    """Returns a text in one line, which no HTML of a label's name breaks."""
    return " ".join(text.split()).replace("<", "&lt;")
