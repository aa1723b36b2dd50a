"""A stand-in for the Hugging Face Hub on loopback, which serves a directory.

Models can be pushed to it: `written` says how it takes them.

    models/acme/tiny-bert/config.json               main
    models/acme/tiny-bert@refs%2Fpr%2F1/...         another revision
    datasets/acme/reviews/data/train-....parquet

datasets also looks for the host `datasets-server.127.0.0.1`, finds none and goes on.
huggingface_hub reads HF_ENDPOINT when it is imported, so use it from a process of its own:

    with Hub(directory) as hub:
        subprocess.run([sys.executable, ...], env=hub.environment(tmp_path / "cache"))
"""

import base64
import hashlib
import json
import os
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

ROUTES = [
    ("info", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(/revision/(?P<rev>[^/]+))?"),
    (
        "tree",
        r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
        r"/tree/(?P<rev>[^/]+)(/(?P<path>.*))?",
    ),
    ("paths", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/paths-info/(?P<rev>[^/]+)"),
    ("file", r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
]
REPO = r"[\w.-]+/[\w.-]+"
MODEL = r"/api/models/(?P<name>[^/]+/[^/]+)"
WRITES = [
    ("create", r"/api/repos/create"),
    ("validate", r"/api/validate-yaml"),
    ("preupload", rf"{MODEL}/preupload/(?P<rev>[^/]+)"),
    ("lfs", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("blob", r"/blobs/(?P<oid>[0-9a-f]{64})"),
    ("branch", rf"{MODEL}/branch/(?P<rev>[^/]+)"),
    ("commit", rf"{MODEL}/commit/(?P<rev>[^/]+)"),
]


class Hub:
    """Serves `directory` until the context ends.

    Args:
        directory: what it serves, and where repositories are made.
        tokens: the right of each token: "write" or "read".

    Attributes:
        url: the endpoint.
        requests: what was asked so far, as "GET /api/models/...".
        failing: answers to writes that fail: name of the route, and status of the answer.
        private: names of the repositories that are private.
        blobs: large files that were uploaded, by their SHA-256.
        commits: paths that each commit added, and those that it deleted.
    """

    def __init__(self, directory: Path, tokens: dict[str, str] | None = None) -> None:
        hub = self
        self.directory = directory
        self.requests: list[str] = []
        self.tokens = tokens or {}
        self.failing: dict[str, int] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.commits: list[tuple[list[str], list[str]]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.body()
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, content = hub.respond(self.path, body, dict(self.headers.items()))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The variables of a process that knows no Hub but this one."""
        return hub_environment(self.url, home)

    def respond(
        self, url: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        path = urlsplit(url).path
        matches = ((route, re.fullmatch(pattern, path)) for route, pattern in [*WRITES, *ROUTES])
        route, found = next((pair for pair in matches if pair[1]), ("", None))
        if found is None:
            return refuse("EntryNotFound")
        if route in dict(WRITES):
            return self.written(route, found.groupdict(), body, headers)
        kind = (found["kind"] or "models").strip("/")
        main = self.directory / kind / unquote(found["name"])
        if not main.is_dir():
            return refuse("RepoNotFound")
        root = self.revision(main, unquote(found["rev"] or "main"))
        if root is None:
            return refuse("RevisionNotFound")
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        if route == "file":
            file = files.get(unquote(found["path"]))
            return send(file, commit(root), headers) if file else refuse("EntryNotFound")
        if route == "info":
            return as_json(
                {
                    "_id": commit(main)[:24],
                    "id": unquote(found["name"]),
                    "sha": commit(root),
                    "private": unquote(found["name"]) in self.private,
                    "gated": False,
                    "disabled": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "author": main.parent.name,
                    "siblings": [{"rfilename": name} for name in sorted(files)],
                }
            )
        if route == "paths":
            text = body.decode()
            asked = json.loads(text) if text.startswith("{") else parse_qs(text)
            paths = asked["paths"] if isinstance(asked["paths"], list) else [asked["paths"]]
            return as_json([entry(root, p) for p in paths if (root / p).exists()])
        top = root / unquote(found["path"] or "")
        if not top.is_dir():
            return refuse("EntryNotFound")
        deep = parse_qs(urlsplit(url).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        inside = sorted(top.rglob("*") if deep else top.iterdir())
        return as_json([entry(root, p.relative_to(root).as_posix()) for p in inside])

    def written(
        self, route: str, found: dict[str, str], body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a part of a push.

        A push makes a repository, asks which files are large, uploads these as blobs, which are in
        no repository yet, and commits all files at once.
        """
        if route in self.failing:
            return self.failing[route], {"X-Error-Message": "out of order"}, b"{}"
        if route == "blob":  # its address says enough, as on S3
            if body:
                assert hashlib.sha256(body).hexdigest() == found["oid"]
                self.blobs[found["oid"]] = body
            return as_json({})
        right = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if right != "write":
            return (403 if right else 401), {}, b"{}"
        asked = [json.loads(line) for line in body.splitlines() if line]
        if route == "validate":
            problems = card_problems(asked[0]["content"])
            return (400 if problems else 200), {}, json.dumps({"errors": problems}).encode()
        if route == "create":
            name = f"{asked[0]['organization']}/{asked[0]['name']}"
            root = self.directory / "models" / name
            address = {"url": f"{self.url}/{name}"}
            if root.exists():
                return 409, {}, json.dumps(address).encode()
            root.mkdir(parents=True)
            (root / ".gitattributes").touch()
            hidden = asked[0].get("visibility") == "private" or asked[0].get("private")
            self.private |= {name} if hidden else set()
            return as_json(address)
        main = self.directory / "models" / unquote(found["name"])
        if not main.is_dir():
            return refuse("RepoNotFound")
        if route == "branch":
            root = main.with_name(f"{main.name}@{found['rev']}")
            if root.exists():
                return 409, {}, b"{}"
            shutil.copytree(main, root)
            return as_json({})
        if route == "lfs":
            return as_json({"transfer": "basic", "objects": [*map(self.slot, asked[0]["objects"])]})
        root = self.revision(main, unquote(found["rev"]))
        if root is None:
            return refuse("RevisionNotFound")
        if route == "preupload":
            large = (".safetensors", ".onnx", ".data")
            modes = {True: "lfs", False: "regular"}
            files = [
                {"path": f["path"], "uploadMode": modes[f["path"].endswith(large)]}
                for f in asked[0]["files"]
            ]
            return as_json({"files": [{**file, "shouldIgnore": False} for file in files]})
        added, deleted = [], []
        for line in asked[1:]:
            value = line["value"]
            path = root / value["path"]
            if line["key"] == "deletedFile":
                path.unlink()
                deleted.append(value["path"])
                continue
            large = line["key"] == "lfsFile"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                self.blobs[value["oid"]] if large else base64.b64decode(value["content"])
            )
            added.append(value["path"])
        self.commits.append((sorted(added), sorted(deleted)))
        sha = commit(root)
        address = f"{self.url}/{found['name']}/commit/{sha}"
        return as_json({"commitUrl": address, "commitOid": sha, "pullRequestUrl": None})

    def slot(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Where to upload a blob, unless it is there."""
        if asked["oid"] in self.blobs:
            return asked
        return {**asked, "actions": {"upload": {"href": f"{self.url}/blobs/{asked['oid']}"}}}

    def revision(self, main: Path, name: str) -> Path | None:
        """The directory of a branch or of a commit."""
        others = main.parent.glob(f"{main.name}@*")
        for root in [main, *others]:
            if name == commit(root):
                return root
        if name == "main":
            return main
        root = main.with_name(f"{main.name}@{quote(name, safe='')}")
        return root if root.is_dir() else None


def hub_environment(url: str, home: Path) -> dict[str, str]:
    """The variables of a process whose Hub is at `url` and whose caches are under `home`."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "HUGGINGFACE_")) and not key.lower().endswith("_proxy")
    }
    return {
        **kept,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }


def card_problems(content: str) -> list[dict[str, str]]:
    """What the Hub refuses of a card's metadata: the part of its rules that a stand-in can know."""
    _, block, _ = content.split("---", 2)
    data = yaml.safe_load(block)
    problems = []
    names = [*data.get("datasets", []), *([data["base_model"]] if "base_model" in data else [])]
    problems += [f"{n!r} is no name on the Hub" for n in names if not re.fullmatch(REPO, str(n))]
    for model in data.get("model-index", []):
        for result in model["results"]:
            if not {"type", "name"} <= set(result["dataset"]) or "type" not in result["task"]:
                problems.append("a result without its data")
            values = [metric["value"] for metric in result["metrics"]]
            if not all(isinstance(v, (int, float)) and abs(v) < float("inf") for v in values):
                problems.append("a score that is no number")
    return [{"message": problem} for problem in problems]


def commit(root: Path) -> str:
    """A commit's hash for the directory of a revision."""
    return hashlib.sha1(str(root).encode()).hexdigest()


def entry(root: Path, path: str) -> dict[str, Any]:
    """A file or directory as the Hub describes it."""
    place = root / path
    if place.is_dir():
        return {"type": "directory", "path": path, "oid": commit(place)}
    content = place.read_bytes()
    return {"type": "file", "path": path, "oid": etag(content), "size": len(content)}


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def send(file: Path, sha: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    content = file.read_bytes()
    answer = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    asked = {key.lower(): value for key, value in headers.items()}.get("range", "")
    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", asked):
        start, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        answer["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return 206, answer, content[start : end + 1]
    return 200, answer, content


def as_json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def refuse(code: str) -> tuple[int, dict[str, str], bytes]:
    return 404, {"X-Error-Code": code, "X-Error-Message": code}, b"{}"
