"""Writes the model card: what the Hub and people read of an exported model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from thaw.cli.watched_metric import each_once
from thaw.data.read.rows import number_of, reasons
from thaw.data.summary import DataSummary
from thaw.report.model_dir import freeze_text, loading_code
from thaw.report.tables import markdown_table, part_scores

LISTED = 20  # labels in a model card
FEW = 10  # texts of a label in a split; of fewer the card says so
TEMPLATE = Path(__file__).with_name("templates") / "model_card.md"


def model_card(
    cfg: Mapping[str, Any], metrics: Mapping[str, float], task: Any, data: Any, trained: str
) -> str:
    """Returns the text of a model card: metadata for the Hub, recipe with the epochs that were
    `trained`, scores, labels and limits."""
    from huggingface_hub import ModelCard, ModelCardData

    found = data.summary()
    title = f"{found.name}: {cfg['model']['name']}"
    scores = each_once(part_scores(metrics, "test"))
    results = eval_results(cfg["data"], task.pipeline, scores)
    known = base_facts(cfg["model"]["checkpoint"], Path(data.tokenizer.name_or_path))
    labels = found.label_rows()
    if more := len(labels) - LISTED if len(labels) > LISTED else 0:
        rest = [f"and {more:,} more: config.json has all", *[""] * len(found.splits)]
        labels = [*labels[:LISTED], rest]
    path = cfg["data"].get("path")
    metadata = ModelCardData(
        **known,
        datasets=[path] if on_hub(path) else None,
        library_name=task.library,
        pipeline_tag=task.pipeline,
        tags=["thaw", str(cfg["task"]["_target_"]).split(".")[-2]],
        model_name=title if results else None,
        eval_results=results or None,
    )
    card = ModelCard.from_template(
        metadata,
        template_path=str(TEMPLATE),
        title=title,
        recipe=markdown(["recipe", ""], recipe(cfg, data.sizes(), known, trained).items()),
        code=loading_code(task, data),
        scores=markdown(["metric", "test"], scores.items()),
        labels=markdown(["label", *found.splits], labels),
        limits=limits(found, tested=bool(scores)),
    )
    return str(card)


def recipe(
    cfg: Mapping[str, Any], sizes: Mapping[str, str], known: Mapping[str, Any], trained: str
) -> dict[str, Any]:
    """Returns how a model was trained, by name."""
    data, task, trainer = cfg["data"], cfg["task"], cfg["trainer"]
    return {
        "data": data["name"],
        "texts": ", ".join(f"{k} {v}" for k, v in sizes.items()),
        **({"fold": f"{data['fold']} of {data['folds']}"} if data.get("folds") else {}),
        "base model": base_model(cfg["model"], known),
        "objective": task["_target_"].rsplit(".", 1)[-1],
        "freeze": freeze_text(cfg["freeze"]),
        "learning rate": str(task["learning_rate"]),
        "weight decay": str(task["weight_decay"]),
        **{k: cfg[k]["_target_"].rpartition(".")[2] for k in ("optimizer", "schedule") if k in cfg},
        "warm-up": number_of(s, "steps")
        if (s := task.get("warmup_steps"))
        else str(task["warmup_ratio"]),
        "batch size": data["batch_size"] * trainer["accumulate_grad_batches"],
        "epochs trained": trained,
        "max tokens": data["max_tokens"],
        "seed": str(cfg["seed"]),
    }


def base_model(model: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Returns the model that was fine-tuned, and where it lay if that was a directory here."""
    base, checkpoint = known.get("base_model"), model["checkpoint"]
    if not base:
        return f"{model['name']}, a directory"
    direct = isinstance(checkpoint, Mapping) or on_hub(checkpoint)
    return base if direct else f"{base}, by way of {model['name']}"


def base_facts(checkpoint: str | Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Returns what is known of the model that was fine-tuned: its name on the Hub, its license, and
    its language if it has one only. Its directory's own card says the rest; a run's says what it
    began with."""
    from huggingface_hub.repocard import metadata_load

    try:
        card = metadata_load(directory / "README.md") or {}
    except (OSError, ValueError, yaml.YAMLError):
        card = {}
    if isinstance(checkpoint, Mapping):
        card["base_model"] = checkpoint.get("hub")
    elif on_hub(checkpoint):
        card["base_model"] = checkpoint
    if isinstance(card.get("language"), list) and len(card["language"]) == 1:
        [card["language"]] = card["language"]
    keys = ("base_model", "license", "language")
    return {key: card[key] for key in keys if isinstance(card.get(key), str)}


def on_hub(path: Any) -> bool:
    """Returns whether a path of the config is a name on the Hub."""
    return isinstance(path, str) and not Path(path).expanduser().is_dir()


def eval_results(data: Mapping[str, Any], pipeline: str, scores: Mapping[str, float]) -> list[Any]:
    """Returns scores of the test, with the data that they are of, for the Hub's model index."""
    from huggingface_hub import EvalResult

    hub = data if on_hub(data.get("path")) else {}
    split = hub.get("test")
    return [
        EvalResult(
            task_type=pipeline,
            dataset_type=hub.get("path", data["name"]),
            dataset_name=data["name"],
            dataset_config=hub.get("config"),
            dataset_revision=hub.get("revision"),
            dataset_split=split if isinstance(split, str) else "test",
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in scores.items()
        if math.isfinite(value)  # JSON has no others
    ]


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
            count = number_of(part.repeats, "texts")
            found.append(f"Left out as another split has the same text: {count} of {split}.")
        if few := [f"{name} ({count})" for name, count in part.labels.items() if count < FEW]:
            more = f" and {len(few) - LISTED:,} more" if len(few) > LISTED else ""
            listed = ", ".join(few[:LISTED])
            found.append(f"Labels with fewer than {FEW} texts in {split}: {listed}{more}.")
    for source in data.sources:
        if source.left_out:
            found.append(f"Of {source.rows:,} rows, left out: {reasons(source.left_out)}.")
    return [" ".join(sentence.split()).replace("<", "&lt;") for sentence in found]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table in Markdown, which no HTML of a label's name breaks."""
    return markdown_table(columns, rows).replace("<", "&lt;")
