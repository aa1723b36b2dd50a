"""Tiny models of sentence-transformers and setfit, as their own libraries write them."""

from pathlib import Path
from typing import Any

from torch import nn


def save_sentence_model(
    encoder: Path, directory: Path, *modules: nn.Module, **options: Any
) -> Path:
    """Saves an encoder with modules after it; without any, with the mean over tokens."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    first = Transformer(str(encoder))
    rest = modules or (Pooling(first.get_embedding_dimension()),)
    model = SentenceTransformer(modules=[first, *rest], device="cpu", **options)
    model.save(str(directory), create_model_card=False)
    return directory


def load_sentence_model(directory: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(directory), device="cpu", local_files_only=True)
