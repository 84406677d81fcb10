# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watching of one host that is all: real exporters, Prometheus and Alertmanager under systemd; NVML's double for its GPUs.

In order: nothing there, converged, converged again; what is asked answers; an alarm arrives and goes; then TLS, on the same host.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._fleet import Host
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan

from tests.support.alarm_receiver import alerts
from tests.support.box import SYSTEMD, Box, docker, image
from tests.support.nvml import Machine
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
NETWORK, ADDRESS, OTHER = "watch-test", "172.30.96.11", "172.30.96.12"
IMAGE = image()
RECEIVER = f"http://{ADDRESS}:9199"
PORTS = {"gateway": 8443}
PASSWORD = secrets.token_hex(16)

pytestmark = pytest.mark.skipif(not IMAGE, reason="no image of the fleet here: script/bootstrap fleet")


def plan() -> dict:
    """One host in all groups, watched wholly; its deployment has no replica, so that no engine is missed."""
    host = Host("box", ("gpu_nodes", "gateways", "monitors"), ADDRESS, cards=2, gpu_watched=True, rack="r1")
    one = parse_deployment(
        {"name": "r1", "model": "org/r1", "revision": "a", "device": "cpu", "replicas": 0, "slo": {"ttft_p99_ms": 200}}, 1
    )
    made = make_plan([one], [host], Wishes("1", "/var/lib/idc_llm/store", {**Wishes("1", "/").ports, **PORTS}, True))
    return json.loads(json.dumps(made))


SECRETS = {
    "robot": {"url": f"{RECEIVER}/dingtalk?access_token={secrets.token_hex(16)}", "secret": "s3cret"},
    "hook": {"password": secrets.token_hex(16), "user": "alerts"},
}
RECEIVERS = [
    {"name": "hook", "kind": "webhook", "url": f"{RECEIVER}/hook", "severities": ["page", "warning", "info"]},
    {"name": "robot", "kind": "dingtalk", "lang": "zh"},
    {"name": "outside", "kind": "webhook", "url": f"{RECEIVER}/heartbeat", "watchdog": True},
]


class Watched:
    """The box, and the plays on it."""

    def __init__(self, box: Box, folder: Path, wheels: Path, nvml: dict[str, str]) -> None:
        self.box, self.folder = box, folder
        self.variables = {
            "idc_llm_plan": plan(),
            "exporters_gpu": "nvitop",
            "exporters_wheels_src": str(wheels),
            "exporters_gpu_environment": nvml,
            "exporters_gateway_ca": str(folder / "ca.pem"),
            "exporters_gateway_domain": "llm.test",
            "exporters_ca_dir": str(folder / "ca"),
            "exporters_textfile_interval_s": 2,
            "monitoring_scrape_interval_s": 1,
            "monitoring_times_factor": 0.05,
            "monitoring_alert_wait_s": 1,
            "monitoring_alert_interval_s": 2,
            "monitoring_alert_receivers": RECEIVERS,
            "monitoring_alert_secrets": SECRETS,
            "monitoring_costs": {"currency": "CNY", "power_kw": 10, "power_per_kwh": 0.8, "staff_per_month": 7300},
        }

    def both(self, *options: str, **variables):
        """exporters, then monitoring: (runs, sum of changed)."""
        runs = [
            self.box.play(self.folder, {"name": f"idc.llm.{role}"}, *options, **{**self.variables, **variables})
            for role in ("exporters", "monitoring")
        ]
        for run in runs:
            assert run.rc == 0, run.output[-6000:]
        return runs, sum(run.recap["changed"] for run in runs)

    def api(self, path: str):
        """Prometheus' answer."""
        return json.loads(self.box.sh(f"curl -sf 'http://{ADDRESS}:9090/api/v1/{path}'"))["data"]

    def ask(self, query: str) -> list[dict]:
        """The series of a query."""
        done = docker(
            "exec", self.box.name, "curl", "-sf", "--data-urlencode", f"query={query}", f"http://{ADDRESS}:9090/api/v1/query"
        )
        return json.loads(done.stdout)["data"]["result"]

    def firing(self) -> set[str]:
        """Names of the alarms that fire."""
        return {alert["labels"]["alertname"] for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"}

    def came(self) -> list[dict]:
        """What the receiver got."""
        return json.loads(self.box.sh(f"curl -sf {RECEIVER}/"))


FRONT = """import http.server, ssl, threading
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.headers['Host'] == 'llm.test' else 404); self.send_header('Content-Length', '2')
        self.end_headers(); self.wfile.write(b'ok')
server = http.server.ThreadingHTTPServer(('0.0.0.0', 8443), Health)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain('/root/front.pem', '/root/front.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
class Status(http.server.BaseHTTPRequestHandler):
    pages = {'/stub_status': 'Active connections: 1 \\nserver accepts handled requests\\n 5 5 7 \\n'
             'Reading: 0 Writing: 1 Waiting: 0 \\n',
             '/tokens': 'idc_llm_tokens_total{tenant="one",deployment="r1",kind="prompt"} 42\\n'}
    def do_GET(self):
        body = self.pages[self.path].encode()
        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
threading.Thread(target=http.server.ThreadingHTTPServer(('127.0.0.1', 9113), Status).serve_forever).start()
server.serve_forever()
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """The wheels of the role's pins."""
    folder = tmp_path_factory.mktemp("wheels")
    pins = ROOT / "roles/exporters/files/nvitop-requirements.txt"
    subprocess.run(
        [
            ROOT / ".venv/bin/pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "3.11",
            "-r",
            pins,
            "-d",
            folder,
        ],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def watched(tmp_path_factory, wheels):
    """The box with a receiver of alarms and a front door whose certificate has five days left, and another host beside it."""
    folder = tmp_path_factory.mktemp("watching")
    names = [f"{NETWORK}-box", f"{NETWORK}-other"]

    def clear():
        for name in names:
            docker("rm", "-f", name, check=False)
        docker("network", "rm", NETWORK, check=False)

    clear()
    docker("network", "create", "--subnet", "172.30.96.0/24", NETWORK)
    try:
        docker("run", "-d", "--name", names[0], "--network", NETWORK, "--ip", ADDRESS, *SYSTEMD, "--cap-add=NET_ADMIN", IMAGE)
        docker("run", "-d", "--name", names[1], "--network", NETWORK, "--ip", OTHER, IMAGE, "sleep", "infinity")
        box = Box(names[0], patience_s=1200)
        box.sh("for n in $(seq 600); do systemctl is-system-running | grep -qE 'running|degraded' && exit; sleep 0.2; done; exit 1")
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "5",
                "-subj",
                "/CN=llm.test",
                "-addext",
                "subjectAltName=DNS:llm.test",
                "-keyout",
                folder / "front.key",
                "-out",
                folder / "ca.pem",
            ],
            check=True,
            capture_output=True,
        )
        (folder / "front.py").write_text(FRONT)
        for source, target in (
            (folder / "ca.pem", "front.pem"),
            (folder / "front.key", "front.key"),
            (folder / "front.py", "front.py"),
            (ROOT / "tests/support/alarm_receiver.py", "receiver.py"),
        ):
            box.put(source, f"/root/{target}")
        box.sh(
            "systemd-run --unit=front python3 /root/front.py; "
            f"systemd-run --unit=receiver python3 /root/receiver.py {ADDRESS} 9199 /root/told.jsonl"
        )
        installed = Machine.load("hgx-h100-8").install(folder / "nvml")
        library, table = Path(installed.environment["LD_LIBRARY_PATH"]), Path(installed.environment["IDC_NVML_MACHINE"])
        box.sh("mkdir -p /opt/nvml")
        box.put(library, "/opt/nvml")
        box.put(table, "/opt/nvml/machine")
        yield Watched(box, folder, wheels, {"LD_LIBRARY_PATH": "/opt/nvml", "IDC_NVML_MACHINE": "/opt/nvml/machine"})
    finally:
        clear()


def test_1_check_mode_on_a_host_that_has_nothing(watched):
    watched.box.sh("apt-get update -q")
    before = watched.box.sh("find /etc /usr/local /opt -xdev | sort | md5sum; dpkg -l | md5sum")
    watched.both("--check")
    assert watched.box.sh("find /etc /usr/local /opt -xdev | sort | md5sum; dpkg -l | md5sum") == before


def test_2_a_wrong_receiver_is_told_before_anything_is_changed(watched):
    for variables, code in (
        ({"monitoring_alert_receivers": [{"name": "x", "kind": "dingtalk"}], "monitoring_alert_secrets": {}}, "IDC-MON-003"),
        ({"monitoring_alert_receivers": [], "monitoring_alert_secrets": SECRETS}, "IDC-MON-002"),
        ({"monitoring_costs": {"currency": "yuan"}}, "IDC-INV-007"),
    ):
        run = watched.box.play(watched.folder, {"name": "idc.llm.monitoring"}, **{**watched.variables, **variables})
        assert run.rc != 0 and code in run.output and run.recap["changed"] == 0, run.output[-3000:]
    run = watched.box.play(watched.folder, {"name": "idc.llm.exporters"}, **{**watched.variables, "exporters_tls": True})
    assert run.rc != 0 and "IDC-MON-006" in run.output and run.recap["changed"] == 0, run.output[-3000:]


def test_3_converges_and_then_changes_nothing(watched):
    started = time.monotonic()
    runs, changed = watched.both()
    assert changed > 0
    print(f"converged in {time.monotonic() - started:.0f} s")
    secret = [SECRETS["robot"]["url"], SECRETS["hook"]["password"]]
    assert not any(word in run.output for run in runs for word in secret)
    runs, changed = watched.both()
    assert changed == 0, "\n".join(run.output for run in runs)[-6000:]
    _runs, changed = watched.both("--check", "--diff")
    assert changed == 0


def test_4_every_target_of_the_plan_is_up_with_its_labels(watched):
    def up():
        return {
            (row["labels"]["job"], row["labels"]["host"])
            for row in watched.api("targets?state=active")["activeTargets"]
            if row["health"] == "up" and row["labels"].get("rack") == "r1"
        }

    wanted = {(job, "box") for job in ("node", "nginx", "gpu", "blackbox", "prometheus", "alertmanager")}
    assert wait_for(lambda: up() >= wanted, 30), watched.api("targets?state=active")
    (probe,) = watched.ask("probe_success")
    assert probe["value"][1] == "1" and probe["metric"]["instance"] == f"https://{ADDRESS}:8443/health"
    assert probe["metric"]["host"] == "box" and probe["metric"]["job"] == "blackbox"
    shown = watched.box.sh("systemctl show -p Restart -p StartLimitIntervalUSec prometheus-nginx-exporter")
    assert shown.split() == ["Restart=always", "StartLimitIntervalUSec=0"], "it comes again when its nginx was late after a boot"
    (days,) = watched.ask("(probe_ssl_earliest_cert_expiry - time()) / 86400")
    assert 4 < float(days["value"][1]) < 5.1


def test_5_what_the_plan_promises_and_what_only_the_collection_knows_are_series(watched):
    def value(query):
        rows = watched.ask(query)
        return float(rows[0]["value"][1]) if len(rows) == 1 else None

    wanted = {
        'idc_llm_slo_ttft_seconds{deployment="r1"}': 0.2,
        'idc_llm_slo_e2e_seconds{deployment="r1"}': 30.0,
        'idc_llm_slo_success_ratio{deployment="r1"}': 0.999,
        'idc_llm_cost_per_hour{currency="CNY"}': 18.0,
        'idc_llm_gpu_expected{host="box"}': 2.0,
        "count(gpu_memory_used_MiB)": 8.0,
        'count(node_systemd_unit_state{name="prometheus.service",state="active"})': 1.0,
        'count(idc_llm_unit_restarts_total{unit="prometheus.service"})': 1.0,
        "node_processes_threads > bool 0": 1.0,
        'idc_llm_tokens_total{tenant="one",kind="prompt"}': 42.0,
        "nginx_http_requests_total": 7.0,
    }
    assert wait_for(lambda: all(value(query) == number for query, number in wanted.items()), 20), {q: value(q) for q in wanted}


def test_6_only_monitors_reach_the_ports(watched):
    connect = (
        "import errno, socket, sys\ns = socket.socket(); s.settimeout(5); e = s.connect_ex((sys.argv[1], int(sys.argv[2])))\n"
        "print(errno.errorcode.get(e, e) if e else 'open')"
    )
    for port in (9090, 9093, 9100, 9115, 9400):
        said = docker("exec", f"{NETWORK}-other", "python3", "-c", connect, ADDRESS, str(port)).stdout.strip()
        assert said == "ECONNREFUSED", port
        assert watched.box.sh(f"ss -Htln 'sport = :{port}'").split()[3] == f"{ADDRESS}:{port}"
    assert docker("exec", f"{NETWORK}-other", "python3", "-c", connect, ADDRESS, "8443").stdout.strip() == "open"


def test_7_secrets_lie_where_only_their_readers_look(watched):
    for file in ("/etc/prometheus/alertmanager.yml", "/etc/idc_llm/alerts/robots.json"):
        assert watched.box.sh(f"stat -c '%a %U %G' {file}") == "640 root prometheus"
    for word in (SECRETS["robot"]["url"], SECRETS["hook"]["password"]):
        assert word not in watched.box.sh("cat /proc/*/cmdline | tr '\\0' ' '; journalctl --no-pager -o cat")


def test_8_an_alarm_arrives_and_goes_away_again(watched):
    box, began = watched.box, time.time()

    def told(status, path="/hook"):
        rows = [row for row in watched.came() if row["at"] >= began and row["path"] == path]
        return alerts(rows, "TargetDown", status, job="node", host="box") if path == "/hook" else rows

    box.sh("systemctl stop prometheus-node-exporter")
    try:
        assert wait_for(lambda: told("firing"), 60, 0.5), watched.firing()
        arrived = time.time() - began
        assert wait_for(lambda: told("", "/dingtalk"), 20, 0.5)
    finally:
        box.sh("systemctl start prometheus-node-exporter")
    robot = told("", "/dingtalk")[0]
    assert robot["answer"]["errcode"] == 0 and "TargetDown" in robot["body"]["markdown"]["text"]
    assert "告警" in robot["body"]["markdown"]["title"]
    mended = time.time()
    assert wait_for(lambda: told("resolved"), 60, 0.5), watched.came()
    print(f"node exporter stopped: told after {arrived:.1f} s; back: told after {time.time() - mended:.1f} s")
    # the one that always fires beats outside, and the others never hear of it
    if "Watchdog" in watched.firing():
        assert wait_for(lambda: [row for row in watched.came() if row["path"] == "/heartbeat"], 70, 1)
        assert not alerts([row for row in watched.came() if row["path"] != "/heartbeat"], "Watchdog", "firing")


def test_9_exporters_speak_tls_and_ask_for_a_password(watched):
    tls = {
        "exporters_tls": True,
        "exporters_tls_password": PASSWORD,
        "monitoring_exporters_tls": True,
        "monitoring_exporters_password": PASSWORD,
        "monitoring_exporters_ca": str(watched.folder / "ca/exporters.pem"),
    }
    runs, changed = watched.both(**tls)
    assert changed > 0 and not any(PASSWORD in run.output for run in runs)
    _runs, changed = watched.both(**tls)
    assert changed == 0
    box = watched.box
    jobs = "count by (job) (up{job=~'node|gpu|blackbox'} == 1)"
    assert wait_for(lambda: len(watched.ask(jobs)) == 3 and watched.ask("probe_success == 1"), 30), watched.api("targets")
    plain = box.sh(f"curl -s -o /dev/null -w '%{{http_code}}' http://{ADDRESS}:9100/metrics", check=False)
    without = box.sh(f"curl -sk -o /dev/null -w '%{{http_code}}' https://{ADDRESS}:9100/metrics")
    assert (plain, without) == ("400", "401")
    assert box.sh("stat -c '%a' /etc/idc_llm/exporters/web.yml /etc/prometheus/idc_llm/exporters-password") == "640\n640"
    watched.both()  # and back
    assert wait_for(lambda: len(watched.ask(jobs)) == 3, 30)


LOG_HOST = """import socketserver, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain('/root/front.pem', '/root/front.key')
class Take(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            with open('/root/shipped', 'ab') as out: out.write(line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    def get_request(self):
        sock, where = super().get_request(); return context.wrap_socket(sock, server_side=True), where
Server(('127.0.0.1', 6514), Take).serve_forever()
"""


def test_10_logs_are_kept_and_shipped_over_tls(watched):
    box = watched.box
    (watched.folder / "log_host.py").write_text(LOG_HOST)
    box.put(watched.folder / "log_host.py", "/root/log_host.py")
    box.sh("systemd-run --unit=log-host python3 /root/log_host.py")
    host = {"address": "127.0.0.1", "ca": str(watched.folder / "ca.pem"), "name": "llm.test"}
    role = {"name": "idc.llm.logs"}
    wrong = box.play(watched.folder, role, logs_host={"port": 1})
    assert wrong.rc != 0 and "IDC-MON-008" in wrong.output and wrong.recap["changed"] == 0, wrong.output[-2000:]
    checked = box.play(watched.folder, role, "--check", logs_host=host)
    assert checked.rc == 0, checked.output[-3000:]
    box.sh("systemd-run --unit=talk sh -c 'while sleep 0.5; do logger -p authpriv.notice idc-test-who; done'")
    run = box.play(watched.folder, role, logs_host=host)
    assert run.rc == 0, run.output[-4000:]
    again = box.play(watched.folder, role, logs_host=host)
    assert again.rc == 0 and again.recap["changed"] == 0, again.output[-4000:]
    box.sh("echo '{\"tenant\": \"idc-test-audit\"}' >> /var/log/idc_llm/audit.log")
    shipped = "cat /root/shipped 2>/dev/null"
    assert wait_for(lambda: "idc-test-who" in box.sh(shipped, check=False), 30), box.sh("journalctl -u rsyslog --no-pager")
    assert wait_for(lambda: "idc-test-audit" in box.sh(shipped, check=False), 30), "the audit log, too"
    assert "idc-test-who" in box.sh("cat /var/log/idc_llm/access.log")
    assert box.sh("stat -c '%a %U %G' /var/log/idc_llm/access.log") == "640 root adm"
    assert "rotate 190" in box.sh("cat /etc/logrotate.d/idc-llm-access")
    assert "SystemMaxUse=2G" in box.sh("cat /etc/systemd/journald.conf.d/idc_llm.conf")
