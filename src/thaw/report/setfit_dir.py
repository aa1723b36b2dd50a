"""Completes an export of `task=setfit` to a directory of setfit and sentence-transformers."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from thaw.encoder.linear_heads import as_sklearn
from thaw.encoder.sentence_modules import SentenceModules, settings_kept
from thaw.report.model_dir import HERE

NAME = "owner/name"  # stands for the directory, which has no name on the Hub yet


def complete_setfit(
    directory: Path,
    pooling: SentenceModules,
    head: nn.Linear,
    labels: Sequence[str],
    strategy: str | None,
    data: str,
) -> None:
    """Adds what setfit writes to a directory that has encoder, tokenizer and model card.

    Its head is a pickle, which thaw never reads. The card is setfit's, with thaw's after it.

    Args:
        directory: the exported encoder.
        pooling: modules after the encoder.
        head: the fitted head.
        labels: names of the classes.
        strategy: setfit's `multi_target_strategy`; None: a text has one label.
        data: name of the data set.
    """
    with settings_kept():
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Transformer
        from setfit.model_card import SetFitModelCardData
        from setfit.modeling import SetFitModel

        modules = [Transformer(str(directory)), *copy.deepcopy(pooling.chain)]
        body = SentenceTransformer(modules=modules, device="cpu", **pooling.options)
        # Where no name is given, setfit shows that of the directory, which is not there for long.
        names = {"model_name": f"SetFit on {data}", "model_id": NAME}
        card = SetFitModelCardData(dataset_name=data, **names)
        fitted = as_sklearn(head, multi_label=strategy is not None)
        model = SetFitModel(body, fitted, strategy, labels=list(labels), model_card_data=card)
        with TemporaryDirectory(dir=directory) as place:
            model.save_pretrained(place)
            join_cards(directory / "README.md", Path(place) / "README.md")
            for path in Path(place).rglob("*"):
                target = directory / path.relative_to(place)
                if path.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(target)


def join_cards(path: Path, other: Path) -> None:
    """Writes a model card of another one's text and its own, whose metadata counts."""
    from huggingface_hub import CardData, ModelCard

    own, theirs = ModelCard.load(path), ModelCard.load(other)
    about = {k: v for k, v in theirs.data.to_dict().items() if v} | own.data.to_dict()
    about["tags"] = list(dict.fromkeys([*(theirs.data.tags or []), *(own.data.tags or [])]))
    text = own.text.lstrip().replace("# ", "## ", 1)
    told = re.sub(r"# Download from the .*\n", "", theirs.text).replace(NAME, HERE)
    front = CardData(**about).to_yaml()
    path.write_text(f"---\n{front}\n---\n{told}\n\n{text}", encoding="utf-8")
