"""The watched metric, before a run."""

import pytest
from hydra.utils import get_object

from helpers.runs import metrics_of
from thaw.cli.check import plain
from thaw.cli.compose import compose
from thaw.cli.watched_metric import METRICS, require_watched
from thaw.errors import ThawError

pytestmark = pytest.mark.no_figures


def require(*overrides, metrics=None):
    require_watched(plain(compose([*overrides, "run_dir=/tmp/nowhere"])), metrics)


@pytest.mark.parametrize("task", ["sequence", "regression", "ner", "mlm", "setfit"])
def test_every_task_watches_an_existing_metric(task):
    require(f"task={task}")
    require(f"task={task}", "monitor=val/loss")
    require(f"task={task}", "monitor=train/loss", "monitor_mode=min")


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/loss", "min"), ("train/loss", "min"), ("val/mcc", "max"), ("val/auroc", "max")],
)
def test_the_mode_follows_from_the_metric(monitor, mode):
    cfg = plain(compose([f"monitor={monitor}", "run_dir=/tmp/nowhere"]))
    assert cfg["monitor_mode"] == mode
    assert cfg["callbacks"]["best"]["mode"] == cfg["callbacks"]["early_stopping"]["mode"] == mode


@pytest.mark.parametrize("metric", ["mcc", "auroc", "average_precision", "balanced_accuracy"])
def test_a_metric_that_is_not_shown_may_be_watched(run, metric):
    once = ["trainer.max_epochs=1", "trainer.val_check_interval=1.0"]
    found = metrics_of(run(f"monitor=val/{metric}", *once))
    assert {f"val/{metric}", f"test/{metric}", "best_step"} <= set(found)
    assert "test/f1" in found


def test_a_metric_that_only_a_callback_watches_needs_task_metrics(run):
    with pytest.raises(ThawError, match=r"early_stopping.monitor=val/mcc: .* task.metrics leaves"):
        run("callbacks.early_stopping.monitor=val/mcc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["monitor=val/F1"], r"^monitor=val/F1: .* Did you mean val/f1.*val/f1_macro.*val/loss"),
        (["monitor=val_loss"], r"Did you mean val/loss"),
        (["monitor=f1"], r"^monitor=f1: there is no such metric\. Did you mean val/f1\?"),
        (["monitor=eval_accuracy"], r"Did you mean val/accuracy\?"),
        (["task=ner", "monitor=val/accuracy"], r"It is one of val/f1, val/precision, val/recall"),
        (["callbacks.early_stopping.monitor=val/x"], r"^callbacks\.early_stopping\.monitor=val/x"),
        (["monitor=val/loss", "monitor_mode=max"], r"smaller value is .* Add monitor_mode=min"),
        (["monitor_mode=min"], r"of val/f1, a larger value is better. Add monitor_mode=max"),
        (["task=mlm", "monitor_mode=max"], r"Add monitor_mode=min"),
        (
            ["callbacks.best.monitor=val/loss"],
            r"with callbacks\.best\.mode=max .* Add callbacks\.best\.mode=min",
        ),
    ],
)
def test_a_metric_that_will_not_exist_or_a_mode_against_it_is_refused(options, message):
    with pytest.raises(ThawError, match=message):
        require(*options)


def test_a_metric_that_this_data_does_not_give_is_refused_before_training(run, tmp_path):
    path = tmp_path / "three.csv"
    rows = [f"film {i} {label},{label}" for label in "abc" for i in range(8)]
    path.write_text("\n".join(["text,label", *rows]))
    overrides = [f"data.train={path}", "data.path=null", "data.test=null", "data.validation=0.25"]
    with pytest.raises(ThawError, match=r"monitor=val/f1_binary: .* one of val/f1, val/f1_macro"):
        run(*overrides, "monitor=val/f1_binary")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_a_resumed_run_watches_the_same_metric():
    require("monitor=val/loss", "resume=somewhere")


def test_metrics_that_a_users_task_does_not_declare_are_not_checked():
    require("monitor=val/anything", metrics={})


@pytest.mark.parametrize("target", METRICS)
def test_metrics_known_without_torch_are_those_that_tasks_declare(target):
    assert get_object(target).metrics == METRICS[target]
