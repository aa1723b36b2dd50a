"""Uploads a finished run's model to the Hub: `python -m thaw.push run=<dir> repo=owner/name`."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from thaw.cli.compose import exit_clearly
from thaw.cli.finished_run import finished_model
from thaw.cli.overrides import read_arguments
from thaw.errors import ThawError
from thaw.report.model_dir import HERE

KNOWN = {"run": None, "repo": None, "private": "", "revision": ""}
USAGE = """usage: python -m thaw.push run=<run directory> repo=<owner/name> [private=true]
       [revision=<branch>]
Uploads <run>/model, with its card, which then says how to load it from the Hub, and with what
thaw.export wrote there, in one commit, and nothing else of the run. The repository is made if it
does not exist. The token is that of `hf auth login`, or of the environment variable HF_TOKEN."""
# Files of an earlier model in the repository, which would be read with those of this one.
STALE = ["*.safetensors", "*.json", "*.model", "*.pkl", "*vocab.txt", "*merges.txt", "onnx/*"]


def main(argv: list[str]) -> str:
    """Uploads the model of a finished run, and returns the address of the commit, which is printed;
    raises ThawError if an option is wrong, the run is not finished, or the Hub does not take it."""
    given, _ = read_arguments(argv, KNOWN, USAGE)
    run, repo, branch = Path(given["run"]), given["repo"], given["revision"] or None
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo):
        raise ThawError(f"repo={repo}: expected owner/name, such as repo=acme/reviews.")
    private = {"": None, "true": True, "false": False}.get(given["private"], given["private"])
    if isinstance(private, str):
        raise ThawError(f"private={private}: expected true or false.")
    model = finished_model(run)
    if not (run / "metrics.json").exists():
        raise ThawError(
            f"run={run} did not finish: it has no metrics.json. `python train.py resume={run}` "
            "finishes it."
        )

    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise ThawError(
            "there is no token for the Hub. `hf auth login` asks for one and keeps it; elsewhere "
            "the environment variable HF_TOKEN holds it. It needs the right to write: "
            "https://huggingface.co/settings/tokens."
        )
    api = HfApi(library_name="thaw")
    with push_errors(repo):
        api.create_repo(repo, private=private, exist_ok=True)
        if private is not None and bool(api.model_info(repo).private) != private:
            raise ThawError(
                f"repo={repo} exists already with private={str(not private).lower()}; nothing is "
                "pushed. Name another, leave private= out, or change it in its settings."
            )
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        with TemporaryDirectory() as place:
            commit = api.upload_folder(
                repo_id=repo,
                folder_path=linked(model, Path(place) / "model", repo, branch),
                revision=branch,
                delete_patterns=STALE,
                commit_message="Upload a model of thaw",
            )
    for path in sorted(p for p in model.rglob("*") if p.is_file()):
        print(f"  {path.relative_to(model)} ({path.stat().st_size:,} bytes)")
    print(f"pushed: {commit.commit_url}")
    return str(commit.commit_url)


def linked(model: Path, place: Path, repo: str, branch: str | None) -> Path:
    """Returns a directory of links to a model's files, with a card that loads it from the Hub."""
    shutil.copytree(model.absolute(), place, copy_function=os.symlink)
    path = place / "README.md"
    if path.exists():  # its owner may have taken it away
        named = f'"{repo}", revision="{branch}"' if branch else f'"{repo}"'
        card = path.read_text(encoding="utf-8").replace(f'"{HERE}"', named).replace(HERE, repo)
        path.unlink()
        path.write_text(card, encoding="utf-8")
    return place


@contextmanager
def push_errors(repo: str) -> Iterator[None]:
    """Raises ThawError, with what to do, where the Hub does not take a model."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    again = "Nothing was pushed; the same command tries again."
    # A commit may have been made whose answer is lost.
    unsure = "A push is one commit, all files or none; the same command tries again."
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        why = {
            401: "the Hub does not take the token. `hf auth login` makes one; HF_TOKEN goes first.",
            403: "the token has no right to write there: make one with the right to write at "
            "https://huggingface.co/settings/tokens, and check the owner's name.",
            404: "the Hub has no such owner or branch, or the token may not see it.",
        }.get(status, f"the Hub answers {status}, {error.server_message}.")
        raise ThawError(f"repo={repo}: {why} {again if status < 500 else unsure}") from error
    except (ConnectionError, HTTPError) as error:
        raise ThawError(f"repo={repo}: the Hub cannot be reached ({error}). {unsure}") from error
    except (OSError, ValueError, RuntimeError) as error:  # such as metadata that the Hub refuses
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ThawError(f"repo={repo}: {reason} {again}") from error


if __name__ == "__main__":
    with exit_clearly():
        main(sys.argv[1:])
