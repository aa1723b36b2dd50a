"""Fixtures of all tests, and the environment they run in."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

from helpers.shared import Exported, SharedRuns, copy_of, export_of
from helpers.tiny import (
    review_overrides,
    runner,
    save_tiny,
    sentences,
    tagged_overrides,
    tagged_sentences,
    tiny_config,
    write_columns,
    write_csv,
)
from helpers.warm import NO_FIGURES, spare_figures
from thaw.storage.cache import cache_dir

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


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Spares each run 45 waits for the disk; files survive a test without, as no power fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def configs_parsed_in_c() -> Iterator[None]:
    """Spares each `compose` a quarter of its time: OmegaConf takes PyYAML's parser in Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yaml.SafeLoader", yaml.CSafeLoader)
        yield


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws none in tests marked `no_figures`, because they look at something else."""
    if "no_figures" in request.keywords:
        spare_figures()
        monkeypatch.setenv(NO_FIGURES, "yes")


@pytest.fixture(scope="session", autouse=True)
def user_wheels() -> Path:
    """The directory of downloaded wheels, which tests share with the user: they are large."""
    wheels = cache_dir() / "wheels"
    with suppress(OSError):  # a machine where it cannot be made has no use for it
        wheels.mkdir(parents=True, exist_ok=True)
    return wheels


@pytest.fixture(scope="module", autouse=True)
def own_cache(user_wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gives the tests of a file a cache of their own."""
    directory = tmp_path_factory.mktemp("cache")
    (directory / "wheels").symlink_to(user_wheels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THAW_CACHE", str(directory))
        yield


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
    return review_overrides(tiny_bert, reviews)


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
    return tagged_overrides(tiny_bert, tagged)


@pytest.fixture
def run_ner(ner_overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs task=ner in this process with further overrides; gives the run directory."""
    return runner(ner_overrides, tmp_path)


@pytest.fixture
def run(overrides: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Runs thaw in this process with further overrides; gives the run directory."""
    return runner(overrides, tmp_path)


@pytest.fixture(scope="session")
def shared_runs(
    tiny_bert: Path, reviews: Path, tagged: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, SharedRuns]:
    root = tmp_path_factory.mktemp("finished")
    return {
        "run": SharedRuns(review_overrides(tiny_bert, reviews), root / "run"),
        "run_ner": SharedRuns(tagged_overrides(tiny_bert, tagged), root / "run_ner"),
    }


@pytest.fixture
def finished(shared_runs: dict[str, SharedRuns]) -> Iterator[Callable[..., Path]]:
    """Gives a finished run as `run` makes it; one training serves all tests, which only read it."""
    with shared_runs["run"].unchanged() as get:
        yield get


@pytest.fixture
def finished_ner(shared_runs: dict[str, SharedRuns]) -> Iterator[Callable[..., Path]]:
    """Gives a finished run as `run_ner` makes it, as `finished` does."""
    with shared_runs["run_ner"].unchanged() as get:
        yield get


@pytest.fixture(scope="session")
def exported(
    shared_runs: dict[str, SharedRuns], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """A run that has learned something, with its ONNX files; tests only read it."""
    run = shared_runs["run"].get("trainer.max_epochs=3", "task.learning_rate=1e-2")
    return export_of(copy_of(run, tmp_path_factory.mktemp("exported") / "run"))


@pytest.fixture
def finished_copy(finished: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Gives a copy of what `finished` gives, which a test may change."""

    def copy(*extra: str, name: str = "run") -> Path:
        return copy_of(finished(*extra), tmp_path / name)

    return copy
