"""How many tokens a model takes."""

import json

import pytest
import torch
from hydra.errors import InstantiationException
from transformers import AutoModel, AutoTokenizer, CanineTokenizer, DebertaV2Config

from helpers.architectures import ARCHITECTURES, SIZE
from helpers.tiny import save_tiny, tiny_config
from thaw.data.encode.positions import require_room, reserved, table_size
from thaw.errors import ThawError

pytestmark = pytest.mark.no_figures

ENDLESS = int(1e30)  # of a tokenizer that does not know


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_longest_text_that_is_let_through_is_the_longest_that_the_model_takes(name, tmp_path):
    config = ARCHITECTURES[name]
    config.save_pretrained(tmp_path)
    model = AutoModel.from_config(config).eval()
    table = table_size(config.to_dict())
    limit = 300 if table is None else table - reserved(config.to_dict())
    require_room(limit, ENDLESS, tmp_path)
    model(torch.full((1, limit), 7))
    if table is None:
        return
    with pytest.raises(ThawError, match=rf"^data\.max_tokens={limit + 1}: .* 3 to {limit}: it has"):
        require_room(limit + 1, ENDLESS, tmp_path)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 7))


def test_a_model_that_clips_distances_takes_any_length(tmp_path):
    config = DebertaV2Config(**SIZE, relative_attention=True, position_biased_input=False)
    config.save_pretrained(tmp_path)
    require_room(80, ENDLESS, tmp_path)
    AutoModel.from_config(config).eval()(torch.full((1, 80), 7))
    with pytest.raises(ThawError, match=r"this model takes 3 to 79\.$"):
        require_room(80, 79, tmp_path)


@pytest.mark.parametrize("task", ["sequence", "mlm", "setfit"])
def test_a_tokenizer_without_a_length_does_not_let_a_run_fail_at_its_longest_text(
    run, tmp_path, task
):
    model = save_tiny("BertModel", tiny_config(), tmp_path / "model")
    path = model / "tokenizer_config.json"
    options = json.loads(path.read_text())
    del options["model_max_length"]
    path.write_text(json.dumps(options))
    assert AutoTokenizer.from_pretrained(model).model_max_length > 1e20
    with pytest.raises(
        InstantiationException, match=r"data\.max_tokens=65: this model takes 3 to 64: it has"
    ):
        run(f"task={task}", f"model.checkpoint={model}", "data.max_tokens=65")


def test_entities_need_a_tokenizer_that_knows_the_tokens_of_words(run_ner, tiny_bert, tmp_path):
    AutoModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "model")
    CanineTokenizer().save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "tokenizer_config.json"
    options = json.loads(config.read_text()) | {"tokenizer_class": "CanineTokenizer"}
    config.write_text(json.dumps(options))
    with pytest.raises(InstantiationException, match=r"no tokenizer\.json, which task=ner needs"):
        run_ner(f"model.checkpoint={tmp_path / 'model'}")
