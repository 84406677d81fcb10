"""Reboots: with the Tang server there, and without it; what happens to disks meanwhile."""
from __future__ import annotations

import json
import os
import shutil
import subprocess

import jinja2
import pytest
from ansible_collections.idc.llm.plugins.module_utils import _engine

from tests.luks.lab import CACHE, CONTAINERS, CONVERGE, HEAL_S, STATE, STORE, mounted, say
from tests.luks.test_1_made import newest, opened
from tests.support.box import ROOT
from tests.support.waiting import wait_for

SPEC = _engine.Spec(name="tiny-blue-0", release="1.0", api_key="not-a-real-key",
                    config={"model": f"{STORE}/demo/tiny/r1", "served-model-name": "tiny", "host": "127.0.0.1", "port": 8000})
UNITS = ("idc-llm-store.service", f"idc-vllm@{SPEC.name}.service")
# stand-ins for what is served; the units are the roles' own
VLLM = f"#!/bin/sh\ntouch {STORE}/engine-was-here || true\nexec sleep infinity\n"
PATHS = " ".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
NGINX = f"""pid nginx.pid;
error_log stderr;
events {{}}
http {{ {PATHS} access_log off; server {{ listen 127.0.0.1:8090; root {STORE}; }} }}
"""


@pytest.fixture(scope="module", autouse=True)
def _served(lab):
    """The store's and an engine's units, as the roles write them."""
    files = {file.path: (file.text, file.group, file.mode) for file in _engine.files(SPEC)}
    source = (ROOT / "roles/model_store/templates/idc-llm-store.service.j2").read_text()
    own = {"model_store_root": STORE, "__model_store_run": "/run/idc-llm-store", "__model_store_etc": "/etc/idc_llm/store",
           "__model_store_user": "www-data"}
    templates = jinja2.Environment(undefined=jinja2.StrictUndefined)
    templates.filters["basename"] = os.path.basename
    unit = templates.from_string(source).render(own)
    files["/etc/systemd/system/idc-llm-store.service"] = (unit, "root", 0o644)
    files["/etc/idc_llm/store/nginx.conf"] = (NGINX, "root", 0o644)
    files[f"{SPEC.release_dir}/bin/vllm"] = (VLLM, "root", 0o755)
    packed = subprocess.run(["tar", "-C", lab.dir, "-c", "tiny"], check=True, capture_output=True).stdout
    subprocess.run(["ssh", "-F", lab.dir / "ssh_config", "node1", "sudo tar -C /srv -x --no-same-owner"], check=True, input=packed)
    write = [f"install -D -g {group} -m {mode:o} /dev/stdin {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE"
             for path, (text, group, mode) in files.items()]
    lab.said("id vllm || useradd --system --no-create-home vllm", *write, f"mkdir -p $(dirname {SPEC.link})",
             f"ln -sfn {SPEC.release_dir} {SPEC.link}", "systemctl daemon-reload",
             *(f"systemctl enable --now {unit}" for unit in UNITS))


def active(lab) -> bool:
    return all(word == "active" for _code, word in lab.ask(*(f"systemctl is-active {unit}" for unit in UNITS)))


def intact(lab) -> bool:
    return lab.said(f"sha256sum {STORE}/data {CACHE}/data | cut -d' ' -f1 | sort -u | wc -l")[0] == "1"


def test_after_a_reboot_all_is_open_and_serves_without_a_word_from_anybody(lab):
    lab.rebooted()
    assert wait_for(lambda: mounted(lab, STORE, CACHE), HEAL_S), lab.ask("journalctl -b --no-pager | tail -60")
    assert intact(lab) and wait_for(lambda: active(lab), HEAL_S), lab.ask("systemctl list-jobs")
    assert lab.said("systemctl is-system-running --wait; systemctl --failed --no-legend --plain") == ["running"]
    lab.show("after the first reboot")


@pytest.fixture(scope="module")
def locked(lab):
    """Booted while the Tang server answers nothing."""
    lab.tang.ask("stop")
    lab.rebooted()
    yield
    lab.tang.ask("cont")


def test_without_its_tang_server_it_boots_and_says_what_is_missing(lab, locked):
    wait_for(lambda: "idc-llm-luks-locked" in lab.ask("systemctl --failed --no-legend --plain")[0][1], HEAL_S)
    failed, said, there = lab.said("systemctl --failed --no-legend --plain", "journalctl -b --no-pager -u 'idc-llm-luks*'",
                                   f"findmnt {STORE} {CACHE} || true")
    print(failed, said, sep="\n")
    for name in CONTAINERS:
        assert f"idc-llm-luks-locked@{name}.service" in failed and f"{name} is locked" in said, said
    assert "10.77.7.21" in said and there == ""
    lab.show("locked")


def test_nobody_writes_beneath_the_mount(lab, locked):
    states = lab.said(*(f"systemctl show -p ActiveState --value {unit}" for unit in UNITS))
    assert set(states) <= {"inactive", "failed"}, states
    run = lab.run("tests/luks/fetch.yml")
    assert run.rc == 2 and "not permitted" in run.output, run.output[-2000:]
    for mount in (STORE, CACHE):
        code, text = lab.ask(f"touch {mount}/beneath")[0]
        assert code != 0 and "not permitted" in text
        assert lab.said(f"find {mount} -mindepth 1")[0] == ""


def test_a_destroyed_header_and_a_swapped_disk_are_told_apart_and_refused(lab, locked):
    """On the stripe the header is overwritten, in the models' slot there is another disk with a volume of the same label."""
    spare = "/dev/disk/by-id/virtio-spare"
    lab.said("dd if=/dev/zero of=/dev/idc_cache/data bs=1M count=16 oflag=direct", f"wipefs -aq {spare}",
             f"printf of-somebody-else | cryptsetup luksFormat -q --iter-time 100 --label idc_models {spare} -", "sync")
    other = lab.node.folder / "other.disk"
    shutil.copyfile(lab.node.disk("spare"), other)
    lab.node.swap("models", "other.disk")
    try:
        wait_for(lambda: lab.ask("test -e /dev/disk/by-id/virtio-models")[0][0] == 0, 30)
        run = lab.run(CONVERGE, "--limit", "node1")
        assert run.rc != 0 and run.total("changed") == 0, run.output[-3000:]
        for code, word in (("007", "volume models"), ("019", "volume cache")):
            assert f"IDC-LUKS-{code}" in run.output.replace("Volume", "volume") and word in run.output.replace("Volume", "volume")
        assert "is not the disk that it was" in lab.said("journalctl -b --no-pager -u idc-llm-luks@models")[0]
    finally:
        lab.node.swap("models", "models.disk")
    wait_for(lambda: lab.ask("test -e /dev/disk/by-id/virtio-models")[0][0] == 0, 30)


def test_the_header_comes_back_from_its_backup(lab, locked):
    """As docs/guides/luks.md says."""
    container = json.loads((STATE / "luks/node1/cache.json").read_text())["container"]
    subprocess.run(["ssh", "-F", lab.dir / "ssh_config", "node1", "sudo install -m 0600 /dev/stdin /run/cache.header"], check=True,
                   input=opened(lab, newest("cache")))
    lab.said(f"cryptsetup luksHeaderRestore --batch-mode --header-backup-file /run/cache.header {container}",
             "rm /run/cache.header")
    assert "idc_cache" in lab.said("cryptsetup luksDump /dev/idc_cache/data")[0]


def test_it_heals_when_the_tang_server_is_back(lab, locked):
    lab.tang.ask("cont")
    assert wait_for(lambda: mounted(lab, STORE, CACHE), HEAL_S), lab.ask("journalctl -b --no-pager -u 'idc-llm-luks*' | tail -60")
    say("healed")
    assert intact(lab) and wait_for(lambda: active(lab), HEAL_S), lab.ask("systemctl list-jobs", "systemctl status 'idc-*'")
    assert lab.said("systemctl --failed --no-legend --plain") == [""]
    assert lab.run("tests/luks/fetch.yml").rc == 0


def test_with_the_tang_server_away_the_play_opens_it_by_the_recovery_passphrase(lab):
    """The way out that an operator has. Nobody's mount becomes read-only on the way."""
    lab.said("systemctl stop idc-llm-luks@cache.service")
    assert lab.ask("test -e /dev/mapper/idc_cache")[0][0] != 0 and not mounted(lab, CACHE)
    lab.tang.ask("stop")
    try:
        run = lab.run(CONVERGE, "--limit", "node1")
    finally:
        lab.tang.ask("cont")
    assert run.rc == 0, run.output[-4000:]
    assert mounted(lab, CACHE) and intact(lab)
    lab.said(f"touch {CACHE}/new", f"rm {CACHE}/new", f"lsattr -d {CACHE} | grep -v '^[^ ]*i'")
