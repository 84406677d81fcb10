# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cards and the profiles: sound in themselves, and right where a figure was measured or seen."""
from __future__ import annotations

import re

import pytest
from ansible_collections.idc.llm.plugins.module_utils._products import GIB, MIB, PRODUCTS, PROFILES, product_by_pci

CAPABILITIES = {
    "volta": {"7.0"},
    "turing": {"7.5"},
    "ampere": {"8.0", "8.6"},
    "ada": {"8.9"},
    "hopper": {"9.0"},
    "blackwell": {"10.0", "10.3", "12.0"},
}


def test_every_id_belongs_to_one_card_and_finds_it():
    ids = [pci_id for product in PRODUCTS for pci_id in product.pci_ids]
    assert len(ids) == len(set(ids)) > 40
    assert all(re.fullmatch("0x[0-9a-f]{4}", pci_id) for pci_id in ids)
    assert all(product_by_pci(pci_id) is product for product in PRODUCTS for pci_id in product.pci_ids)
    assert len({product.name for product in PRODUCTS}) == len(PRODUCTS)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_card_is_consistent(product):
    assert product.compute_capability in CAPABILITIES[product.architecture]
    assert product.memory_bytes % MIB == 0
    marketed = re.search(r"(\d+)GB", product.name)
    if marketed:  # the driver's total is never more than binary gigabytes, and never a tenth less than decimal ones
        assert 0.9e9 * int(marketed.group(1)) < product.memory_bytes <= GIB * int(marketed.group(1))


@pytest.mark.parametrize(
    "pci_id, name, mib, nvlink",
    [
        ("0x2335", "H200 SXM", 143771, True),
        ("0x2330", "H100 SXM5 80GB", 81559, True),
        ("0x2331", "H100 PCIe", 81559, True),
        ("0x20B2", "A100 SXM4 80GB", 81920, True),
        ("0x2329", "H20 96GB", 97871, True),
        ("0x26b9", "L40S", 46068, False),
        ("0x2684", "GeForce RTX 4090", 24564, False),
        ("0x2901", "B200", 183359, True),
        ("0x3182", "B300 SXM6", 275040, True),
    ],
)
def test_known_cards(pci_id, name, mib, nvlink):
    product = product_by_pci(pci_id)
    assert (product.name, product.memory_bytes, product.nvlink) == (name, mib * 1048576, nvlink)


def test_the_h200_is_what_nvml_measured():
    assert product_by_pci("0x2335").memory_bytes == 150754820096


@pytest.mark.parametrize("pci_id", ["0x22a3", "0x0000", "2335", ""])  # an NVSwitch, nothing, without prefix, empty
def test_other_ids_are_not_cards(pci_id):
    assert product_by_pci(pci_id) is None


@pytest.mark.parametrize("name, profile", PROFILES.items())
def test_a_profile_is_consistent(name, profile):
    assert profile.name == name
    assert profile.product in PRODUCTS
    assert name.endswith(f"-{profile.gpus}")
    assert profile.gpus % profile.domain == 0
    assert profile.domain == 1 or profile.product.nvlink
    assert profile.host_memory_bytes >= 16 * GIB * profile.gpus
    assert profile.rdma_gbps is None or profile.domain > 1


@pytest.mark.parametrize(
    "name, card, gpus, domain",
    [
        ("hgx-h200-8", "H200 SXM", 8, 8),
        ("hgx-h100-8", "H100 SXM5 80GB", 8, 8),
        ("hgx-a100-80-8", "A100 SXM4 80GB", 8, 8),
        ("hgx-h20-8", "H20 96GB", 8, 8),
        ("hgx-h20-141-8", "H20 141GB", 8, 8),
        ("l40s-2", "L40S", 2, 1),
        ("a100-80-pcie-4", "A100 PCIe 80GB", 4, 1),
        ("h100-pcie-2", "H100 PCIe", 2, 1),
        ("h200-nvl-8", "H200 NVL", 8, 4),
    ],
)
def test_known_profiles(name, card, gpus, domain):
    profile = PROFILES[name]
    assert (profile.product.name, profile.gpus, profile.domain) == (card, gpus, domain)
