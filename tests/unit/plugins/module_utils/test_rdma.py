# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA ports from sysfs, their GPUs, and the environment for NCCL."""
from __future__ import annotations

import os
from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._rdma import (
    Place,
    Port,
    addresses,
    chosen,
    default_interface,
    interface_of,
    link_speed,
    nccl_environment,
    nearest,
    pci_distance,
    read_rdma,
)

ZERO = "0000:0000:0000:0000:0000:0000:0000:0000"
ROOT = "pci0000:00/0000:00:01.0"


@pytest.fixture
def host(tmp_path):
    """Builds a sysfs: device(path, ...) and nic(name, path, ...)."""

    class Host:
        sysfs = str(tmp_path)

        def put(self, path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

        def device(self, path, numa=-1):
            folder = tmp_path / "devices" / path
            self.put(folder / "numa_node", str(numa))
            link = tmp_path / "bus/pci/devices" / folder.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(folder, link.parent))
            return folder

        def nic(self, name, path, layer="InfiniBand", state="4: ACTIVE", rate="400 Gb/sec (4X NDR)", numa=-1, gids=(),
                netdev=None, port=1):
            folder = tmp_path / "devices" / path
            if not folder.exists():
                folder = self.device(path, numa)
            card = tmp_path / "class/infiniband" / name
            if not card.exists():
                card.mkdir(parents=True)
                (card / "device").symlink_to(os.path.relpath(folder, card))
            for word, text in (("link_layer", layer), ("state", state), ("rate", rate)):
                self.put(card / "ports" / str(port) / word, text)
            for number, (gid, kind) in enumerate(gids):
                self.put(card / "ports" / str(port) / "gids" / str(number), gid)
                if kind:
                    self.put(card / "ports" / str(port) / "gid_attrs/types" / str(number), kind)
            if netdev:
                (folder / "net" / netdev).mkdir(parents=True)
            return card

    return Host()


def test_an_infiniband_port_is_read_in_full(host):
    host.device(f"{ROOT}/0000:01:00.0/0000:02:00.0/0000:03:00.0", numa=1)
    host.nic("mlx5_0", f"{ROOT}/0000:01:00.0/0000:02:01.0/0000:04:00.0", numa=1, netdev="ibs0")
    assert read_rdma(host.sysfs, ["0000:03:00.0"]) == (
        Port("mlx5_0", 1, "InfiniBand", "ACTIVE", 400.0, "ibs0", 1, "0000:04:00.0", None, None, "PIX", (0,)),)


def test_a_roce_port_gives_its_gid_of_version_2_and_ipv4(host):
    gids = [("fe80:0000:0000:0000:0000:00ff:fe00:0001", "IB/RoCE v1"), ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "RoCE v2"),
            ("0000:0000:0000:0000:0000:ffff:0a00:0001", "IB/RoCE v1"), ("0000:0000:0000:0000:0000:ffff:0a00:0001", "RoCE v2"),
            (ZERO, None)]
    card = host.nic("mlx5_bond_0", f"{ROOT}/0000:04:00.0", layer="Ethernet", rate="25 Gb/sec (1X EDR)", gids=gids, netdev="ens1f0")
    host.put(card / "ports/1/gid_attrs/ndevs/0", "bond0")
    host.put(card / "tc/1/traffic_class", "Global tclass=104")
    port = read_rdma(host.sysfs)[0]
    assert (port.gid_index_v2, port.netdev, port.traffic_class, port.rate_gbps) == (3, "bond0", 104, 25.0)
    assert (port.distance, port.gpus) == (None, ())


def test_a_roce_port_without_ipv4_has_no_such_gid(host):
    host.nic("mlx5_0", f"{ROOT}/0000:04:00.0", layer="Ethernet", gids=[("fe80:0000:0000:0000:0000:00ff:fe00:0001", "RoCE v2")])
    assert read_rdma(host.sysfs)[0].gid_index_v2 is None


def test_ports_are_in_the_order_of_their_numbers(host):
    for name in ("mlx5_10", "mlx5_2"):
        host.nic(name, f"{ROOT}/0000:{name[5:].zfill(2)}:00.0")
    host.nic("mlx5_2", f"{ROOT}/0000:02:00.0", port=2, state="1: DOWN")
    found = read_rdma(host.sysfs)
    assert [(port.device, port.port, port.state) for port in found] == [
        ("mlx5_2", 1, "ACTIVE"), ("mlx5_2", 2, "DOWN"), ("mlx5_10", 1, "ACTIVE")]


def test_a_port_that_tells_little(host, tmp_path):
    (tmp_path / "class/infiniband/rxe0/ports/1").mkdir(parents=True)
    assert read_rdma(host.sysfs, ["0000:03:00.0"]) == (Port("rxe0", 1),)


def test_an_address_is_found_in_the_uevent_too(tmp_path):
    folder = tmp_path / "class/infiniband/mlx5_0"
    (folder / "ports/1").mkdir(parents=True)
    (folder / "device").mkdir()
    (folder / "device/uevent").write_text("DRIVER=mlx5_core\nPCI_SLOT_NAME=0000:04:00.0\n")
    assert read_rdma(str(tmp_path))[0].pci_address == "0000:04:00.0"


def test_a_host_without_rdma(tmp_path):
    assert read_rdma(str(tmp_path), ["0000:03:00.0"]) == ()


A = ("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:00.0")


@pytest.mark.parametrize(
    ("ours", "theirs", "numa", "word"),
    [
        (A, (*A[:3], "0000:02:01.0"), (0, 0), "PIX"),  # two ports of one switch
        (A[:2], A[:2], (0, 0), "PIX"),  # two functions behind one root port
        (A, (*A[:2], "0000:09:00.0", "0000:0a:00.0", "0000:0b:00.0"), (0, 0), "PXB"),
        (A, ("pci0000:00", "0000:00:02.0"), (0, 0), "PHB"),
        (A, ("pci0000:40", "0000:40:01.0"), (1, 1), "NODE"),
        (A, ("pci0000:80", "0000:80:01.0"), (0, 1), "SYS"),
        ((), (), (None, None), "NODE"),  # one socket that says nothing
    ],
)
def test_distances(ours, theirs, numa, word):
    assert pci_distance(Place(ours, numa[0]), Place(theirs, numa[1])) == word
    assert pci_distance(Place(theirs, numa[1]), Place(ours, numa[0])) == word


def test_the_nearest_gpus_are_all_of_the_best_distance():
    near, far = Place(A, 0), Place(("pci0000:80",), 1)
    assert nearest(near, {0: near, 1: far, 2: near}) == ("PIX", (0, 2))
    assert nearest(far, {0: near, 2: near}) == ("SYS", ())
    assert nearest(near, {}) == (None, ())


IB = Port("mlx5_0", 1, "InfiniBand", "ACTIVE", 400.0, distance="PIX", gpus=(0,))
ROCE = Port("mlx5_0", 1, "Ethernet", "ACTIVE", 25.0, gid_index_v2=3, distance="NODE", gpus=(0, 1))


def names(ports):
    return [port.device for port in ports]


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ([replace(IB, device="down", state="DOWN")], ["mlx5_0"]),
        ([replace(ROCE, device="eth", rate_gbps=400.0)], ["mlx5_0"]),  # InfiniBand before Ethernet
        ([replace(IB, device="slow", rate_gbps=100.0)], ["mlx5_0"]),
        ([replace(IB, device="half", rate_gbps=200.0)], ["mlx5_0", "half"]),
        ([replace(IB, device="far", distance="SYS", gpus=())], ["mlx5_0"]),
        ([replace(IB, device="near", distance="PXB")], ["mlx5_0", "near"]),
        ([replace(IB, device="odd", link_layer=None)], ["mlx5_0"]),
    ],
)
def test_which_ports_nccl_uses(others, taken):
    assert names(chosen([IB, *others])) == taken


def test_where_no_port_is_behind_the_gpus_switch_all_are_used():
    ports = [replace(IB, distance="NODE"), replace(IB, device="mlx5_1", distance="SYS", gpus=())]
    assert names(chosen(ports)) == ["mlx5_0", "mlx5_1"]


def test_no_active_port_is_none():
    assert chosen([replace(IB, state="INIT")]) == chosen([]) == ()


def test_infiniband():
    assert nccl_environment([IB, replace(IB, device="mlx5_1", port=2)], "eth0", 10_000) == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:2"}


def test_roce():
    assert nccl_environment([ROCE], "bond0", 25_000, "INFO") == {
        "NCCL_DEBUG": "INFO", "NCCL_SOCKET_IFNAME": "=bond0", "GLOO_SOCKET_IFNAME": "bond0",
        "NCCL_IB_HCA": "=mlx5_0:1", "NCCL_IB_GID_INDEX": "3", "NCCL_IB_TC": "106"}


@pytest.mark.parametrize(("second", "index"), [(3, "3"), (5, None), (None, None)])
def test_one_gid_index_must_hold_for_all_ports(second, index):
    ports = [ROCE, replace(ROCE, device="mlx5_1", gid_index_v2=second)]
    assert nccl_environment(ports, None, None).get("NCCL_IB_GID_INDEX") == index


@pytest.mark.parametrize(("first", "second", "traffic"), [(96, 96, "96"), (96, 104, "106"), (96, None, "106"), (0, 0, "0")])
def test_the_traffic_class_is_the_administrators_where_the_ports_agree(first, second, traffic):
    ports = [replace(ROCE, traffic_class=first), replace(ROCE, device="mlx5_1", traffic_class=second)]
    assert nccl_environment(ports, None, None)["NCCL_IB_TC"] == traffic


@pytest.mark.parametrize(
    ("speed", "threads"), [(400_000, "4"), (100_000, "4"), (25_000, "2"), (10_000, "1"), (None, "1")])
def test_without_rdma_tcp_gets_threads_by_its_speed(speed, threads):
    assert nccl_environment([replace(IB, state="DOWN")], "eth0", speed) == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_SOCKET_NTHREADS": threads, "NCCL_NSOCKS_PERTHREAD": threads}


def test_an_interface_that_is_not_known_is_left_to_nccl():
    assert nccl_environment([IB], None, None) == {"NCCL_DEBUG": "WARN", "NCCL_IB_HCA": "=mlx5_0:1"}


ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
"""


def test_the_interface_of_the_address_else_of_the_default_route(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text(ROUTES)
    assert interface_of("10.0.0.1", lambda: {"10.0.0.1": "bond0"}, str(tmp_path)) == "bond0"
    assert interface_of("10.0.0.9", lambda: {"10.0.0.1": "bond0"}, str(tmp_path)) == "eth0"
    assert interface_of(None, proc=str(tmp_path)) == "eth0"
    assert interface_of(None, proc=str(tmp_path / "none")) is None


@pytest.mark.parametrize("table", ["", "Iface\n", "Iface\neth0 00000000\n"])
def test_no_default_route(table):
    assert default_interface(table) is None


def test_this_hosts_own_addresses():
    assert addresses().get("127.0.0.1") == "lo"


@pytest.mark.parametrize(("text", "speed"), [("100000", 100_000), ("-1", None), ("", None)])
def test_an_interfaces_speed(tmp_path, text, speed):
    (tmp_path / "class/net/eth0").mkdir(parents=True)
    (tmp_path / "class/net/eth0/speed").write_text(text + "\n")
    assert link_speed("eth0", str(tmp_path)) == speed
    assert link_speed(None, str(tmp_path)) is None
