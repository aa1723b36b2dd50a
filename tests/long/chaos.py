"""Kills runs at random moments and goes on with them: `python tests/long/chaos.py --kills 50`.

A run is killed (SIGKILL) a random time after it came to a phase, is taken up with `resume=`,
perhaps killed again, and in the end compared with one that nobody killed: metrics, weights,
predictions and the rows of metrics.csv, to the bit. Model and data are made on the spot; the model
comes as a wheel from an index in a directory, and caches are empty each time.
"""

import argparse
import contextlib
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import conftest  # noqa: F401  # sets the environment before torch is imported

from helpers.runs import curve, result
from helpers.tiny import (
    REPOSITORY,
    save_tiny,
    sentences,
    tagged_sentences,
    tiny_config,
    write_columns,
    write_csv,
)

# Where a phase begins, how many seconds after that a kill comes at the latest, and how often a run
# comes there at least.
CHECKPOINT = "thaw.training.callbacks.resumable_checkpoint.Checkpoint"
PHASES: dict[str, tuple[str, float, int]] = {
    "start": ("", 1.5, 1),
    "wheel": ("thaw.storage.wheels.download_and_unpack", 1.5, 1),
    "prefix": ("thaw.encoder.frozen_prefix.prefix.Prefix.write", 0.04, 2),
    "training": (f"{CHECKPOINT}.on_train_batch_start", 0.05, 16),
    "checkpoint": (f"{CHECKPOINT}.save", 0.03, 8),
    "validation": (f"{CHECKPOINT}.on_validation_end", 0.05, 8),
    "test": ("thaw.train.run_test", 0.2, 1),
    "export": ("thaw.report.run.export", 0.1, 1),
    "results": ("thaw.report.run.learning_curve", 0.5, 1),
}
OWN = {
    "sequence": ["freeze=last"],
    "ner": ["task=ner", "data=conll", "freeze=head"],
    "mlm": ["task=mlm", "task.probes=['a [MASK] film']"],
    "setfit": ["task=setfit", "task.shots=8", "task.steps=8", "freeze=last"],
}


class Place:
    """Model, data, index and the results of runs that nobody kills, in a scratch directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.search = f"hydra.searchpath=[file://{root / 'conf'}]"  # typed again with resume=
        (root / "index").mkdir()
        (root / "data").mkdir()
        os.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "index")}
        rows, tagged = sentences(80), tagged_sentences(80)
        for name, part in (
            ("train", slice(0, 40)),
            ("validation", slice(40, 60)),
            ("test", slice(60, 80)),
        ):
            header = ["text", "label"]
            write_csv(root / "data" / f"{name}.csv", rows[part], header)
            write_columns(root / "data" / f"{name}.conll", tagged[part])
        self.whole: dict[str, Any] = {}

    def make_wheel(self) -> None:
        """The model as a wheel: in a process of its own, as torch is used."""
        from helpers.wheels import add_wheel

        tiny = save_tiny("BertModel", tiny_config(), self.root / "tiny")
        files = {f"tiny/model/{p.name}": p.read_bytes() for p in tiny.iterdir()}
        [(wheel, digest)] = add_wheel(self.root / "index", files).items()
        (self.root / "conf" / "model").mkdir(parents=True)
        (self.root / "conf" / "model" / "tiny.yaml").write_text(
            "name: tiny\nrevision: null\nlearning_rate: 3e-3\n"
            f"checkpoint: {{wheels: {{'{wheel}': {digest}}}, member: tiny/model}}\n"
        )

    def words(self, task: str) -> list[str]:
        """Those that a run is started with."""
        end = "conll" if task == "ner" else "csv"
        own = [*OWN[task]] if task == "ner" else [*OWN[task], "data=files"]
        return [
            *own,
            f"data.path={self.root / 'data'}",
            f"data.train=train.{end}",
            f"data.validation=validation.{end}",
            f"data.test=test.{end}",
            "data.batch_size=4",
            "data.max_tokens=64",
            "model=tiny",
            self.search,
            "task.learning_rate=3e-3",
            "logger=csv",
            "trainer.accelerator=cpu",
            "trainer.precision=32-true",
            "trainer.max_epochs=2",
            "trainer.log_every_n_steps=1",
            "trainer.accumulate_grad_batches=2",
            "callbacks.checkpoint.every_n_train_steps=1",
        ]

    def ran(self, words: Sequence[str], cache: Path, phase: str = "", seed: int = 0) -> int:
        """Runs train.py in a child: its exit code, or -9 where it was killed in that phase."""
        return in_child(lambda: self.child(words, cache, phase, seed))

    def child(self, words: Sequence[str], cache: Path, phase: str, seed: int) -> None:
        log = os.open(self.root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ["THAW_CACHE"] = str(cache)
        if phase:
            arm(phase, random.Random(seed))
        sys.argv = [str(REPOSITORY / "train.py"), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")

    def expected(self, task: str) -> Any:
        """What a run gives that nobody kills."""
        if task not in self.whole:
            directory = self.root / f"whole-{task}"
            code = self.ran([*self.words(task), f"hydra.run.dir={directory}"], self.root / "cache")
            assert code == 0, f"exit code {code}: {self.root / 'log.txt'}"
            self.whole[task] = result(directory), curve(directory)
        return self.whole[task]


def in_child(work: Callable[[], None]) -> int:
    """Does something in a forked process, which need not import torch again: its exit code."""
    sys.stdout.flush()
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    with contextlib.suppress(BaseException):
        try:
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def arm(phase: str, dice: random.Random) -> None:
    """Has this process killed a random time after a random arrival at a phase."""
    name, seconds, often = PHASES[phase]
    delay = dice.uniform(0, seconds)

    def kill() -> None:
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def begin() -> None:
        threading.Thread(target=kill, daemon=True).start()

    if not name:
        return begin()
    owner, _, attribute = name.rpartition(".")
    holder = resolve(owner)
    before, left = getattr(holder, attribute), [dice.randint(1, often)]

    def watched(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            begin()
        return before(*args, **options)

    setattr(holder, attribute, watched)


def resolve(name: str) -> Any:
    """A module or a class by its dotted name."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        owner, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(owner), attribute)


def trial(place: Place, task: str, phases: Sequence[str], seed: int) -> list[str]:
    """Kills a run in some phases, one after the other, and lets it end.

    Returns:
        The phases in which it was killed; it may have been quicker than the kill.

    Raises:
        AssertionError: it does not end, or with another result.
    """
    expected = place.expected(task)
    directory, cache = place.root / "run", place.root / "fresh"
    for path in (directory, cache):
        shutil.rmtree(path, ignore_errors=True)
    killed = []
    what = f"task {task}, phases {','.join(phases)}, seed {seed}, log {place.root / 'log.txt'}"
    for number, phase in enumerate([*phases, "", ""]):
        # Before Hydra has written its notes there is nothing to resume.
        began = (directory / ".hydra" / "overrides.yaml").exists()
        words = (
            [f"resume={directory}", place.search]
            if began
            else [*place.words(task), f"hydra.run.dir={directory}"]
        )
        code = place.ran(words, cache, phase, seed + number)
        if code == 2 and began and not (directory / "versions.json").exists():
            shutil.rmtree(directory)  # killed while Hydra wrote them: it says that no run began
            continue
        assert code in (0, -signal.SIGKILL), f"exit code {code}: {what}"
        if code:
            killed.append(phase)
    assert (directory / "metrics.json").exists(), f"no end: {what}"
    assert (result(directory), curve(directory)) == expected, f"another result: {what}"
    left = [p.name for p in directory.rglob("*partial*")]
    assert not left, f"{left} left: {what}"
    return killed


def main(argv: Sequence[str] | None = None) -> Counter[str]:
    """Kills until there were `--kills` of them, and prints how many in each phase."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default=",".join(OWN))
    options = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    import thaw.report.run
    import thaw.tasks.mlm
    import thaw.tasks.ner
    import thaw.tasks.setfit
    import thaw.train  # noqa: F401  # before the forks

    counts: Counter[str] = Counter()
    dice, number = random.Random(options.seed), 0
    order = [phase for phase in PHASES]
    root = Path(tempfile.mkdtemp(prefix="chaos-"))  # stays where something fails
    place = Place(root)
    assert in_child(place.make_wheel) == 0
    while counts.total() < options.kills:
        task = options.tasks.split(",")[number % len(options.tasks.split(","))]
        phases = [order[number % len(order)], *dice.choices(order, k=dice.choice([0, 1, 2]))]
        killed = trial(place, task, phases, seed=options.seed + 1000 * number)
        counts.update(killed)
        number += 1
        print(f"{task}: killed in {', '.join(killed) or 'nothing'}; the same result", flush=True)
    shutil.rmtree(root)
    print(
        f"{counts.total()} kills, {number} runs: "
        + ", ".join(f"{phase} {counts[phase]}" for phase in PHASES)
    )
    return counts


if __name__ == "__main__":
    main()
