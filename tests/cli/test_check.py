"""The command line's promises: every choice composes, every mistake is explained."""

import inspect
import re
import sys

import lightning.pytorch as pl
import pytest

from helpers.warm import FOR_CHECKS, python
from thaw.cli.check import check, leave_unread, model_text, name_data, plain, verify
from thaw.cli.compose import compose
from thaw.cli.conf import conf_dir
from thaw.errors import ThawError

CHOICES = [
    f"{path.parent.relative_to(conf_dir()).as_posix()}={path.stem}"
    for path in sorted(conf_dir().rglob("*.yaml"))
    if path.parent != conf_dir()
    and not {"hydra", "hparams_search"} & set(path.relative_to(conf_dir()).parts)
]


def composed(*overrides):
    return compose([*overrides, "run_dir=/tmp/nowhere"])


def checked(*overrides):
    """What `thaw.train` does before anything else."""
    cfg = composed(*overrides)
    leave_unread(cfg)
    check(cfg)


def option(choice):
    group, name = choice.split("=")
    return f"experiment={group.split('/')[1]}/{name}" if group.startswith("experiment/") else choice


NEEDS = {
    "data=conll": "task=ner",
    "data=wnut16": "task=ner",
    "optimizer=own": "optimizer._target_=torch.optim.NAdam",
    "schedule=own": "schedule._target_=torch.optim.lr_scheduler.StepLR +schedule.step_size=9",
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_fits_its_constructors(choice):
    checked(option(choice), *NEEDS.get(choice, "").split())


def test_own_files_and_tagged_data_are_refused_without_the_group_that_reads_them(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\na,b\n")
    overrides = [f"data.train={path}"]
    with pytest.raises(ThawError, match=r"is a file of your own, .*: add data=files"):
        verify(composed(*overrides), overrides)
    with pytest.raises(ThawError, match="words with tags, a word a line: add task=ner"):
        checked("data=conll")


def test_every_argument_of_lightnings_trainer_is_an_option():
    arguments = set(inspect.signature(pl.Trainer).parameters) - {"logger", "callbacks"}
    own = {"_target_", "packed", "compile", "on_nonfinite"}
    assert set(composed().trainer) - own == arguments


def test_an_experiment_is_the_chapters_recipe():
    cfg = composed("experiment=chapter/finetune")
    assert cfg.model.checkpoint == "google-bert/bert-base-cased"
    assert cfg.data.path == "cornell-movie-review-data/rotten_tomatoes"
    assert (cfg.data.batch_size, cfg.trainer.max_epochs) == (16, 1)
    assert (cfg.task.learning_rate, cfg.task.weight_decay) == (2e-5, 0.01)


def test_pretraining_takes_the_models_learning_rate_or_a_low_one():
    assert composed("task=mlm").task.learning_rate == 3e-4
    assert composed("task=mlm", "model=roberta_base").task.learning_rate == 5e-5


def test_data_on_the_command_line_wins_over_the_tasks():
    assert composed("task=ner").data.name == "wnut16"
    assert composed("task=sequence", "data=sst2").data.name == "sst2"
    assert composed("task=ner", "data=conll2003").data.name == "conll2003"
    assert composed("data=conll2003", "task=ner").data.name == "conll2003"


def test_options_of_a_data_set_that_another_task_reads_are_left_out():
    cfg = composed("task=ner", "data=conll2003")
    leave_unread(cfg)
    assert cfg.data.tags == "ner_tags"
    assert "label_separator" not in cfg.data


def test_an_option_that_the_task_does_not_read_is_refused():
    overrides = ["task=ner", "data.label=stars"]
    with pytest.raises(ThawError, match=r"data.label=stars: this task does not read data\.label"):
        leave_unread(composed(*overrides), overrides)
    overrides = ["data.scheme=iob1"]
    with pytest.raises(ThawError, match=r"does not read data\.scheme.* It reads .*label"):
        leave_unread(composed(*overrides), overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "task=sequnce",
            "task is one of mlm, ner, regression, sequence, setfit. Did you mean sequence",
        ),
        ("logger=[csv,wandbb]", r"logger=wandbb does not exist; .* Did you mean wandb"),
        ("data=movie_review", "Did you mean movie_reviews"),
        ("dta=files", "no option dta. Did you mean data"),
        ("task.lerning_rate=1", "Did you mean task.learning_rate"),
        ("learning_rate=1", "of transformers.Trainer is `task.learning_rate=1` here"),
        ("max_epochs=3", "Did you mean trainer.max_epochs"),
        ("task.lr=1", r"Did you mean task.learning_rate\?"),
        ("lr=1", "Did you mean model.learning_rate or task.learning_rate"),
        ("task.probes=[a]", "task.probes is an option of task=mlm: this is another task"),
        ("epochs=3", "Did you mean trainer.max_epochs"),
        ("bs=8", r"Did you mean data.batch_size\?"),
        ("patience=3", r"Did you mean callbacks.early_stopping.patience\?"),
        ("freeze.blocks=2", "is an option of freeze=gradual or freeze=last: this is another"),
        ("schedule.power=2", "an option of schedule=polynomial: this is another"),
        ("logger=null", "logger=null does not exist; logger is one of .*none"),
        ("freeze=2", "freeze=2 does not exist; freeze is one of"),
        ("data.train=~/a b.csv", r"""Quote the value .*: "data.train='~/a b.csv'";"""),
        ("data.drop_labels=[café, x]", r"""in the list: 'data\.drop_labels=\["café",x\]'"""),
    ],
)
def test_a_mistyped_option_names_the_nearest(override, message):
    with pytest.raises(ThawError, match=message):
        composed(override)


def test_an_option_that_another_choice_replaced_names_the_choices_that_have_it():
    with pytest.raises(ThawError, match="of logger=default or logger=wandb: this is another logg"):
        composed("logger=csv", "logger.wandb.project=x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+task.lr=1", r"no option task\.lr\..*learning_rate"),
        ("task.learning_rate=fast", r"task\.learning_rate='fast' does not fit"),
        ("data.batch_size=many", r"data\.batch_size='many' does not fit"),
        ("data.batch_size=0", r"data\.batch_size=0 does not fit: expected int > 0\."),
        ("data.num_workers=-1", r"data\.num_workers=-1 does not fit"),
        ("task.warmup_ratio=2", r"task\.warmup_ratio=2 does not fit: expected float ≥ 0, ≤ 1\."),
        ("task.learning_rate=-1e-4", r"task\.learning_rate=-0\.0001 does not fit"),
        ("trainer.max_epochs=x", r"trainer\.max_epochs='x' does not fit"),
        ("seed=one", r"seed='one' does not fit"),
        ("monitor_mode=maximum", r"monitor_mode='maximum' does not fit: expected max or min\."),
        ("trainer.on_nonfinite=stopp", r"expected stop or skip\. Did you mean stop\?"),
        ("model.learning_rate=-1", r"model\.learning_rate=-1 does not fit"),
        ("+callbacks.early_stopping.patiense=3", r"no option callbacks\.early_stopping\.patiense"),
    ],
)
def test_a_value_that_does_not_fit_ends_before_anything_is_fetched(override, message):
    with pytest.raises(ThawError, match=message):
        checked(override)


def test_config_dir_adds_choices_and_messages_list_them(tmp_path, monkeypatch):
    (tmp_path / "it's" / "data").mkdir(parents=True)
    (tmp_path / "it's" / "data" / "tickets.yaml").write_text("defaults: [files]\nname: tickets\n")
    with pytest.raises(ThawError, match=r"data=tickets does not exist.* --config-dir <directory>"):
        composed("data=tickets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config-dir", "it's", "data=tickts"])
    assert composed("data=tickets").data.name == "tickets"
    with pytest.raises(ThawError, match=r"one of .*tickets.* Did you mean tickets\?"):
        composed("data=tickts")


def train_py(*overrides):
    return python("train.py", *overrides, modules=FOR_CHECKS)


def test_help_lists_every_group_and_option():
    shown = train_py("--help").stdout
    assert "model: bert_base_cased, bert_base_uncased" in shown
    assert "accumulate_grad_batches:" in shown
    assert re.search(r"\n  learning_rate: \$\{model\.learning_rate\} +# float ≥ 0; highest", shown)


def test_help_lists_what_the_task_reads_of_the_data():
    shown = train_py("task=ner", "--help").stdout
    assert "\n  scheme: null" in shown
    assert "label_separator" not in shown


def test_a_mistake_on_the_command_line_is_two_lines_and_exit_code_2():
    done = train_py("task.lerning_rate=1", "--cfg", "job")
    assert done.returncode == 2
    assert "Did you mean task.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_runs_started_in_one_second_have_different_directories():
    shown = {train_py("--cfg", "hydra", "--resolve", "-p", "hydra.run.dir").stdout for _ in "ab"}
    assert len(shown) == 2


def test_plain_containers_hold_no_interpolation():
    assert plain(composed())["callbacks"]["best"]["monitor"] == "val/f1"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data=null", "data=null does not exist; data is one of ag_news"),
        ("+=", "cannot read .*'\\+='"),
        ("data={a:1}", "data is a group: data=CHOICE, of ag_news"),
    ],
)
def test_overrides_that_hydra_cannot_parse_end_in_a_message(word, said):
    with pytest.raises(ThawError, match=said):
        verify(compose(["run_dir=run", word]))


def test_a_command_with_overrides_that_hydra_cannot_parse_exits_with_code_2():
    done = train_py("data=null")
    assert done.returncode == 2
    assert "thaw: data=null does not exist; data is one of" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", ["minilm", "bert_base_cased"])
def test_a_model_is_called_by_the_checkpoint_that_an_override_names(model, tiny_bert):
    cfg = compose([f"model={model}", f"model.checkpoint={tiny_bert}", "run_dir=run"])
    verify(cfg)
    assert cfg.model.name == "/".join(tiny_bert.parts[-2:])
    assert model_text(plain(cfg.model)) == f"{cfg.model.name} ({tiny_bert})"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["data=files", "data.train=tickets.csv"], "tickets"),
        (["data=files", "data.train=tickets/train.csv"], "tickets"),
        (["data=files", "data.train=notes.v2.jsonl.gz"], "notes.v2"),
        (["data=files", "data.train=v1.2.csv"], "v1.2"),
        (["data=files", "data.path=tickets", "data.train=a.csv"], "tickets"),
        (["data=files", "data.train=tickets"], "tickets"),
        (["data=files", "data.path=acme/reviews", "data.train=train"], "acme/reviews"),
        (["data=files", "data.train=train.csv"], "files"),
        (["data=files", "data.train=tickets.csv", "data.name=letters"], "letters"),
        (["data=files", "data.train=tickets.csv", "data.name=files"], "files"),
        (["data=files", "data.train=cache/tables/0f/train.jsonl"], "files"),
        (["task=ner", "data=conll", "data.train=names.txt"], "names"),
        (["data=movie_reviews"], "movie_reviews"),
    ],
)
def test_own_files_are_called_as_their_file_or_directory_is(words, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THAW_CACHE", "cache")
    (tmp_path / "tickets").mkdir()
    cfg = composed(*words)
    name_data(cfg, words)
    assert cfg.data.name == name


def test_a_model_of_a_file_keeps_its_name():
    cfg = compose(["model=minilm", "run_dir=run"])
    verify(cfg)
    assert model_text(plain(cfg.model)) == "minilm"
