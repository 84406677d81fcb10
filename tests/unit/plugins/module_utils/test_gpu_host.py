# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sysfs and procfs say of a host, from trees of files."""
from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import UnixStreamServer

import pytest
from ansible_collections.idc.llm.plugins.module_utils._host import (
    iommu_state,
    mounted,
    nouveau_loaded,
    numa_node,
    peermem_loaded,
    read_host,
    read_pci,
    read_store,
    unit_of,
)
from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci


def card(root, address, vendor, device, kind, driver=None, **files):
    folder = root / "bus" / "pci" / "devices" / address
    folder.mkdir(parents=True)
    for name, value in {"vendor": vendor, "device": device, "class": kind, **files}.items():
        (folder / name).write_text(value + "\n")
    if driver:
        (folder / "driver").symlink_to(f"../../drivers/{driver}")


def test_cards_are_known_by_pci_without_a_driver(tmp_path):
    card(tmp_path, "0000:b0:00.0", "0x19e5", "0xd802", "0x120000")  # Ascend
    card(tmp_path, "0000:02:00.0", "0x19e5", "0x1711", "0x030000")  # Huawei's management VGA
    card(tmp_path, "0000:06:00.0", "0x10de", "0x2335", "0x030200", numa_node="1")  # H200
    card(tmp_path, "0000:07:00.0", "0x10de", "0x22a3", "0x068000")  # NVSwitch
    card(tmp_path, "0000:0c:00.0", "0x1002", "0x74a1", "0x120000", numa_node="-1",
         product_name="AMD Instinct MI300X OAM", mem_info_vram_total="206141652992")
    card(tmp_path, "0000:0d:00.0", "0x1002", "0x74a1", "0x120000")  # the same without its driver
    card(tmp_path, "0000:00:1f.0", "0x8086", "0x1234", "0x030000")
    card(tmp_path, "0000:0e:00.0", "0x10de", "0xffff", "0x030200")  # not in the table
    (tmp_path / "bus/pci/devices/0000:ff:00.0").mkdir()
    cards = read_pci(str(tmp_path))
    assert [(c.vendor, c.vendor_id, c.device_id, c.address, c.numa_node) for c in cards] == [
        ("nvidia", "0x10de", "0x2335", "0000:06:00.0", 1),
        ("amd", "0x1002", "0x74a1", "0000:0c:00.0", None),
        ("amd", "0x1002", "0x74a1", "0000:0d:00.0", None),
        ("nvidia", "0x10de", "0xffff", "0000:0e:00.0", None),
        ("ascend", "0x19e5", "0xd802", "0000:b0:00.0", None),
    ]
    h200 = product_by_pci("0x2335")
    assert [(c.model, c.memory_bytes) for c in cards] == [
        (h200.name, h200.memory_bytes), ("AMD Instinct MI300X OAM", 206141652992), (None, None), (None, None), (None, None)]
    assert [(c.served, c.note) for c in cards] == [
        (True, None), *[(False, "not served by this collection yet")] * 2, (True, None),
        (False, "not served by this collection yet")]


def test_a_card_that_the_driver_does_not_list_is_noted(tmp_path):
    for number, driver in enumerate(["nvidia", "nvidia", "vfio-pci", None]):
        card(tmp_path, f"0000:0{number}:00.0", "0x10de", "0x2335", "0x030200", driver)
    notes = [c.note for c in read_pci(str(tmp_path), ["0000:00:00.0"])]
    assert notes == [None, "not listed by the driver", None, "not listed by the driver"]
    assert [c.note for c in read_pci(str(tmp_path), None)] == [None] * 4  # there is no driver


def test_no_pci_bus_is_no_card(tmp_path):
    assert read_pci(str(tmp_path)) == ()


def test_a_numa_node_of_minus_one_is_none(tmp_path):
    card(tmp_path, "0000:01:00.0", "0x10de", "0x2335", "0x030200", numa_node="-1")
    assert numa_node(str(tmp_path), "0000:01:00.0") is None
    assert numa_node(str(tmp_path), None) is None


@pytest.mark.parametrize(("module", "loaded"), [("nouveau", nouveau_loaded), ("nvidia_peermem", peermem_loaded)])
def test_kernel_modules(tmp_path, module, loaded):
    assert loaded(str(tmp_path)) is False
    (tmp_path / "module" / module).mkdir(parents=True)
    assert loaded(str(tmp_path)) is True


def group(root, number, kind, address):
    folder = root / "kernel/iommu_groups" / str(number)
    folder.mkdir(parents=True)
    (folder / "type").write_text(kind + "\n")
    card(root, address, "0x10de", "0x2335", "0x030200")
    (root / "bus/pci/devices" / address / "iommu_group").symlink_to(os.path.relpath(folder, root / "bus/pci/devices" / address))


@pytest.mark.parametrize(
    ("kinds", "state"),
    [([], "off"), (["identity"], "passthrough"), (["identity", "DMA-FQ"], "translated"), (["DMA"], "translated"),
     (["identity", "blocked"], None)],
)
def test_the_iommu(tmp_path, kinds, state):
    for number, kind in enumerate(kinds):
        group(tmp_path, number, kind, f"0000:0{number}:00.0")
    assert iommu_state(str(tmp_path), read_pci(str(tmp_path))) == state
    assert iommu_state(str(tmp_path)) == state  # no cards: all groups


def test_the_iommu_is_that_of_the_cards(tmp_path):
    group(tmp_path, 0, "identity", "0000:01:00.0")
    group(tmp_path, 1, "DMA", "0000:02:00.0")
    assert iommu_state(str(tmp_path), read_pci(str(tmp_path))[:1]) == "passthrough"


def test_the_iommu_is_not_known_without_sysfs(tmp_path):
    assert iommu_state(str(tmp_path / "none")) is None


def test_the_host(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       2113407680 kB\nMemFree:        1 kB\n")
    (tmp_path / "devices/system/cpu").mkdir(parents=True)
    (tmp_path / "devices/system/cpu/online").write_text("0-63,128-191,250\n")
    for name in ("node0", "node1", "has_cpu"):
        (tmp_path / "devices/system/node" / name).mkdir(parents=True)
    assert read_host(str(tmp_path), str(tmp_path / "proc")) == {
        "memory_total_bytes": 2113407680 * 1024, "cpus": 129, "numa_nodes": 2}


def test_a_host_that_tells_nothing(tmp_path):
    assert read_host(str(tmp_path), str(tmp_path)) == {"memory_total_bytes": None, "cpus": None, "numa_nodes": None}


def test_the_store_is_measured_at_the_nearest_parent(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mounts").write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path} xfs rw 0 0\n")
    wanted = str(tmp_path / "not" / "there" / "yet")
    space = os.statvfs(tmp_path)
    found = read_store(wanted, str(tmp_path))
    assert (found["path"], found["mount"], found["filesystem"]) == (wanted, str(tmp_path), "xfs")
    assert found["total_bytes"] == space.f_blocks * space.f_frsize
    assert 0 <= found["free_bytes"] <= found["total_bytes"]


def test_a_store_behind_a_link_is_that_of_its_goal(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "data")
    (tmp_path / "self/mounts").write_text(f"/dev/a / ext4 rw 0 0\n/dev/b {tmp_path}/data btrfs rw 0 0\n")
    assert read_store(str(tmp_path / "store"), str(tmp_path))["filesystem"] == "btrfs"


def test_a_store_without_a_table_of_mounts(tmp_path):
    found = read_store(str(tmp_path), str(tmp_path / "none"))
    assert (found["filesystem"], found["mount"]) == (None, None) and found["total_bytes"] > 0


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("/", "ext4")),
        ("/var/lib/x", ("/var/lib", "zfs")),  # the later of two on one point hides the first
        ("/var/library", ("/", "ext4")),  # not below /var/lib
        ("/mnt/my disk/x", ("/mnt/my disk", "xfs")),
    ],
)
def test_mounts(path, found):
    table = "d / ext4 rw 0 0\nd /var/lib xfs rw 0 0\nd /var/lib zfs rw 0 0\nd /mnt/my\\040disk xfs rw 0 0\nbroken\n"
    assert mounted(path, table) == found


@pytest.mark.parametrize("cgroup", ["0::/system.slice/docker-{}.scope", "1:name=systemd:/docker/{}"])
@pytest.mark.parametrize(("labels", "unit"), [
    ({"idc.llm.engine": "r1-blue-0"}, "idc-vllm@r1-blue-0.service"), ({}, None), (None, None)])
def test_an_engine_in_a_container_is_one_of_ours(tmp_path, cgroup, labels, unit):
    """The daemon is asked over its socket, as it answers: https://docs.docker.com/reference/api/engine/version/v1.41/"""
    name, asked = "4af" + 61 * "0", []

    class Daemon(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"Id": name, "Config": {"Labels": labels}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            """Quiet."""

        def address_string(self):
            return "a socket"

    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup.format(name) + "\n")
    with UnixStreamServer(str(tmp_path / "docker.sock"), Daemon) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        found = unit_of(7, str(tmp_path), str(tmp_path / "docker.sock"))
        thread.join()
    scope = f"docker-{name}.scope" if "scope" in cgroup else None
    assert (found, asked) == (unit or scope, [f"/v1.41/containers/{name}/json"])
    assert unit_of(7, str(tmp_path), str(tmp_path / "nobody.sock")) == scope


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/idc-vllm@r1-blue-0.service", "idc-vllm@r1-blue-0.service"),
        ("0::/idc.slice/idc-vllm@r1-blue-0.service/worker", "idc-vllm@r1-blue-0.service"),
        ("0::/system.slice/docker-4af.scope", "docker-4af.scope"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "user@1000.service"),
        ("4:memory:/other.service\n1:name=systemd:/system.slice/x.service\n0::/", "x.service"),  # cgroup v1
        ("0::/", None),
        ("0::/../../init.scope", "init.scope"),
        ("nonsense", None),
    ],
)
def test_the_unit_of_a_process(tmp_path, cgroup, unit):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup + "\n")
    assert unit_of(7, str(tmp_path)) == unit
    assert unit_of(8, str(tmp_path)) is None
