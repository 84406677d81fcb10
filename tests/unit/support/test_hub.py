# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub double's own promises: ranges, faults, the log and the signed addresses. Its faces are held to the real clients
by tests/integration/test_hub_double.py."""
from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.idc.llm.tests.support.hub import Hub, Store, make_model
from ansible_collections.idc.llm.tests.support.hub._reply import pieces, span

ROOT = Path(__file__).resolve().parents[3]
MODEL = "org/name"
SHARD = "model.safetensors"
SIZE = 300_000
DATA = secrets.token_bytes(SIZE)
FILES = {"config.json": b'{"a": 1}\n', SHARD: DATA}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one model."""
    make_model(tmp_path, MODEL, FILES)
    return tmp_path


def ask(url, method="GET", **headers):
    """Status, headers and body (all that came) of one request on a connection of its own; no redirect is followed."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        try:
            body = answer.read()
        except http.client.IncompleteRead as error:
            body = error.partial
        return answer.status, dict(answer.getheaders()), body
    finally:
        connection.close()


def stored(hub):
    """A signed address of the shard."""
    return ask(f"{hub.url}/{MODEL}/resolve/main/{SHARD}")[1]["Location"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-500", (90, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=-500", (0, 99)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
    ],
)
def test_span_reads_range_as_the_rfc_says(header, expected):
    assert span(header, 100) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0)])
def test_span_says_when_nothing_is_there(header, size):
    with pytest.raises(ValueError, match="bytes"):
        span(header, size)


@pytest.mark.parametrize(
    ("first", "stop", "corrupt", "expected"),
    [
        (0, 100, None, [(0, 100)]),
        (0, 100, 0, [0, (1, 100)]),
        (0, 100, 99, [(0, 99), 99]),
        (50, 60, 20, [(50, 60)]),
        (90, 110, None, [(90, 100), bytes(10)]),
        (105, 110, None, [bytes(5)]),
        (0, 90, 95, [(0, 90)]),
    ],
)
def test_pieces_cover_what_is_asked(first, stop, corrupt, expected):
    assert list(pieces(first, stop, 100, corrupt)) == expected


def test_make_model_gives_git_and_lfs_their_own_ids(root, tmp_path):
    commit = Store(root).commit(MODEL, "main")
    config, shard = commit.find("config.json"), commit.find(SHARD)
    git = subprocess.run(["git", "hash-object", "--stdin"], input=FILES["config.json"], capture_output=True, check=True)
    assert (config.oid, config.lfs) == (git.stdout.decode().strip(), False)
    assert (shard.sha256, shard.size, shard.lfs) == (hashlib.sha256(DATA).hexdigest(), SIZE, True)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{shard.sha256}\nsize {SIZE}\n".encode()
    git = subprocess.run(["git", "hash-object", "--stdin"], input=pointer, capture_output=True, check=True)
    assert (shard.oid, shard.pointer_size) == (git.stdout.decode().strip(), len(pointer))


def test_make_model_invents_the_same_bytes_again_and_links_files(root, tmp_path):
    first = make_model(root, "org/a", {"x.bin": 9_000_000, "y.bin": 9_000_000})
    commit = Store(root).commit("org/a", first)
    assert commit.find("x.bin").sha256 != commit.find("y.bin").sha256
    assert commit.find("x.bin").sha256 == hashlib.sha256((commit.folder / "x.bin").read_bytes()).hexdigest()
    make_model(root, "org/b", {"z.bin": commit.folder / "x.bin"})
    linked = Store(root).commit("org/b", "main")
    assert linked.find("z.bin").sha256 == commit.find("x.bin").sha256
    assert (linked.folder / "z.bin").stat().st_ino == (commit.folder / "x.bin").stat().st_ino
    again = make_model(tmp_path / "other", "org/a", {"x.bin": 9_000_000, "y.bin": 9_000_000})
    assert again == first


def test_a_branch_moves_while_the_hub_runs_and_old_commits_stay(root):
    old = Store(root).refs(MODEL)["main"]
    with Hub(root) as hub:
        new = make_model(root, MODEL, {**FILES, "config.json": b"{}"}, ref="next")
        assert ask(f"{hub.url}/{MODEL}/resolve/main/config.json", "HEAD")[1]["X-Repo-Commit"] == old
        hub.fault("config.json", call=lambda: hub.move(MODEL, "main", new))
        assert ask(f"{hub.url}/{MODEL}/resolve/main/config.json", "HEAD")[1]["X-Repo-Commit"] == old
        assert ask(f"{hub.url}/{MODEL}/resolve/main/config.json", "HEAD")[1]["X-Repo-Commit"] == new
        assert ask(f"{hub.url}/api/resolve-cache/models/{MODEL}/{old}/config.json")[2] == FILES["config.json"]


def test_ranges_are_exact_and_bad_ones_refused(root):
    with Hub(root) as hub:
        url = stored(hub)
        assert ask(url)[::2] == (200, DATA)
        status, headers, body = ask(url, Range="bytes=1000-1999")
        assert (status, headers["Content-Range"], body) == (206, f"bytes 1000-1999/{SIZE}", DATA[1000:2000])
        assert ask(url, Range="bytes=-7")[::2] == (206, DATA[-7:])
        status, headers, body = ask(url, Range=f"bytes={SIZE}-")
        assert (status, headers["Content-Range"], body) == (416, f"bytes */{SIZE}", b"")
        assert ask(url, Range="bytes=5-", If_Range='"other"')[::2] == (200, DATA)
        assert ask(url, Range="bytes=5-", If_Range=headers["ETag"])[::2] == (206, DATA[5:])


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        ({"cut": 1000}, 200, DATA[:1000]),
        ({"cut": 0}, 200, b""),
        ({"corrupt": 17}, 200, DATA[:17] + bytes([DATA[17] ^ 0xFF]) + DATA[18:]),
        ({"length": -10}, 200, DATA[:-10]),
        ({"length": 10}, 200, DATA + bytes(10)),
        ({"status": 503}, 503, b"fault"),
        ({"stall": 0.05, "after": 1000}, 200, DATA),
        ({"rate": 3_000_000, "cut": 200_000}, 200, DATA[:200_000]),
    ],
)
def test_a_fault_strikes_once_and_then_all_is_well(root, fault, status, expected):
    with Hub(root) as hub:
        url = stored(hub)
        hub.forget()
        hub.fault(SHARD, **fault)
        assert ask(url)[::2] == (status, expected)
        assert ask(url)[::2] == (200, DATA)
        bad, good = hub.log
        assert (bad.faulty, bad.status, bad.sent, bad.content) == (True, status, len(expected), status == 200)
        assert (good.faulty, good.sent) == (False, SIZE)


def test_faults_of_range_redirect_and_address(root):
    with Hub(root) as hub:
        url = stored(hub)
        hub.fault(SHARD, ignore_range=True)
        assert ask(url, Range="bytes=9-")[::2] == (200, DATA)
        hub.fault(SHARD, corrupt=5, count=None)
        assert ask(url, Range="bytes=9-")[::2] == (206, DATA[9:])
        hub.heal()
        hub.fault("*.safetensors", location="http://nowhere.invalid")
        moved = urlsplit(stored(hub))
        assert (moved.netloc, moved.path) == ("nowhere.invalid", urlsplit(url).path)
        hub.fault("config.json", location="http://nowhere.invalid")
        assert urlsplit(ask(f"{hub.url}/{MODEL}/resolve/main/config.json")[1]["Location"]).netloc == "nowhere.invalid"
        hub.fault("/api/models/*", status=429, retry_after="7", skip=1, count=2)
        seen = [ask(f"{hub.url}/api/models/{MODEL}")[:2] for _number in range(4)]
        assert [status for status, _headers in seen] == [200, 429, 429, 200]
        assert (seen[1][1]["Retry-After"], "Retry-After" in seen[0][1]) == ("7", False)


def test_a_stalled_client_ends_with_the_hub(root):
    with Hub(root) as hub:
        url = stored(hub)
        hub.fault(SHARD, stall=600, after=10)
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        assert answer.read(10) == DATA[:10]
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_the_storage_wants_its_own_address_and_no_token(root):
    token = secrets.token_hex(8)
    with Hub(root, signed_for=2) as hub:
        url = stored(hub)
        assert urlsplit(url).hostname != urlsplit(hub.url).hostname
        status, headers, _body = ask(url, Range="bytes=0-0")
        assert (status, len(headers["ETag"])) == (206, 66) and hashlib.sha256(DATA).hexdigest() not in headers["ETag"]
        assert ask(url, Authorization=f"Bearer {token}")[0] == 400
        assert hub.log[-1].auth
        assert ask(url.replace("Signature=", "Signature=0"))[0] == 403
        time.sleep(2.1)
        assert ask(url)[0] == 403


def test_a_mirror_serves_large_files_itself(root):
    with Hub(root, redirect=False) as hub:
        status, headers, body = ask(f"{hub.url}/{MODEL}/resolve/main/{SHARD}", Range="bytes=-5")
        assert (status, body, headers["X-Linked-Etag"]) == (206, DATA[-5:], f'"{hashlib.sha256(DATA).hexdigest()}"')
        query = f"Revision=master&FilePath={SHARD}"
        assert ask(f"{hub.url}/api/v1/models/{MODEL}/repo?{query}", Range="bytes=-5")[::2] == (206, DATA[-5:])
        assert [(one.face, one.start, one.sent) for one in hub.log] == [("hf", SIZE - 5, 5), ("modelscope", SIZE - 5, 5)]


def test_as_a_program_it_serves_until_ended_and_writes_its_log(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.support.hub", tmp_path / "root", "--make", "org/big=2x1", "--log", log]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_PROXY": "*"}) as hub:
        told = dict(hub.stdout.readline().strip().split("=", 1) for _number in range(3))
        status, headers, _body = ask(f"{told['hub']}/org/big/resolve/main/model-00002-of-00002.safetensors")
        assert (status, headers["X-Repo-Commit"]) == (302, told["commit"])
        assert len(ask(headers["Location"])[2]) == 1 << 20
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(10) == 0
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["face"], row["sent"]) for row in rows if row["content"]] == [("cdn", 1 << 20)]


def test_over_tls_too(root, tmp_path):
    pem = tmp_path / "pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=hub"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2", "-keyout", tmp_path / "key", "-out", tmp_path / "crt"]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "crt").read_bytes())
    with Hub(root, certificate=pem) as hub:
        assert hub.url.startswith("https://") and hub.cdn_url.startswith("https://")
        parts = urlsplit(hub.url)
        context = ssl.create_default_context(cafile=tmp_path / "crt")
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=10, context=context)
        connection.request("GET", f"/{MODEL}/resolve/main/{SHARD}")
        moved = urlsplit(connection.getresponse().getheader("Location"))
        connection.close()
        connection = http.client.HTTPSConnection(moved.hostname, moved.port, timeout=10, context=context)
        connection.request("GET", f"{moved.path}?{moved.query}")
        assert connection.getresponse().read() == DATA
        connection.close()
