"""A local stand-in of the Hugging Face hub: a real HTTP server over folders `<owner>/<name>`, data sets and models."""

import base64
import functools
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"one").hexdigest()


class HubServer(http.server.ThreadingHTTPServer):
    """The part of the hub's HTTP interface that huggingface_hub uses to download; folder/<owner>/<name>. With a token
    it takes uploads from who knows it: small files in the commit, large ones (LFS) before."""

    token = None

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.folder, self.requests, self.broken = folder, [], False
        self.sent = []  # (file, first byte, bytes) of the contents that were asked for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.upload()

    def do_PUT(self):
        self.upload()

    def upload(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        parts = path.strip("/").split("/")
        stored = self.server.folder / ".lfs"
        if self.server.broken:
            self.reply(503, b"{}")
        elif parts[0] == "store":  # where the answer about LFS files points; needs no token, as on the hub
            stored.mkdir(exist_ok=True)
            (stored / parts[1]).write_bytes(body)
            self.reply(200, b"")
        elif self.server.token is None or self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.reply(401, b'{"error": "Invalid username or password."}')
        elif parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            (self.server.folder / name).mkdir(parents=True, exist_ok=True)
            self.reply(200, json.dumps({"url": f"{self.server.url}/{name}", "name": name}).encode())
        elif parts[:2] == ["api", "validate-yaml"]:  # of a card
            assert json.loads(body)["content"].startswith("---")
            self.reply(200, b'{"errors": [], "warnings": []}')
        elif "preupload" in parts:
            files = [{"path": f["path"], "shouldIgnore": False, "oid": None,
                      "uploadMode": "lfs" if f["path"].endswith((".safetensors", ".onnx")) else "regular"}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self.reply(200, json.dumps({"files": files}).encode())
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [{"oid": o["oid"], "size": o["size"],
                        "actions": {"upload": {"href": f"{self.server.url}/store/{o['oid']}"}}}
                       for o in json.loads(body)["objects"]]  # fmt: skip
            self.reply(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
        elif "commit" in parts:
            root = self.server.folder / parts[2] / parts[3]
            for line in map(json.loads, body.splitlines()):
                self.commit(root, line["key"], line["value"], stored)
            url = f"{self.server.url}/{parts[2]}/{parts[3]}/commit/{COMMIT}"
            self.reply(200, json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode())
        else:
            self.reply(404, b"{}")

    @staticmethod
    def commit(root, key, value, stored):
        if key == "header":
            return
        file = root / value["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        content = base64.b64decode(value["content"]) if key == "file" else (stored / value["oid"]).read_bytes()
        if key == "lfsFile":
            assert hashlib.sha256(content).hexdigest() == value["oid"]
        file.write_bytes(content)

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        parts = path.strip("/").split("/")
        if self.server.broken:
            self.reply(503, b"{}")
        elif parts[0] == "api" and len(parts) > 3 and (self.server.folder / parts[2] / parts[3]).is_dir():
            root = self.server.folder / parts[2] / parts[3]
            files = sorted(p for p in root.rglob("*") if p.is_file())
            if "tree" in parts:
                tree = [
                    {"type": "file", "path": str(p.relative_to(root)), "size": p.stat().st_size, "oid": self.etag(p)}
                    for p in files
                ]
                self.reply(200, json.dumps(tree).encode())
            else:
                siblings = [{"rfilename": str(p.relative_to(root))} for p in files]
                about = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings, "private": False}
                self.reply(200, json.dumps(about | {"gated": False, "disabled": False, "tags": []}).encode())
        elif "resolve" in parts:  # datasets/<owner>/<name>/resolve/<revision>/<file>; models without the first
            owner, name, _, _, *file_parts = parts[1:] if parts[0] == "datasets" else parts
            file = self.server.folder / owner / name / Path(*file_parts)
            headers = {"ETag": f'"{self.etag(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self.send_content(file, headers)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_content(self, file, headers):
        """The whole file, or the range that the request names."""
        whole = file.stat().st_size
        start, stop, status = 0, whole, 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, last = asked.removeprefix("bytes=").split("-")
            start, stop, status = int(first), min(int(last) + 1, whole), 206
            headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{whole}"}
        with open(file, "rb") as opened:
            opened.seek(start)
            content = opened.read(stop - start)
        if self.command == "GET":
            self.server.sent.append((file.relative_to(self.server.folder).as_posix(), start, len(content)))
        self.reply(status, content, headers)

    @staticmethod
    def etag(path: Path) -> str:
        return etag_of(path, path.stat().st_mtime_ns)

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@functools.lru_cache
def etag_of(path: Path, written: int) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serve(folder: Path):
    """The server, running; `url` is what HF_ENDPOINT must be."""
    server = HubServer(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
