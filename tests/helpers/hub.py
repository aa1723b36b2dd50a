"""A stand-in for the Hugging Face Hub on loopback, which serves a directory.

    models/acme/tiny-bert/config.json               main
    models/acme/tiny-bert@refs%2Fpr%2F1/...         another revision
    datasets/acme/reviews/data/train-....parquet

datasets also looks for the host `datasets-server.127.0.0.1`, finds none and goes on.
huggingface_hub reads HF_ENDPOINT when it is imported, so use it from a process of its own:

    with Hub(directory) as hub:
        subprocess.run([sys.executable, ...], env=hub.environment(tmp_path / "cache"))
"""

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

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


class Hub:
    """Serves `directory` until the context ends.

    Attributes:
        url: the endpoint.
        requests: what was asked so far, as "GET /api/models/...".
    """

    def __init__(self, directory: Path) -> None:
        hub = self
        self.directory = directory
        self.requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, content = hub.respond(self.path, body, dict(self.headers.items()))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = answer

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
        matches = ((route, re.fullmatch(pattern, path)) for route, pattern in ROUTES)
        route, found = next((pair for pair in matches if pair[1]), ("", None))
        if found is None:
            return refuse("EntryNotFound")
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
                    "private": False,
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
