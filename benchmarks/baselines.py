"""Two baselines that a user would think of first, on thaw's own split of the data.

python benchmarks/baselines.py [data=movie_reviews] [data.KEY=VALUE ...]

TF-IDF (words and pairs of words) with logistic regression, and logistic regression on the mean of
the frozen encoder's token vectors. C is chosen on validation. Neither depends on a seed.
"""

import sys

import numpy as np
import torch
from hydra.utils import instantiate
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel

from thaw.cli.check import plain
from thaw.cli.compose import compose, exit_clearly
from thaw.data.sequence import SequenceData
from thaw.storage.checkpoints import fetch_model
from thaw.training.libraries import silence_libraries

Features = dict[str, np.ndarray | csr_matrix]


def score(name: str, features: Features, data: SequenceData) -> None:
    """Fits for each C, and prints test scores of the one best on validation."""
    target = {split: texts.labels for split, texts in data.rows.items()}

    def scores(model: LogisticRegression, split: str) -> tuple[float, float]:
        predicted = model.predict(features[split])
        binary = len(data.labels) == 2
        f1 = f1_score(
            target[split],
            predicted,
            average="binary" if binary else "macro",
            pos_label=data.labels[1] if binary else 1,
        )
        return float(f1), float(accuracy_score(target[split], predicted))

    models = [
        LogisticRegression(C=c, max_iter=2000).fit(features["train"], target["train"])
        for c in (0.01, 0.1, 1.0, 10.0)
    ]
    best = max(models, key=lambda model: scores(model, "validation"))
    f1, accuracy = scores(best, "test")
    print(f"{name:32} C={best.C:<5} test F1 {f1:.4f}  accuracy {accuracy:.4f}", flush=True)


def encode(data: SequenceData, checkpoint: str) -> Features:
    """Mean of the last block's token vectors, standardised on train."""
    model = AutoModel.from_pretrained(checkpoint, use_safetensors=True).eval()
    out: Features = {}
    for split in data.rows:
        vectors = np.zeros((len(data.rows[split]), model.config.hidden_size), dtype=np.float32)
        for batch in data.loader(split, 64):
            rows = batch.pop("row")
            batch.pop("labels")
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            vectors[rows.numpy()] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        out[split] = vectors
    scaler = StandardScaler().fit(out["train"])
    return {split: scaler.transform(vectors) for split, vectors in out.items()}


def main(overrides: list[str]) -> None:
    """Prints a line a baseline."""
    silence_libraries()
    cfg = compose([*overrides, "run_dir=."])
    checkpoint = fetch_model(plain(cfg.model)["checkpoint"], cfg.model.revision)
    data = instantiate(cfg.data, tokenizer=checkpoint, seed=0, _convert_="all")
    data.read()
    texts = {split: [" ".join(t) for t in part.texts] for split, part in data.rows.items()}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    vectorizer.fit(texts["train"])
    tfidf = {split: vectorizer.transform(part) for split, part in texts.items()}
    score("TF-IDF, logistic regression", tfidf, data)
    score("frozen encoder, logistic reg.", encode(data, str(checkpoint)), data)


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
