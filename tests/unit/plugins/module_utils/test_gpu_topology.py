# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVLink, NVSwitch and PCIe between GPUs: the matrix, the domains, the links."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gpu_topology import (
    Link,
    arrange,
    nvlink_domains,
    nvlinks_between,
    pci_address,
    read_topology,
)
from ansible_collections.idc.llm.plugins.module_utils._nvml import Nvml


class NvmlError(Exception):
    """As pynvml.NVMLError."""

    def __init__(self, value):
        self.value = value


class Fake:
    """A binding of a host. wires: per GPU, per link 'off', 'switch', a GPU's index, or None (does not answer)."""

    NVMLError = NvmlError
    NVML_NVLINK_MAX_LINKS = 18
    NVML_FI_DEV_NVLINK_LINK_COUNT = 91
    NVML_FI_DEV_NVLINK_ERROR_DL_CRC, NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY = 163, 161, 162

    def __init__(self, wires, ancestor=50, p2p=0, count=True, fields=True):
        self.wires, self.ancestor, self.p2p, self.count, self.fields = wires, ancestor, p2p, count, fields
        self.calls = []

    def nvmlDeviceGetFieldValues(self, gpu, wanted):
        self.calls.append("fields")
        rows = []
        for field in wanted:
            known = self.count if field == 91 else self.fields
            value = len(self.wires[gpu]) if field == 91 else field[0] + field[1] if known else None
            rows.append(SimpleNamespace(nvmlReturn=0 if known else 3, valueType=3, value=SimpleNamespace(ullVal=value)))
        return rows

    def nvmlDeviceGetNvLinkState(self, gpu, link):
        self.calls.append("state")
        if link >= len(self.wires[gpu]) or self.wires[gpu][link] is None:
            raise NvmlError(3)
        return int(self.wires[gpu][link] != "off")

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, gpu, link):
        return 2 if self.wires[gpu][link] == "switch" else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, gpu, link):
        assert self.wires[gpu][link] != "switch", "a switch's address is not needed"
        return SimpleNamespace(busId=f"00000000:{self.wires[gpu][link]:02X}:00.0".encode())

    def nvmlDeviceGetNvLinkErrorCounter(self, gpu, link, counter):
        return {0: 10, 1: 20, 2: 3, 3: 4}[counter]

    def nvmlDeviceGetP2PStatus(self, one, other, caps):
        assert caps == 2
        if self.p2p is None:
            raise NvmlError(3)
        return self.p2p

    def nvmlDeviceGetTopologyCommonAncestor(self, one, other):
        return self.ancestor

    def read(self, dead=()):
        handles = [None if gpu in dead else gpu for gpu in range(len(self.wires))]
        return read_topology(Nvml(self), handles, [None if gpu is None else f"0000:{gpu:02x}:00.0" for gpu in handles])


def test_gpus_behind_nvswitches_are_one_domain():
    topology = Fake([["switch"] * 4] * 3).read()
    assert topology.matrix == (("X", "NV4", "NV4"), ("NV4", "X", "NV4"), ("NV4", "NV4", "X"))
    assert (topology.link, topology.domains, topology.nvswitch) == ("nvlink", ((0, 1, 2),), True)
    assert topology.links[1][3] == Link(3, True, "nvswitch", {"crc": 166, "replay": 164, "recovery": 165})


def test_a_pair_has_as_many_links_as_its_poorer_side():
    topology = Fake([["switch"] * 4, ["switch", "switch", "off", "switch"]]).read()
    assert topology.matrix[0][1] == topology.matrix[1][0] == "NV3"
    assert topology.links[1][2].active is False and topology.links[1][2].remote is None


def test_bridged_pairs_are_domains_of_two():
    topology = Fake([[1, 1], [0, 0], [3, 3], [2, 2]], ancestor=40).read()
    assert topology.matrix[0] == ("X", "NV2", "NODE", "NODE")
    assert (topology.domains, topology.nvswitch, topology.link) == (((0, 1), (2, 3)), False, "nvlink")
    assert topology.links[2][0].remote == "gpu 3"


@pytest.mark.parametrize(("level", "word"), [(0, "PIX"), (10, "PIX"), (20, "PXB"), (30, "PHB"), (40, "NODE"), (50, "SYS"),
                                             (99, None)])
def test_without_nvlink_the_way_over_pcie_is_named(level, word):
    topology = Fake([[], []], ancestor=level).read()
    assert topology.matrix == (("X", word), (word, "X"))
    assert (topology.domains, topology.links) == ((), ((), ()))


def test_cards_on_pcie():
    assert Fake([[]] * 4).read().link == "pcie"


def test_links_to_switches_that_no_peer_is_reached_by_are_no_domain():  # Fabric Manager is not running
    topology = Fake([["switch"] * 2] * 2, p2p=5).read()
    assert (topology.matrix[0][1], topology.domains, topology.nvswitch) == ("SYS", (), True)


def test_where_p2p_is_not_told_the_links_count():
    assert Fake([["switch"]] * 2, p2p=None).read().domains == ((0, 1),)


def test_a_dead_gpu_is_in_no_domain():
    topology = Fake([["switch"]] * 3).read(dead={1})
    assert topology.matrix == (("X", None, "NV1"), (None, "X", None), ("NV1", None, "X"))
    assert (topology.domains, topology.links[1]) == (((0, 2),), ())


def test_one_gpu_has_no_link_to_speak_of():
    topology = Fake([[]]).read()
    assert (topology.link, topology.matrix, topology.domains) == (None, (("X",),), ())


def test_older_cards_count_errors_by_the_older_call():
    assert Fake([["off"]], fields=False).read().links[0][0].errors == {"crc": 7, "replay": 10, "recovery": 20}


def test_a_card_without_nvlink_that_does_not_tell_is_asked_once():
    fake = Fake([[None] * 18], count=False)
    assert fake.read().links == ((),)
    assert fake.calls.count("state") == 1


def test_a_link_that_does_not_answer_is_listed_as_unknown():
    assert Fake([["switch", None]], fields=False).read().links[0][1] == Link(1)


def test_all_counters_of_a_gpu_are_one_call():
    fake = Fake([["switch"] * 18])
    fake.read()
    assert fake.calls.count("fields") == 2  # how many links there are, and their counters


@pytest.mark.parametrize(
    ("cells", "domains"),
    [
        ({}, ()),
        ({(0, 1): "NV1", (1, 2): "NV2"}, ((0, 1, 2),)),  # 0 and 2 meet through 1
        ({(0, 3): "NV4", (1, 2): "NV4"}, ((0, 3), (1, 2))),
        ({(0, 1): "NODE", (2, 3): "NV12"}, ((2, 3),)),
    ],
)
def test_domains(cells, domains):
    matrix = [["X" if row == column else cells.get((min(row, column), max(row, column)), "SYS") for column in range(4)]
              for row in range(4)]
    assert nvlink_domains(matrix) == domains
    assert arrange(matrix, ()).link == ("nvlink" if domains else "pcie")


def test_direct_links_count_before_those_to_switches():
    ours = [Link(0, True, "gpu 1"), Link(1, True, "nvswitch"), Link(2, True, "gpu 2"), Link(3, False, None)]
    assert nvlinks_between(ours, [Link(0, True, "nvswitch"), Link(1, True, "nvswitch")], 1) == 1
    assert nvlinks_between(ours, [Link(0, True, "nvswitch"), Link(1, True, "nvswitch")], 5) == 1
    assert nvlinks_between(ours, [], 5) == 0


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [("00000000:4A:06.0", "0000:4a:06.0"), (b"00000001:00:1F.7", "0001:00:1f.7"), ("00010000:01:00.0", "10000:01:00.0")],
)
def test_bus_ids_are_written_as_sysfs_does(bus_id, address):
    assert pci_address(bus_id) == address
