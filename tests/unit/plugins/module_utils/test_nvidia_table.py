# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of NVIDIA's names: every row complete, and as the facts say."""
from __future__ import annotations

import re

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _nvidia_table as table
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import numbers
from ansible_collections.idc.llm.plugins.module_utils._products import PRODUCTS

ROWS = list(table.ROWS.values())
IDS = [f"{row.system}-{row.branch}" for row in ROWS]
SYSTEMS = {"ubuntu2204", "ubuntu2404", "debian12", "debian13", "rhel8", "rhel9", "rhel10", "kylin10"}
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")


def test_each_branch_has_each_system():
    assert set(table.ROWS) == {(system, branch) for system in SYSTEMS for branch in (580, 595)}
    assert set(table.BRANCHES) == set(table.VERSIONS) == {580, 595}
    assert all(numbers(version)[0] == branch for branch, version in table.VERSIONS.items())


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_row_is_complete(row):
    assert row.manager == ("apt" if row.system.startswith(("ubuntu", "debian")) else "dnf")
    assert row.repository == row.system and set(row.arches) <= set(table.ARCHES.values()) and "x86_64" in row.arches
    assert re.fullmatch(r"[0-9A-Za-z]{8}\.pub", row.key.file)
    # a fingerprint ends with the key's short name, but for Debian's and Ubuntu's, whose file has another
    assert row.key.fingerprint == "" or re.fullmatch("[0-9A-F]{40}", row.key.fingerprint)
    assert row.key.fingerprint == "" or row.key.fingerprint.endswith(row.key.file[:8].upper())
    names = [*row.open, *row.proprietary, row.fabric_manager, row.nscq, row.nvsdm, row.imex, row.nvlsm, row.dcgm,
             *row.container_toolkit]
    assert [name for name in names if name is not None and not NAME.fullmatch(name)] == []
    assert "{kernel}" in row.headers and "{cuda}" in row.cuda_toolkit and re.search(r"\b[GFADVKR]\b", row.source)
    assert set(row.open) != set(row.proprietary) and any("open" in name for name in row.open)
    assert not any("open" in name for name in row.proprietary)


@pytest.mark.parametrize("row", [row for row in ROWS if row.manager == "apt"], ids=lambda row: f"{row.system}-{row.branch}")
def test_apt_rows_name_nvidias_pinning_package(row):
    assert row.pinning == f"nvidia-driver-pinning-{row.branch}" and row.stream == {}


@pytest.mark.parametrize("row", [row for row in ROWS if row.manager == "dnf"], ids=lambda row: f"{row.system}-{row.branch}")
def test_dnf_rows_have_streams_but_for_rhel_10(row):
    streams = {} if row.system == "rhel10" else {"open": f"{row.branch}-open", "proprietary": f"{row.branch}-dkms"}
    assert row.stream == streams and "versionlock" in row.pinning
    assert row.open == ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")


@pytest.mark.parametrize("system", ["ubuntu2204", "ubuntu2404"])
def test_ubuntus_names_lose_their_suffix_from_590(system):
    old, new = table.ROWS[system, 580], table.ROWS[system, 595]
    assert (old.fabric_manager, new.fabric_manager) == ("nvidia-fabricmanager-580", "nvidia-fabricmanager")
    assert (old.nscq, new.nscq) == ("libnvidia-nscq-580", "libnvidia-nscq")
    assert {"libnvidia-compute-580", "nvidia-dkms-580-open"} <= set(old.open)
    assert {"libnvidia-compute", "nvidia-dkms-open"} <= set(new.open)
    assert not any("595" in name for name in new.open)


def test_what_was_seen_nowhere_is_absent():
    for system in ("debian12", "debian13"):
        assert table.ROWS[system, 580].fabric_manager is None and table.ROWS[system, 580].nvlsm is None
    assert table.ROWS["debian12", 580].dcgm and table.ROWS["debian13", 580].dcgm is None  # DCGM's page lists 12, not 13
    assert table.ROWS["rhel10", 580].key.fingerprint == ""
    assert set(table.DISTRIBUTIONS) == {"debian12", "debian13"}


def test_keys_are_those_of_the_systems():
    assert {table.ROWS[system, 580].key.file for system in ("ubuntu2204", "ubuntu2404", "debian12")} == {"3bf863cc.pub"}
    assert table.ROWS["debian13", 580].key.file == "8793F200.pub"
    assert {table.ROWS[system, 580].key.file for system in ("rhel8", "rhel9")} == {"D42D0685.pub"}


@pytest.mark.parametrize(("identifier", "version", "system"), [
    ("ubuntu", "22.04", "ubuntu2204"), ("ubuntu", "24.04", "ubuntu2404"), ("ubuntu", "26.04", ""), ("debian", "12", "debian12"),
    ("debian", "13", "debian13"), ("debian", "11", ""), ("rhel", "8.10", "rhel8"), ("rocky", "9.6", "rhel9"),
    ("rhel", "10.0", "rhel10"),
    ("openEuler", "22.03", "rhel9"), ("openEuler", "24.03", "rhel9"), ("openEuler", "20.03", "rhel8"), ("kylin", "V10", "kylin10"),
    ("kylin", "V11", ""), ("fedora", "43", ""), ("debian", "120", ""), ("", "", ""),
])
def test_systems_by_their_os_release(identifier, version, system):
    assert table.system_of(identifier, version) == system


def test_architectures_that_choose_modules_are_those_of_products():
    known = {product.architecture for product in PRODUCTS}
    assert {"volta", "blackwell"} <= known
    assert table.MODULES["volta"] == "proprietary" and table.MODULES["blackwell"] == "open" and "hopper" not in table.MODULES
