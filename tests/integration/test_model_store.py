# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role model_store on two hosts that are addresses of this machine's loopback, with the real nginx.

What it would install (nginx, a user) is left out; units are run by tests/support/systemctl.
"""
from __future__ import annotations

import copy
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.model_source import write_source

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
ADDRESSES = {"box1": "127.0.0.11", "box2": "127.0.0.12"}
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 1000, "sub/more.txt": b"more", ".gitattributes": b"x"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role makes root's files")  # nginx: script/bootstrap tests


class Origin:
    """An HTTP source of FILES that remembers what it was asked for."""

    def __init__(self, folder):
        self.asked = asked = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, form, *values):
                asked.append(self.path)

        write_source(folder, FILES)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class House:
    """Two hosts in one folder, and the role on them."""

    def __init__(self, folder):
        self.folder = folder
        self.origin = Origin(folder / "media")
        with socket.create_server(("127.0.0.11", 0)) as probe:
            self.port = probe.getsockname()[1]
        row = {"model": "demo/tiny", "revision": "r1", "sources": [self.origin.url], "path": "/store/demo/tiny/r1"}
        hosts = {name: {"address": address, "groups": ["gpu_nodes"], "stale": False} for name, address in ADDRESSES.items()}
        gateway = {"gw1": {"address": "127.0.0.21", "groups": ["gateways"], "stale": False}}
        self.plan = {"stores": {name: [row] for name in hosts}, "hosts": {**hosts, **gateway}, "ports": {"store": self.port}}
        self.more = {"model_store_allowed_networks": ["127.0.0.1"]}  # where the loopback's answers come from
        for name in ADDRESSES:
            (folder / name / "units").mkdir(parents=True)
            self.of(name, row)

    def of(self, host, row):
        """The row as the plan has it for a host of this house: each has a root of its own."""
        path = str(self.root(host) / row["model"] / row["revision"])
        self.plan["stores"][host] = [dict(row, path=path)]

    def root(self, host):
        return self.folder / host / "store"

    def run(self, *options, skip="model_store_install", **variables):
        """(exit status, output, {host: {ok, changed, failed, skipped}})"""
        place = f"{self.folder}/{{{{ inventory_hostname }}}}"
        tasks = [{"hosts": "all", "gather_facts": False, "roles": ["idc.llm.model_store"],
                  "environment": {"UNITS": f"{place}/units"}}]
        (self.folder / "play.yml").write_text(json.dumps(tasks))
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        settings = {"model_store_root": f"{place}/store", "model_store_min_free_bytes": 0, "idc_llm_plan": self.plan,
                    "model_store_metrics_dir": f"{place}/metrics", **self.more, **variables}
        inventory = {"all": {"hosts": dict.fromkeys(ADDRESSES, host), "vars": settings}}
        (self.folder / "hosts.yml").write_text(json.dumps(inventory))
        inner = {"etc": "etc", "run": "run", "lib": "lib", "units": "units"}
        inner = {f"__model_store_{key}": f"{place}/{value}" for key, value in inner.items()}
        done = subprocess.run(
            [PLAYBOOK, "-i", self.folder / "hosts.yml", self.folder / "play.yml", "--skip-tags", skip,
             "-e", json.dumps({**inner, "__model_store_user": "root"}), *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_PIPELINING": "1", "PATH": f"{ROOT}/tests/support:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        recap = {}
        for line in output.split("PLAY RECAP", 1)[-1].splitlines():
            name, _colon, rest = line.partition(" : ")
            if rest.lstrip().startswith("ok="):
                recap[name.strip()] = {k: int(v) for k, v in (p.split("=") for p in rest.split())}
        return done.returncode, output, recap

    def get(self, path, host="box1", method="GET", source="127.0.0.1", context=None):
        """(status, body) of what a host serves, asked from an address."""
        kind = partial(http.client.HTTPSConnection, context=context) if context else http.client.HTTPConnection
        connection = kind(ADDRESSES[host], self.port, timeout=10, source_address=(source, 0))
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def calls(self, host):
        file = self.folder / host / "units/calls"
        return [line for line in file.read_text().splitlines() if line.split()[0] in ("start", "restart", "reload", "enable")]

    def close(self):
        for file in self.folder.glob("*/run/nginx.pid"):
            if file.read_text().strip():
                os.kill(int(file.read_text()), signal.SIGTERM)
        self.origin.server.shutdown()
        self.origin.server.server_close()

    def sources(self, host):
        """{path: source} of the published model."""
        manifest = json.loads((self.root(host) / "demo/tiny/r1/manifest.json").read_text())
        return {entry["path"]: entry["source"] for entry in manifest["files"]}


@pytest.fixture
def house(tmp_path):
    """Bare hosts."""
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def stood(tmp_path_factory):
    """The role has run on both hosts, one after the other; ``first`` has what it said, and before, in check mode."""
    made = House(tmp_path_factory.mktemp("stood"))
    made.first = [made.run("--check", "--diff")]
    assert not made.root("box1").exists()
    for name in ADDRESSES:
        made.first.append(made.run("--limit", name, "-vvv", model_store_token="hub-secret-1"))
    yield made
    made.close()


def changed(recap):
    return [row["changed"] for row in recap.values()]


def test_a_fleet_brings_the_model_once_and_shares_it(stood):
    (rc, output, recap), *runs = stood.first
    assert rc == 0 and min(changed(recap)) > 3 and "model.safetensors" in output, output
    for rc, output, _recap in runs:
        assert rc == 0 and "hub-secret-1" not in output, output
    assert (stood.root("box1") / "demo/tiny/r1/model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert {"enable idc-llm-store.service", "enable idc-llm-store-verify.timer"} <= set(stood.calls("box1"))
    assert stood.origin.asked.count("/model.safetensors") == 1, "the second host asked the origin for what the first has"
    # nginx lists no hidden files, so that those come from the origin
    shared = {path for path, source in stood.sources("box2").items() if source == f"http://127.0.0.11:{stood.port}"}
    assert shared == {path for path in FILES if not path.startswith(".")}


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_second_run_changes_nothing(stood, options):
    rc, output, recap = stood.run(*options)
    assert (rc, changed(recap)) == (0, [0, 0]), output


def test_the_server_gives_model_files_to_members_and_nothing_else(stood):
    house = stood
    model = house.root("box1") / "demo/tiny"
    partial_folder = model / ".partial-r2"
    partial_folder.mkdir()
    for name in ("done.safetensors", "half.safetensors.part", "half.safetensors.part.json", "progress.json", "x.12.tmp"):
        (partial_folder / name).write_bytes(b"bytes")
    (model / ".lock-r2").write_text("{}")
    (house.root("box1") / ".verify.json").write_text("{}")
    (model / "r1/link").symlink_to("/etc/hostname")
    (model / "r1/index.html").write_text("not a page")

    assert house.get("/demo/tiny/r1/model.safetensors") == (200, FILES["model.safetensors"])
    assert house.get("/demo/tiny/r1/.gitattributes") == (200, b"x")
    listing = json.loads(house.get("/demo/tiny/r1/")[1])
    assert {"name": "model.safetensors", "type": "file", "size": 1000}.items() <= {
        row["name"]: row for row in listing}["model.safetensors"].items()
    assert {row["name"] for row in json.loads(house.get("/demo/tiny/r1/sub/")[1])} == {"more.txt"}
    assert house.get("/demo/tiny/.partial-r2/done.safetensors")[0] == 200
    assert house.get("/demo/tiny/.partial-r2/")[0] == 200
    assert house.get("/demo/tiny/.partial-r2/half.safetensors.part")[0] == 200  # peers follow it while it grows
    for name in ("half.safetensors.part.json", "progress.json", "x.12.tmp"):
        assert house.get(f"/demo/tiny/.partial-r2/{name}")[0] == 404, name
    hidden = ("/", "/demo/", "/demo/tiny/", "/demo/tiny/.lock-r2", "/.verify.json", "/demo/tiny/r3/", "/demo/tiny/r1/../.lock-r2")
    for path in hidden:
        assert house.get(path)[0] == 404, path
    assert house.get("/demo/tiny/r1/link")[0] == 403
    for method in ("PUT", "POST", "DELETE", "OPTIONS"):
        assert house.get("/demo/tiny/r1/config.json", method=method)[0] == 403, method
    assert house.get("/demo/tiny/r1/config.json", method="HEAD") == (200, b"")
    for address, status in (("127.0.0.12", 200), ("127.0.0.11", 200), ("127.0.0.21", 403), ("127.0.0.99", 403)):
        assert house.get("/demo/tiny/r1/config.json", source=address)[0] == status, address
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", house.port), timeout=5):
        pass


def test_the_server_gives_four_files_at_once_and_a_listing_always(stood):
    house = stood
    folder = house.root("box1") / "demo/tiny/.partial-big"
    folder.mkdir()
    with (folder / "big.safetensors").open("wb") as out:
        out.truncate(1 << 30)
    lines = [http.client.HTTPConnection(ADDRESSES["box1"], house.port, timeout=10) for _number in range(4)]
    try:
        for line in lines:
            line.request("GET", "/demo/tiny/.partial-big/big.safetensors")
            assert line.getresponse().read(1) == b"\0"
        assert house.get("/demo/tiny/r1/config.json")[0] == 503
        assert house.get("/demo/tiny/r1/")[0] == 200
    finally:
        for line in lines:
            line.close()
        shutil.rmtree(folder)


def test_a_changed_fleet_is_a_reload_and_a_broken_configuration_never_lives(stood):
    house = stood
    before = (house.folder / "box1/etc/nginx.conf").read_text()
    pid = (house.folder / "box1/run/nginx.pid").read_text()
    rc, output, recap = house.run("--limit", "box1", model_store_allowed_networks=["127.0.0.1", "not-an-address"])
    assert rc != 0 and "IDC-ENG-027" in output and "not-an-address" in output and changed(recap) == [0], output
    rc, output, _recap = house.run("--limit", "box1", model_store_server_workers=-1)  # nginx's own checker says so
    assert rc != 0 and "worker_processes" in output, output
    assert (house.folder / "box1/etc/nginx.conf").read_text() == before
    assert house.get("/demo/tiny/r1/config.json")[0] == 200
    house.plan = copy.deepcopy(house.plan)
    house.plan["hosts"]["box3"] = {"address": "127.0.0.13", "groups": ["gpu_nodes"], "stale": False}
    rc, output, recap = house.run("--limit", "box1")
    assert (rc, changed(recap)) == (0, [2]), output  # the file and the reload
    assert house.calls("box1")[-1] == "reload idc-llm-store.service"
    assert (house.folder / "box1/run/nginx.pid").read_text() == pid
    assert house.get("/demo/tiny/r1/config.json", source="127.0.0.13")[0] == 200


def test_over_tls_the_key_is_copied_for_the_server_alone(house):
    key, certificate = house.folder / "host.key", house.folder / "host.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=box", "-addext", "subjectAltName=IP:127.0.0.11,IP:127.0.0.12", "-keyout", key,
                    "-out", certificate], check=True, capture_output=True)
    house.more.update(model_store_tls_certificate=str(certificate), model_store_ca_path=str(certificate))
    rc, output, recap = house.run()
    assert rc != 0 and "IDC-FETCH-030" in output and changed(recap) == [0, 0], output
    house.more["model_store_tls_key"] = str(key)
    rc, output, _recap = house.run("--limit", "box1", "--diff")
    assert rc == 0 and "PRIVATE KEY" not in output, output
    assert (house.folder / "box1/etc/tls.key").stat().st_mode & 0o777 == 0o640
    context = ssl.create_default_context(cafile=str(certificate))
    assert house.get("/demo/tiny/r1/config.json", context=context) == (200, b"{}")
    rc, output, _recap = house.run("--limit", "box2")
    assert rc == 0, output
    assert house.sources("box2")["model.safetensors"] == f"https://127.0.0.11:{house.port}"


def test_old_revisions_go_only_where_that_is_allowed(stood):
    house = stood
    store = house.root("box1") / "demo/tiny"
    for age, revision in enumerate(("r0", "q9", "q8"), start=1):
        write_source(store / revision, FILES)
        os.utime(store / revision / "manifest.json", (1e9 - age, 1e9 - age))
    write_source(store / ".partial-q7", FILES)
    shutil.rmtree(store / ".partial-r2", ignore_errors=True)  # another test's
    (store / ".lock-r2").unlink(missing_ok=True)
    (house.root("box1") / "demo/mine").mkdir()
    (house.root("box1") / "demo/mine/notes.txt").write_text("precious")

    tags = ("--limit", "box1", "--tags", "model_store_prune")
    rc, output, recap = house.run(*tags)
    assert (rc, changed(recap)) == (0, [0]), output
    assert all(f"{store}/{name}" in output for name in (".partial-q7", "q8", "q9")) and f"{store}/r" not in output
    assert len(list(store.iterdir())) == 5, list(store.iterdir())
    rc, output, recap = house.run(*tags, "--check", model_store_allow_prune=True)
    assert rc == 0 and len(list(store.iterdir())) == 5, output
    rc, output, recap = house.run(*tags, model_store_allow_prune=True)
    assert (rc, changed(recap)) == (0, [1]), output
    assert {p.name for p in store.iterdir()} == {"r1", "r0"}
    assert (house.root("box1") / "demo/mine/notes.txt").read_text() == "precious"
    assert changed(house.run(*tags, model_store_allow_prune=True)[2]) == [0]


def test_a_host_without_a_row_is_left_as_it_is(house):
    house.plan["stores"] = {}
    rc, output, recap = house.run(skip="none")
    assert (rc, changed(recap)) == (0, [0, 0]), output
    assert not house.root("box1").exists() and not (house.folder / "box1/etc").exists()


def test_a_plan_with_another_root_is_refused(house):
    for rows in house.plan["stores"].values():
        rows[0]["path"] = "/elsewhere/demo/tiny/r1"
    rc, output, recap = house.run()
    assert rc != 0 and changed(recap) == [0, 0]
    assert "IDC-FETCH-010" in output


def test_the_daily_reading_as_its_unit_says_it(stood):
    place = stood.folder / "box2"
    line = next(x for x in (place / "units/idc-llm-store-verify.service").read_text().splitlines() if x.startswith("ExecStart="))
    command = [word.replace("--days=7", "--days=1") for word in line.partition("=")[2].split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "idc_llm_store_files_verified 4\n" in (place / "metrics/idc_llm_store_verify.prom").read_text()
    (stood.root("box2") / "demo/tiny/r1/model.safetensors").write_bytes(b"W" * 1000)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "demo/tiny/r1/model.safetensors" in done.stderr
    assert "idc_llm_store_files_wrong 1\n" in (place / "metrics/idc_llm_store_verify.prom").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units(stood):
    units = stood.folder / "box1/units"
    names = ["idc-llm-store.service", "idc-llm-store-verify.service", "idc-llm-store-verify.timer"]
    done = subprocess.run(["systemd-analyze", "verify", *(units / name for name in names)], capture_output=True, text=True,
                          check=False)
    about = [line for line in done.stderr.splitlines() if "idc-llm-store" in line]
    assert about == []
