"""A local stand-in of the Hugging Face hub: a real HTTP server over folders `<owner>/<name>`, data sets and models."""

import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"one").hexdigest()


class HubServer(http.server.ThreadingHTTPServer):
    """The part of the hub's HTTP interface that huggingface_hub uses to download; folder/<owner>/<name>."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.folder, self.requests, self.broken = folder, [], False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

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
        elif parts[0] == "api" and (self.server.folder / parts[2] / parts[3]).is_dir():
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
            self.reply(200, file.read_bytes(), headers)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def etag(path: Path) -> str:
        return hashlib.sha1(path.read_bytes()).hexdigest()

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


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
