# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that gives a role an error of the catalogue."""
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.filter.idc_error import FilterModule

idc_error = FilterModule().filters()["idc_error"]


def test_the_text_names_code_and_details():
    text = idc_error("IDC-LUKS-001", devices=["/dev/sdb", "/dev/sdc"])
    assert text.startswith("IDC-LUKS-001: ")
    assert "/dev/sdb, /dev/sdc" in text


def test_it_speaks_chinese():
    text = idc_error("IDC-LUKS-001", lang="zh", devices=["/dev/sdb"])
    assert "/dev/sdb" in text
    assert "不支持" in text


def test_an_unknown_code_is_an_error():
    with pytest.raises(AnsibleFilterError, match="IDC-LUKS-999"):
        idc_error("IDC-LUKS-999")


def test_a_missing_detail_is_an_error():
    with pytest.raises(AnsibleFilterError, match="devices"):
        idc_error("IDC-LUKS-001")
