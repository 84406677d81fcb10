"""Faults that the fleet is given, and how soon somebody hears of them: fired by Prometheus, come to a webhook, gone when mended.

All at once, so that it takes minutes and not half an hour; each on its own host or engine. Times are a tenth of a site's here (the
inventory's ``monitoring_times_factor``); that the real ones are what they should be, promtool proves on the rules themselves.
"""
from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
import time
import urllib.request

import pytest

from tests.house.test_under_load import core
from tests.support import alarm_receiver
from tests.support.fleet import FLEET
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(FLEET != "default", reason="only the fleet of molecule default has short times and a receiver")
SITE = "/etc/prometheus/idc_llm/site/house.json"
BALLAST = "/srv/ballast"
TO_FIRE, TO_END = 150, 300  # seconds; two engines load meanwhile on the same cores


class Watch:
    """Prometheus of the fleet, asked from this machine, and the receiver of its alarms."""

    def __init__(self, fleet, receiver) -> None:
        row = next(row for row in fleet.plan["scrape"] if row["job"] == "prometheus")
        self.base, self.receiver = f"http://{row['address']}:{row['port']}/api/v1", receiver
        self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def firing(self, name, labels):
        """Whether this alarm fires with these labels."""
        with self.open(f"{self.base}/alerts", timeout=20) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return any(one["state"] == "firing" and one["labels"]["alertname"] == name
                   and all(one["labels"].get(key) == value for key, value in labels.items()) for one in alerts)

    def shares(self):
        """The least share of requests that a gateway gives an engine, 1 for its whole one."""
        with self.open(f"{self.base}/query?query=min(idc_llm_gateway_engine_share)", timeout=20) as answer:
            return float(json.load(answer)["data"]["result"][0]["value"][1])

    def told(self, name, labels, status, since):
        """When the receiver was told of it, seconds since the epoch; None while it was not."""
        with self.receiver.lock:
            found = alarm_receiver.alerts(self.receiver.came, name, status, **labels)
        return next((one["came"] for one in found if one["came"] >= since), None)


@pytest.fixture(scope="module")
def network(fleet):
    """This machine's address on the fleet's network."""
    return fleet.plan["hosts"]["gw1"]["address"].rpartition(".")[0] + ".1"


@pytest.fixture(scope="module")
def watch(fleet, network):
    """Prometheus and the receiver, while this module runs."""
    server = alarm_receiver.make(network, 9199)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Watch(fleet, server)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def short_lived(network, tmp_path_factory):
    """A server on this machine whose certificate has five days left; its address."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "5",
                    "-subj", "/CN=short", "-keyout", folder / "key", "-out", folder / "pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem", folder / "key")
    server = http.server.ThreadingHTTPServer((network, 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_words: None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://{network}:{server.server_port}/"
    server.shutdown()
    server.server_close()


class Callers:
    """Users who ask again and again, whatever becomes of it."""

    def __init__(self, fleet, count=4) -> None:
        self.fleet, self.over, self.statuses = fleet, threading.Event(), []
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _one in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self.over.set()
        for thread in self.threads:
            thread.join(60)

    def _ask(self):
        while not self.over.is_set():
            try:
                self.statuses.append(self.fleet.call("/v1/chat/completions", "", {
                    "model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}, timeout=20).status)
            except OSError:
                self.statuses.append(0)
            self.over.wait(0.2)


def test_nothing_fires_on_a_fleet_that_is_well(fleet, watch):
    """But what always fires; and the receiver hears of nothing."""
    assert fleet.chat().status == 200

    def loud():
        with watch.open(f"{watch.base}/alerts", timeout=20) as answer:
            return [one["labels"] for one in json.load(answer)["data"]["alerts"]
                    if one["state"] == "firing" and one["labels"].get("severity") != "info"]
    assert wait_for(lambda: not loud(), 120, 2), loud()
    assert wait_for(lambda: watch.firing("Watchdog", {}), 30, 1)


def test_each_fault_is_told_and_ends(fleet, on, watch, short_lived):
    killed, hung = fleet.plan["engines"][:2]
    one, other, monitor = on(killed["host"]), on(hung["host"]), on("gw1")
    blackbox = next(row for row in fleet.plan["scrape"] if row["job"] == "blackbox")
    faults = {
        "engine killed": ("EngineDown", {"engine": killed["name"], "host": killed["host"]}),
        "engine hung": ("EngineNoTokens", {"engine": hung["name"], "host": hung["host"]}),
        "node exporter stopped": ("TargetDown", {"job": "node", "host": killed["host"]}),
        "certificate short": ("CertificateExpires", {"instance": short_lived}),
        "disk filled": ("HostDiskFull", {"host": hung["host"], "mountpoint": BALLAST}),
        "success rate down": ("SuccessRateLow", {"deployment": killed["deployment"]}),
    }
    site = [{"targets": [f"{blackbox['address']}:{blackbox['port']}"], "labels": {
        "job": "blackbox", "host": "gw1", "instance": short_lived, "__metrics_path__": "/probe", "__param_module": "idc_llm_expiry",
        "__param_target": short_lived}}]
    fired, told, ended = {}, {}, {}
    began = time.time()
    with Callers(fleet) as callers:
        time.sleep(4)  # so that the engine that hangs has something to do
        try:
            began = time.time()
            other.check_output("kill -STOP %s", core(other, hung["name"]))
            one.check_output("kill -KILL %s", one.check_output("systemctl show -p MainPID --value idc-vllm@%s", killed["name"]))
            one.check_output("systemctl stop prometheus-node-exporter")
            other.check_output("mkdir -p %s && mount -t tmpfs -o size=1m tmpfs %s", BALLAST, BALLAST)
            other.check_output("dd if=/dev/zero of=%s/ballast bs=64k 2>/dev/null; true", BALLAST)
            monitor.check_output("echo %s > %s", json.dumps(site), SITE)

            def look():
                if "success rate down" not in told:  # it dies as often as it starts: beside the hung one, nobody answers
                    one.run("systemctl kill --signal=KILL idc-vllm@%s", killed["name"])
                for fault, (name, labels) in faults.items():
                    if fault not in fired and watch.firing(name, labels):
                        fired[fault] = time.time() - began
                    if fault not in told and watch.told(name, labels, "firing", began):
                        told[fault] = watch.told(name, labels, "firing", began) - began
                return len(told) == len(fired) == len(faults)
            wait_for(look, TO_FIRE, 0.5)
        finally:
            mended = time.time()
            one.check_output("systemctl start prometheus-node-exporter")
            other.check_output("umount %s", BALLAST)
            monitor.check_output("rm -f %s", SITE)

        def all_ended():
            for fault, (name, labels) in faults.items():
                if fault in told and fault not in ended and not watch.firing(name, labels):
                    came = watch.told(name, labels, "resolved", began)
                    if came:
                        ended[fault] = time.time() - mended
            return len(ended) == len(told)
        wait_for(all_ended, TO_END, 1)
    print(f"\n{'fault':<24}{'alarm':<22}{'fires s':>9}{'told s':>9}{'ended s':>9}")
    for fault, (name, _labels) in faults.items():
        row = "".join(f"{times.get(fault, float('nan')):>9.1f}" for times in (fired, told, ended))
        print(f"{fault:<24}{name:<22}{row}")
    print(f"callers: {len(callers.statuses)} requests, {sum(status == 200 for status in callers.statuses)} answered")
    assert set(fired) == set(told) == set(faults), {"not fired": set(faults) - set(fired), "not told": set(faults) - set(told)}
    assert set(ended) == set(faults), {"still fires": set(faults) - set(ended)}
    assert wait_for(lambda: fleet.chat().status == 200 and watch.shares() == 1, 180, 3), watch.shares()
