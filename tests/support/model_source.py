# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source of model files, as a folder and as an HTTP server that can be told to behave badly."""
from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

FILES = {
    "config.json": b'{"a": 1}',
    "model-00001.safetensors": b"w" * 300_000,
    "sub/tokenizer.json": b"{}",
    "empty": b"",
}
REVISION = "r1"


def write_source(folder, files=None, listed=None):
    """A source: the files, and a manifest of ``listed`` (default: of them)."""
    files = FILES if files is None else files
    rows = []
    for path, data in (listed or files).items():
        rows.append({"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps({"files": rows}))
    return folder


class Handler(SimpleHTTPRequestHandler):
    """A folder over HTTP; the server notes each request and can be told to behave badly."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        self.server.ranges.append((self.path, self.headers.get("Range")))
        redirect = self.server.redirect
        if self.server.busy and not self.path.endswith(("/", ".json")):
            self.server.busy -= 1
            self.send_error(503)
        elif redirect:
            self.send_response(302)
            self.send_header("Location", redirect + self.path)
            self.end_headers()
        elif self.path in self.server.truncated:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"half")
        elif self.path in self.server.stalled:
            self.send_response(200)
            self.send_header("Content-Length", "300000")
            self.end_headers()
            self.wfile.write(b"w" * 1000)
            self.wfile.flush()
            self.server.release.wait(60)
        elif self.headers.get("Range") and self.server.ranged:
            self.part(*re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"]).groups())
        else:
            super().do_GET()

    def part(self, first, last):
        """A range of a file, as RFC 9110 section 14 wants it."""
        data = Path(self.translate_path(self.path))
        size = data.stat().st_size if data.is_file() else 0
        start, end = int(first), min(int(last or size - 1), size - 1)
        if not data.is_file() or start >= size:
            self.send_error(416 if data.is_file() else 404)
            return
        self.send_response(206)
        self.send_header("Content-Range", self.server.content_range or f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        with data.open("rb") as stream:
            stream.seek(start)
            self.copyfile(BytesIO(stream.read(end - start + 1)), self.wfile)

    def list_directory(self, path):
        """As nginx with autoindex_format json: names that are hidden or go meanwhile are left out; forbidden ones are not."""
        rows = []
        for item in sorted(Path(path).iterdir()):
            with suppress(FileNotFoundError):
                more = {"type": "directory"} if item.is_dir() else {"type": "file", "size": item.stat().st_size}
                if not item.name.startswith("."):
                    rows.append({"name": item.name, "mtime": "Sun, 22 Nov 2026 08:00:00 GMT", **more})
        data = json.dumps(rows).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return BytesIO(data)

    def copyfile(self, source, outputfile):
        try:
            super().copyfile(source, outputfile)
        except OSError:
            self.server.cut.add(self.path)  # the client had enough

    def log_message(self, *_args):
        pass


@contextmanager
def serving(folder):
    """A running server of the folder with .url, .seen (path, authorization), .ranges (path, Range) and its faults.

    ``busy``: so many files are refused with 503 first. ``ranged`` False ignores Range and sends all; ``cut`` holds the
    paths whose client hung up before the end.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.seen, server.truncated, server.stalled, server.redirect = [], set(), set(), None
    server.ranges, server.cut, server.ranged, server.content_range = [], set(), True, None
    server.release, server.busy = threading.Event(), 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def published(model):
    """What is published but for the manifest; the model's folder holds nothing besides."""
    assert sorted(p.name for p in model.iterdir()) == [REVISION]
    return {path: data for path, data in contents(model / REVISION).items() if path != "manifest.json"}
