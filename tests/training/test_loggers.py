"""W&B starts late, and goes on offline where it is refused."""

from unittest.mock import MagicMock

import pytest
import wandb

from thaw.training.loggers import wandb_logger


@pytest.fixture
def starts(monkeypatch):
    """The options of each start of a W&B that refuses to be online, and holds the first id."""
    found = []

    def init(**options):
        found.append(options)
        if options["settings"].mode == "online":
            raise wandb.errors.CommError("refused")
        if options["id"] == found[0]["id"]:
            raise wandb.errors.UsageError(f"run ID {options['id']} is in use")
        return MagicMock()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    monkeypatch.setattr(wandb, "run", None)
    return found


def test_wandb_has_no_experiment_before_the_first_numbers(tmp_path, starts):
    logger = wandb_logger(str(tmp_path))
    assert not hasattr(logger, "experiment")
    assert starts == []


def test_an_id_that_the_refused_start_still_holds_is_replaced(tmp_path, starts, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb_logger(str(tmp_path)).log_metrics({"loss": 1.0}, step=1)
    first, second, third = (options["id"] for options in starts)
    assert first == second != third
    assert (tmp_path / "wandb_id.txt").read_text() == third
