"""One cache on disk: entries whole or absent, within a budget, shared by processes that may die."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from helpers.tiny import REPOSITORY
from thaw.storage.cache import DiskCache, NoRoom


def content(text="abc"):
    def make(directory):
        (directory / "file").write_text(text)

    return make


def read(directory):
    return (directory / "file").read_text()


def never(directory):
    raise AssertionError("made again")


def kept(root):
    return sorted(p.name for p in root.iterdir() if p.is_dir())


def aged(cache, *keys):
    """Fills a cache; the first key is the least recently used."""
    for age, key in enumerate(keys):
        cache.get(key, content(), read)
        os.utime(cache.root / key, (1000 + age, 1000 + age))


@pytest.mark.parametrize("budget", [None, 100])
def test_an_entry_is_made_once_and_read_again(tmp_path, budget):
    cache = DiskCache(tmp_path / "new", budget)
    assert cache.find("key", read) is None
    assert cache.get("key", content(), read) == "abc"
    assert cache.get("key", never, read) == "abc"
    assert cache.find("key", read) == "abc"


def test_a_failure_leaves_nothing_behind(tmp_path):
    def broken(directory):
        content()(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DiskCache(tmp_path).get("key", broken, read)
    assert kept(tmp_path) == []
    assert DiskCache(tmp_path).get("key", content(), read) == "abc"


@pytest.mark.parametrize("budget", [None, 100])
@pytest.mark.parametrize(
    "harm",
    [
        lambda root: (root / "key" / "file").write_text("ab"),
        lambda root: (root / "key" / "file").unlink(),
        lambda root: (root / "key" / "more").write_text(""),
        lambda root: (root / "key.sizes").write_text("{"),
        lambda root: (root / "key.sizes").unlink(),
    ],
    ids=["cut", "lost", "more", "garbled sizes", "no sizes"],
)
def test_a_damaged_entry_is_made_again_with_a_warning(tmp_path, caplog, budget, harm):
    cache = DiskCache(tmp_path, budget)
    cache.get("key", content(), read)
    harm(tmp_path)
    assert cache.get("key", content(), read) == "abc"
    assert f"{tmp_path / 'key'} is damaged and made again: its files have other" in caplog.text
    assert cache.get("key", never, read) == "abc"


def test_damage_that_leaves_the_sizes_is_what_reading_raises(tmp_path, caplog):
    cache = DiskCache(tmp_path, 100)
    cache.get("key", content("[1]"), lambda d: json.loads(read(d)))
    (tmp_path / "key" / "file").write_text("[1)")
    assert cache.get("key", content("[1]"), lambda d: json.loads(read(d))) == [1]
    assert "is damaged and made again: JSONDecodeError" in caplog.text


def test_what_cannot_be_read_right_after_it_was_made_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        DiskCache(tmp_path).get("key", lambda directory: None, read)


def test_the_least_recently_used_entries_are_deleted_first(tmp_path):
    cache = DiskCache(tmp_path, 6)
    aged(cache, "old", "older than new")
    cache.get("old", never, read)
    cache.get("new", content(), read)
    assert kept(tmp_path) == ["new", "old"]
    with pytest.raises(NoRoom, match="other runs use the rest of the budget"):
        cache.make_room(7)
    assert kept(tmp_path) == []


def test_an_entry_larger_than_the_budget_stays_while_it_is_the_last(tmp_path):
    cache = DiskCache(tmp_path, 2)
    aged(cache, "a", "b")
    assert kept(tmp_path) == ["b"]


def test_states_that_another_process_uses_are_not_deleted(tmp_path):
    cache = DiskCache(tmp_path, 6)
    aged(cache, "held", "free")
    with FileLock(tmp_path / "held.lock"), pytest.raises(NoRoom):
        cache.make_room(4)
    assert kept(tmp_path) == ["held"]


def test_a_full_disk_is_made_room_on_too(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, 1000)
    aged(cache, "a", "b")
    usage = type("Usage", (), {"free": 2, "total": 1000})
    monkeypatch.setattr("thaw.storage.cache.shutil.disk_usage", lambda path: usage)
    cache.make_room(5)
    assert kept(tmp_path) == ["b"]
    with pytest.raises(NoRoom, match=r"has 0\.00 GiB left"):
        cache.make_room(100)


def test_only_entries_are_deleted_where_other_things_lie_beside_them(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.partial").write_text("x" * 100)
    (tmp_path / "film.partial").write_text("x" * 100)
    cache = DiskCache(tmp_path, 2)
    aged(cache, "a", "b")
    assert kept(tmp_path) == ["b", "mine"]
    assert (tmp_path / "mine" / "thesis.partial").exists()
    assert (tmp_path / "film.partial").exists()


def test_what_others_write_or_delete_meanwhile_does_not_disturb_making_room(tmp_path):
    cache = DiskCache(tmp_path, 6)
    aged(cache, "gone", "here")
    # A link to nothing is a name that is listed and no longer there when it is looked at.
    (tmp_path / ".other.partial").mkdir()
    (tmp_path / ".other.partial" / "file").symlink_to(tmp_path / "nowhere")
    with FileLock(tmp_path / "other.lock"):
        (tmp_path / "gone" / "file").unlink()
        (tmp_path / "gone").rmdir()
        cache.get("new", content(), read)
    assert kept(tmp_path) == [".other.partial", "here", "new"]


def test_what_killed_processes_left_is_swept_and_what_others_still_write_is_not(tmp_path):
    for key in ("dead", "alive", "mine"):
        (tmp_path / f".{key}.partial").mkdir()
        (tmp_path / f".{key}.partial" / "file").write_text("half")
        (tmp_path / f"{key}.lock").touch()
    with FileLock(tmp_path / "alive.lock"):
        assert DiskCache(tmp_path).get("mine", content(), read) == "abc"
    assert kept(tmp_path) == [".alive.partial", "mine"]


def test_entries_of_the_version_before_are_swept(tmp_path):
    names = [f"{'0f' * 16}", f"{'1e' * 16}.states", f"{'2d' * 16}.partial", "not ours"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "about.json").write_text("{}")
    (tmp_path / f"{'2d' * 16}.lock").touch()
    DiskCache(tmp_path, 100).get("key", content(), read)
    assert kept(tmp_path) == ["key", "not ours"]


WORKER = f"""
import random, sys
sys.path.insert(0, {str(REPOSITORY / "src")!r})
from pathlib import Path
from thaw.storage.cache import DiskCache
root, seed = Path(sys.argv[1]), int(sys.argv[2])
rng, cache = random.Random(seed), DiskCache(root, 3000)
def make(key, directory):
    for number in range(3):
        with open(directory / str(number), "w") as file:
            for _ in range(10):
                file.write(key * 10)
                file.flush()
def read(directory):
    return [(directory / str(number)).read_text() for number in range(3)]
print("started", flush=True)
for _ in range(int(sys.argv[3])):
    key = rng.choice("abcdefghijklmnop")
    assert cache.get(key, lambda directory: make(key, directory), read) == [key * 100] * 3
"""


def test_many_processes_at_once_find_every_entry_whole_though_some_are_killed(tmp_path):
    rng = random.Random(0)

    def worker(seed, turns):
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(seed), str(turns)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    lasting = [worker(seed, 60) for seed in range(4)]
    for seed in range(4, 10):
        killed = worker(seed, 10**6)
        killed.stdout.readline()
        time.sleep(rng.uniform(0, 0.1))
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        killed.communicate()
    for process in lasting:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "damaged" not in errors
    cache = DiskCache(tmp_path, 3000)
    cache.get("last", content(), read)
    assert sum(size for _, size, _ in cache.entries()) <= 3000
    assert not [name for name in kept(tmp_path) if name.endswith(".partial")]
