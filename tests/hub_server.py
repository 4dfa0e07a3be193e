"""A hub on this machine that answers as the Hugging Face hub does: addresses, headers, refusals. For tests only."""

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MEMBER = "hf_let_in"  # a token whose account was let into every gated repository
STRANGER = "hf_not_let_in"
PLACE = re.compile(
    r"^/(?P<api>api/)?(?:models/)?(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree|resolve)/(?P<rest>.+))?$"
)


@dataclass
class Repository:
    """What the hub holds under one name."""

    folder: Path
    commit: str
    gated: bool = False

    def files(self) -> dict[str, Path]:
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}


@dataclass
class Hub:
    """The repositories, by "owner/name", and how the hub behaves."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    status: int | None = None
    """Answer everything with this status."""
    pause: float = 0.0
    """Seconds before the second half of every file."""
    log: list[str] = field(default_factory=list)
    """Method and path of every request."""

    def add(self, name: str, folder: Path, *, commit: str = "", gated: bool = False) -> None:
        commit = commit or hashlib.sha1(name.encode()).hexdigest()
        self.repositories[name] = Repository(folder, commit, gated)


def serve(hub: Hub) -> ThreadingHTTPServer:
    """A running server of the hub on a free port; end it with `shutdown()`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def log_message(self, *_):
        pass

    def answer(self):
        self.hub.log.append(f"{self.command} {self.path}")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.status is not None:
            return self.refuse(self.hub.status)
        if token not in ("", MEMBER, STRANGER):
            return self.refuse(401, message="Invalid credentials in Authorization header")
        place = PLACE.match(self.path.split("?")[0])
        repository = self.hub.repositories.get(place["name"]) if place else None
        if repository is None:
            return self.refuse(404 if token else 401, "RepoNotFound")
        revision, _, file = (place["rest"] or "main").partition("/")
        if revision not in ("main", repository.commit):
            return self.refuse(404, "RevisionNotFound")
        if place["api"]:
            return self.describe(place, repository)
        if repository.gated and token != MEMBER:
            return self.refuse(403 if token else 401, "GatedRepo")
        return self.send(repository, file)

    def refuse(self, status: int, code: str = "", message: str = ""):
        headers = {"X-Error-Code": code} if code else {}
        self.reply(status, b"", headers | ({"X-Error-Message": message} if message else {}))

    def describe(self, place: re.Match, repository: Repository):
        files = repository.files()
        if place["what"] == "tree":
            listing = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                for name, path in files.items()
            ]
            return self.reply(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
        about = {
            "_id": "0",
            "id": place["name"],
            "sha": repository.commit,
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "gated": "manual" if repository.gated else False,
            "siblings": [{"rfilename": name, "size": path.stat().st_size} for name, path in files.items()],
        }
        return self.reply(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def send(self, repository: Repository, name: str):
        path = repository.files().get(name)
        if path is None:
            return self.refuse(404, "EntryNotFound")
        content, headers = (
            path.read_bytes(),
            {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"},
        )
        status, asked = 200, re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
            status, content = 206, content[start : end + 1]
        return self.reply(status, content, headers)

    def reply(self, status: int, content: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        try:
            self.wfile.write(content[:half])
            if self.hub.pause and half:
                self.wfile.flush()
                time.sleep(self.hub.pause)
            self.wfile.write(content[half:])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
