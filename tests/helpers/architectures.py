"""Tiny encoders that train with dropout."""

import transformers

from helpers.tiny import tiny_config

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
ARCHITECTURES = {
    "bert": tiny_config(),
    "roberta": transformers.RobertaConfig(**SIZE),
    "electra": transformers.ElectraConfig(**SIZE, embedding_size=16),
    "mpnet": transformers.MPNetConfig(**SIZE),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZE,
        attention_dropout=0.3,
        local_attention=4,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    ),
}
