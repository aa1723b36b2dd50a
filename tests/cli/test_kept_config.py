"""What a run keeps of its config, so that its directory stands alone."""

import pytest
from omegaconf import OmegaConf

from thaw.cli.jobs import read_jobs
from thaw.cli.kept_config import keep_config, kept_config, restore, run_config, run_overrides


def config(**data):
    node = {"data": data, "task": {"name": "${data.name}"}, "model": {"checkpoint": "x"}}
    return OmegaConf.create(node)


def test_interpolations_are_resolved_and_paths_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    monkeypatch.setenv("CORPUS", str(tmp_path))
    cfg = config(
        name="own", path=None, train="a.csv", validation=0.1, test="${oc.env:CORPUS}/a.csv"
    )
    keep_config(cfg, tmp_path)
    kept = kept_config(tmp_path)
    assert kept["data"]["train"] == kept["data"]["test"] == str(tmp_path / "a.csv")
    assert kept["data"]["validation"] == 0.1
    assert kept["task"] == {"name": "own"}


def test_files_stay_below_their_directory_and_names_on_the_hub_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "train").touch()  # a file of the name of the Hub's split
    for path, kept in (("corpus", str(tmp_path / "corpus")), ("owner/name", "owner/name")):
        keep_config(config(name="own", path=path, train="train"), tmp_path)
        assert kept_config(tmp_path)["data"] == {"name": "own", "path": kept, "train": "train"}


def test_secrets_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdefghij")
    monkeypatch.setenv("WHERE", "https://user:word@host/a.csv")
    keep_config(config(name="${oc.env:HF_TOKEN}", train="${oc.env:WHERE}", token="x"), tmp_path)
    text = (tmp_path / ".hydra" / "resolved.yaml").read_text()
    assert "hf_0123" not in text
    assert "word@" not in text
    assert "${oc.env:HF_TOKEN}" in text
    assert kept_config(tmp_path)["data"]["token"] == "***"


@pytest.mark.parametrize(
    ("typed", "train", "text"),
    [
        ([], "/there/a.csv", "review"),
        (["data.text=body"], "/there/a.csv", "body"),
        (["data=files"], None, "review"),  # of the run's overrides, data.text alone is kept
    ],
)
def test_an_evaluation_uses_the_runs_values_unless_the_user_sets_others(
    tmp_path, typed, train, text
):
    keep_config(config(name="own", train="/there/a.csv", text="review"), tmp_path)
    cfg = config(name="files", train=None, text="body" if "data.text=body" in typed else "?")
    restored = restore(cfg, tmp_path, ["data.text=${oc.env:COLUMN}"], typed)
    assert (restored.data.train, restored.data.text) == (train, text)


def test_a_run_of_an_earlier_thaw_predicts_without_its_variables(tmp_path):
    (tmp_path / ".hydra").mkdir()
    cfg = config(train="${oc.env:NOT_SET}/a.csv", test="${hydra:runtime.cwd}/b.csv", text="review")
    OmegaConf.save(cfg, tmp_path / ".hydra" / "config.yaml")
    assert run_config(tmp_path).data == {"train": None, "test": None, "text": "review"}


def test_what_a_run_and_a_job_were_started_with_is_read_as_it_was_typed(tmp_path):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    overrides = ["data=files", "data.text=${oc.env:NOT_SET}"]
    OmegaConf.save(OmegaConf.create(overrides), tmp_path / "0" / ".hydra" / "overrides.yaml")
    assert run_overrides(tmp_path / "0", None) == overrides
    [job] = read_jobs(tmp_path)
    assert job.values == {"data": "files", "data.text": "${oc.env:NOT_SET}"}
