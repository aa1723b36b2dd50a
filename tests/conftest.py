"""Fixtures of all tests, and the environment they run in."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from helpers.tiny import (
    runner,
    save_tiny,
    sentences,
    tagged_sentences,
    tiny_config,
    write_columns,
    write_csv,
)

# Few cases and always the same in the suite; `--hypothesis-profile long` tries new ones.
for name, examples in (("fast", 25), ("long", 1000)):
    settings.register_profile(
        name,
        max_examples=examples,
        derandomize=name == "fast",
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
settings.load_profile("fast")

os.environ.update(WANDB_MODE="offline", HF_HUB_OFFLINE="1")
if not os.environ.get("THAW_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.pop("WANDB_API_KEY", None)
# Workers of pytest share the cores; tiny models gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT encoder of two blocks, width 32, without a head."""
    return save_tiny("BertModel", tiny_config(), tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train.csv (64 rows), validation.csv (20) and test.csv (22)."""
    directory = tmp_path_factory.mktemp("reviews")
    rows = sentences(106)
    for name, part in (("train", rows[:64]), ("validation", rows[64:84]), ("test", rows[84:])):
        write_csv(directory / f"{name}.csv", part, ["text", "label"])
    return directory


@pytest.fixture
def overrides(tiny_bert: Path, reviews: Path) -> list[str]:
    """A run of two epochs on CPU in a few seconds."""
    return [
        "data=files",
        f"data.path={reviews}",
        "data.train=train.csv",
        "data.validation=validation.csv",
        "data.test=test.csv",
        "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}",
        "task.learning_rate=3e-3",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    ]


@pytest.fixture(scope="session")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train.conll (64 sentences), validation.conll (20) and test.conll (22)."""
    directory = tmp_path_factory.mktemp("tagged")
    rows = tagged_sentences(106)
    for name, part in (("train", rows[:64]), ("validation", rows[64:84]), ("test", rows[84:])):
        write_columns(directory / f"{name}.conll", part)
    return directory


@pytest.fixture
def ner_overrides(tiny_bert: Path, tagged: Path) -> list[str]:
    """A run of task=ner of two epochs on CPU in a few seconds."""
    return [
        "task=ner",
        "data=conll",
        f"data.path={tagged}",
        "data.train=train.conll",
        "data.validation=validation.conll",
        "data.test=test.conll",
        "data.batch_size=8",
        "data.max_tokens=64",
        f"model.checkpoint={tiny_bert}",
        "task.learning_rate=3e-3",
        "logger=csv",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
    ]


@pytest.fixture
def run_ner(ner_overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs task=ner in this process with further overrides; gives the run directory."""
    return runner(ner_overrides, tmp_path)


@pytest.fixture
def run(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs thaw in this process with further overrides; gives the run directory."""
    return runner(overrides, tmp_path)
