"""A tiny encoder of each architecture, with each kind of head."""

import torch
import transformers
from transformers import AutoModelForSequenceClassification

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZE, max_position_embeddings=64),
    "roberta": transformers.RobertaConfig(**SIZE, max_position_embeddings=66),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=64
    ),
    "mpnet": transformers.MPNetConfig(**SIZE, max_position_embeddings=66),
    "electra": transformers.ElectraConfig(**SIZE, embedding_size=16, max_position_embeddings=64),
    "deberta": transformers.DebertaV2Config(
        **SIZE,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
    ),
    "modernbert": transformers.ModernBertConfig(
        **SIZE,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    ),
}
ROBERTA = {**SIZE, "max_position_embeddings": 66, "pad_token_id": 0}
ROTARY = {**SIZE, "max_position_embeddings": 64, "pad_token_id": 0}
MULTILINGUAL = {  # whose blocks thaw finds by transformers' marker alone
    "xlm-roberta": transformers.XLMRobertaConfig(**ROBERTA),
    "camembert": transformers.CamembertConfig(**ROBERTA),
    "eurobert": transformers.EuroBertConfig(
        **ROTARY, bos_token_id=2, eos_token_id=3, mask_token_id=4
    ),
    "nomic_bert": transformers.NomicBertConfig(**ROTARY),
    "gte": transformers.GteConfig(**ROTARY),
}
EVERY = CONFIGS | MULTILINGUAL


def make(name, auto=AutoModelForSequenceClassification):
    torch.manual_seed(0)
    return auto.from_config(EVERY[name])
